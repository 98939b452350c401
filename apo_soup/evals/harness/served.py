"""The harness's model class for a served model: chats for what it writes, token ids where its own tokens count.

A task whose answers the model writes is a chat, rendered by the server in the mode that is asked for. Where the harness
scores answers that are given, or begins the model's answer itself, the text is rendered and cut into tokens here, by
`endpoint.tokenizer`, and sent as ids. Whether the server can do what a suite's tasks need is asked before the first
question.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from apo_soup.config.eval import HarnessTask
from apo_soup.data.rendering.template import TIME_LIMIT, unending_template
from apo_soup.data.rendering.time_limit import OutOfTime, TimeLimit
from apo_soup.errors import UserError
from apo_soup.evals.checkpoint import Checkpoint
from apo_soup.evals.harness.models import (
    AnswersInTurn,
    check_prompts_fit,
    check_scored_texts_fit,
    has_open_reasoning,
)
from apo_soup.evals.served_tokens import BEHIND_TEXT, ServedTokens
from apo_soup.models.completion import Completion, Sampling
from apo_soup.models.drawing import answer_seed
from apo_soup.models.think_tags import END_OF_THINKING, THINKING
from apo_soup.private import HarnessHooks
from apo_soup.progress import warn

# OpenAI's own server takes no more stop words; answers are cut at all of them here.
MOST_STOPS = 4
# Tokens of an answer where a task does not say how many, as the harness has it.
MOST_TOKENS = 256
# Settings of generation that a request has a field for.
DRAWN_BY = ("temperature", "top_p", "top_k", "min_p")

TextEncoder = Callable[[str], list[int]]


class ServedHarness(ServedTokens):
    """What a server, an endpoint's keys and a tokenizer make of the harness's requests.

    Raises:
        UserError: the packages of endpoints are not installed.
    """

    def __init__(self, checkpoint: Checkpoint):
        assert checkpoint.suite.endpoint is not None  # the file's check has looked
        super().__init__(checkpoint.suite.endpoint, checkpoint.suite.place("endpoint"), checkpoint.tokenizer)
        self.checkpoint = checkpoint
        self.told: list[str] = []

    def tell(self, where: str) -> None:
        """Say what the server refused or altered since the last time, of the tasks at `where`."""
        if self.told:
            warn(f"{where}: {len(self.told)} answers are not as the model wrote them, or not there: {self.told[0]}")
        self.told.clear()

    def check(self, task: HarnessTask, needs: dict[str, bool]) -> None:
        """Ask whether the server can do what the harness's tasks of `task` need: score answers, or go on with one that
        is begun, by their names.

        Raises:
            UserError: the first thing that it, or the file, lacks.
        """
        if not needs:
            return
        scored = any(needs.values())
        name = next(name for name, own in needs.items() if own == scored)
        what = "scores answers that are given" if scored else "begins the model's answers itself"
        if self.checkpoint.tokenizer is None:
            raise UserError(
                f"{self.where}.tokenizer: expected one for {name} of {self.checkpoint.place(task, 'tasks')}, which "
                f"{what}, got none; name the folder or Hub id of the served model's tokenizer, or leave the task out"
            )
        if scored and "think" in task.modes:
            raise UserError(
                f"{self.checkpoint.place(task, 'modes')}: expected no_think alone for {name}, which {what} without "
                "reasoning, got think; leave it out, or give the other tasks an entry of their own"
            )
        if not scored:
            told = self.client(Sampling(1)).complete([token_prompt(self.probe, 0)])[0].problem
            if told:
                raise UserError(
                    f"{self.where}.base_url: expected a server that goes on with tokens (completions), which {name} "
                    f"needs, since it {what}, got {told}; serve the model with one that does, such as vLLM, or leave "
                    "the task out"
                )
            return
        self.check_scores()

    def known_window(self) -> int:
        """`window`, where long texts are cut by it.

        Raises:
            UserError: nothing tells it.
        """
        if self.window is None:
            raise UserError(
                f"{self.where}: expected a window that is known, by which long texts are cut, got a server whose list "
                f"of models has no max_model_len, and {self.keys.tokenizer} without config.json; name a folder as "
                "tokenizer that has the model's config.json too"
            )
        return self.window

    def rendered(self, context: str, think: bool) -> str:
        """The text of a conversation in JSON, by the tokenizer's own template, in a mode.

        Raises:
            UserError: the template goes on past the limit of time and memory.
        """
        asked = json.loads(context)
        try:
            with TimeLimit(TIME_LIMIT):
                text = self.checkpoint.tokenizer.apply_chat_template(
                    asked["messages"],
                    tokenize=False,
                    add_generation_prompt=not asked["begun"],
                    continue_final_message=asked["begun"],
                    enable_thinking=think,
                )
        except OutOfTime as error:
            raise unending_template(error) from None
        return str(text)

    def answers(self, requests: list[tuple[str, dict[str, Any]]], think: bool, encode: TextEncoder) -> list[str]:
        """Answers without reasoning to conversations in JSON, each cut at the stop words of its settings; one that is
        there several times is drawn for several times.

        Raises:
            WindowError: at the first prompt that does not fit.
            UserError: the task sets what a request has no field for, or as the endpoint's client does.
        """
        from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text

        groups: dict[str, list[int]] = defaultdict(list)
        for number, (_, settings) in enumerate(requests):
            groups[json.dumps(settings, sort_keys=True)].append(number)
        answers = [""] * len(requests)
        for written, numbers in groups.items():
            asked = normalize_gen_kwargs(json.loads(written), MOST_TOKENS)
            stops = [word for word in asked.pop("until") if word]
            # Stop words such as a blank line end an answer and no reasoning.
            sent = () if think else tuple(stops[:MOST_STOPS])
            contexts = [requests[n][0] for n in numbers]
            found = self._completions(contexts, numbers, sampling_of(asked, self), think, sent, encode)
            for number, answer in zip(numbers, found, strict=True):
                answers[number] = postprocess_generated_text(answer, stops, END_OF_THINKING)
        return answers

    def _completions(
        self,
        contexts: list[str],
        numbers: list[int],
        sampling: Sampling,
        think: bool,
        stops: tuple[str, ...],
        encode: TextEncoder,
    ) -> list[str]:
        """What the server writes behind contexts; nothing where a reasoning never closed."""
        seeds = [answer_seed(sampling.seed, number) for number in numbers]
        known = self.checkpoint.tokenizer is not None
        texts = [self.rendered(context, think) for context in contexts] if known else [None] * len(contexts)
        if self.window and known:
            room = SimpleNamespace(max_length=self.window, max_gen_toks=sampling.max_new_tokens, tok_encode=encode)
            check_prompts_fit(room, [SimpleNamespace(args=(text, {})) for text in texts])
        client = self.client(sampling)
        if json.loads(contexts[0])["begun"]:
            ids = [encode(text) for text in texts if text is not None]
            found = client.complete([token_prompt(i, seed, stops) for i, seed in zip(ids, seeds, strict=True)])
        else:
            found = chat_completions(client, contexts, think, seeds, stops)
        self.told += [c.problem for c in found if c.problem]
        return ["" if think and is_open(c, text) else c.text for c, text in zip(found, texts, strict=True)]


def token_prompt(ids: list[int], seed: int, stop: Sequence[str] = ()) -> Any:
    """A `TokenPrompt`, whose module needs the packages of endpoints."""
    from apo_soup.models.endpoint.token_prompts import TokenPrompt

    return TokenPrompt(ids, seed, tuple(stop))


def served_lm() -> type:
    """The harness's model of a served one. Made late, as `reasoning_hflm` is."""
    from lm_eval.api.model import TemplateLM
    from lm_eval.models.huggingface import HFLM

    class ServedLM(HarnessHooks, TemplateLM):  # type: ignore[misc]  # the harness ships no types
        """Contexts are conversations in JSON until it is known what becomes of them."""

        in_turn = AnswersInTurn(1)
        # Texts are cut into tokens, and into windows, as the harness does for a model here.
        tok_encode = HFLM.tok_encode
        prefix_token_id = HFLM.prefix_token_id
        eot_token_id = HFLM.eot_token_id
        loglikelihood_rolling = HFLM.loglikelihood_rolling
        add_bos_token = custom_prefix_token_id = None
        batch_size = 2**20  # windows of texts whose probabilities are asked for at once

        def __init__(self, served: ServedHarness, think: bool):
            super().__init__()
            self.served, self.think = served, think
            self.tokenizer: Any = served.checkpoint.tokenizer

        @property
        def tokenizer_name(self) -> str:
            """What the harness keeps requests by."""
            return str(self.served.keys.model)

        @property
        def max_length(self) -> int:
            """Tokens that a text may have but its last, so that the server has room for it and for one behind it."""
            return self.served.known_window() - BEHIND_TEXT

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            """A conversation as text; the harness has begun its last turn where no generation prompt is asked for."""
            return json.dumps({"messages": chat_history, "begun": not add_generation_prompt}, ensure_ascii=False)

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> Any:
            """Log-probability of each continuation, and whether it is the likeliest. A context may be empty."""
            asked = [(self.served.rendered(c, self.think) if c else c, end) for c, end in (r.args for r in requests)]
            return super().loglikelihood([SimpleNamespace(args=args) for args in asked], disable_tqdm)

        def score_tokens(self, requests: list[Any], *args: Any, **kwargs: Any) -> list[tuple[float, bool]]:
            """As the harness's, by the server."""
            check_scored_texts_fit(self, requests)
            scores = self.served.client(Sampling(1)).score([context + end for _, context, end in requests])
            behind = [len(context) - 1 for _, context, _ in requests]
            return [(sum(s.logprobs[n:]), all(s.likeliest[n:])) for s, n in zip(scores, behind, strict=True)]

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            """Answers without reasoning, cut at the stop words of their requests."""
            return self.in_turn.taken(
                requests, lambda asked: self.served.answers([r.args for r in asked], self.think, self.tok_encode)
            )

    return ServedLM


def sampling_of(settings: dict[str, Any], served: ServedHarness) -> Sampling:
    """How the harness's settings of a request draw.

    Raises:
        UserError: one is there that a request has no field for.
    """
    seed = served.checkpoint.seed
    further = sorted(settings.keys() - {*DRAWN_BY, "max_gen_toks", "do_sample"})
    if further:
        raise UserError(
            f"{served.where}: expected settings of generation that a server takes ({', '.join(DRAWN_BY)}), got "
            f"{', '.join(further)} of a task; leave it out there, or give it in endpoint.extra_body in its place"
        )
    given = {name: settings[name] for name in DRAWN_BY if settings.get(name) is not None}
    return replace(Sampling(settings["max_gen_toks"], seed=seed), **given)


def chat_completions(
    client: Any, contexts: list[str], think: bool, seeds: list[int], stops: tuple[str, ...]
) -> list[Completion]:
    """Answers to conversations; one that is refused is empty, with the server's words as its problem."""
    from apo_soup.models.endpoint.client import ChatRequest

    requests = [
        ChatRequest(str(n), json.loads(context)["messages"], {"enable_thinking": think}, (seed,), stops)
        for n, (context, seed) in enumerate(zip(contexts, seeds, strict=True))
    ]
    replies = client.replies(requests)
    return [r.completions[0] if r.completions else Completion("", None, False, r.problem) for r in replies]


def is_open(completion: Completion, prompt: str | None) -> bool:
    """Whether a served answer is reasoning that never closed. Its `prompt` may have opened it; where that is not known,
    a server's template may have, which its reply does not show: then an answer that is cut off is taken for one.
    """
    if prompt is not None:
        return has_open_reasoning(completion.text, prompt)
    return END_OF_THINKING not in completion.text and (THINKING in completion.text or not completion.finished)
