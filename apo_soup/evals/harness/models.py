"""The harness's model classes for reasoning models: prompts that fit, reasoning taken off before an answer scores."""

import re
from collections.abc import Callable
from typing import Any

import torch

from apo_soup.data.rendering.template import TIME_LIMIT, unending_template
from apo_soup.data.rendering.time_limit import OutOfTime, TimeLimit
from apo_soup.models.think_tags import END_OF_THINKING, THINKING, opens_thinking
from apo_soup.private import HarnessHooks


class AnswersInTurn:
    """Several answers to every request of the harness, which scores one of them a pass: it would keep the first alone.

    All are drawn in the first pass, in batches that hold the answers to one prompt side by side.
    """

    def __init__(self, repeats: int):
        self.repeats, self.turn = repeats, 0
        self.prompts: list[str] = []
        self.answers: list[str] = []

    def taken(self, requests: list[Any], draw: Callable[[list[Any]], list[str]]) -> list[str]:
        """The answers of this pass to `requests`, by `draw` in the first one.

        Raises:
            ValueError: a later pass asks something else.
        """
        prompts = [str(request.args[0]) for request in requests]
        if self.turn == 0:
            self.prompts = prompts
            self.answers = draw([request for request in requests for _ in range(self.repeats)])
        elif prompts != self.prompts:
            raise ValueError("the same prompts were expected in every pass, for tasks with repeats")
        return self.answers[self.turn :: self.repeats]


class WindowError(Exception):
    """A request does not fit the model's window; the message says by how much."""


def check_prompts_fit(lm: Any, requests: list[Any]) -> None:
    """Refuse prompts that do not fit the model's window with their answer: the harness would cut them from the left.

    Raises:
        WindowError: at the first that does not.
    """
    for request in requests:
        prompt, settings = request.args
        room = lm.max_length - int(settings.get("max_gen_toks", lm.max_gen_toks))
        length = len(lm.tok_encode(prompt))
        if length > room:
            raise WindowError(
                f"expected prompts of at most {room:,} tokens, for which the model's window of {lm.max_length:,} has "
                f"room beside the answer, got {length:,}; ask for shorter lengths, or for fewer max_new_tokens"
            )


def check_scored_texts_fit(lm: Any, requests: list[tuple[Any, list[int], list[int]]]) -> None:
    """As `check_prompts_fit`, for requests (text, context ids, continuation ids) whose continuation is scored.

    Raises:
        WindowError: at the first that does not.
    """
    for _, context, continuation in requests:
        length = len(context) + len(continuation)
        if length > lm.max_length + 1:
            raise WindowError(
                f"expected texts of at most {lm.max_length:,} tokens, the model's window, got {length:,}; leave the "
                "task out"
            )


class RefusesOverflow(HarnessHooks):
    """Stands before one of the harness's models: refuses what does not fit its window, and answers several times."""

    in_turn = AnswersInTurn(1)

    def generate_until(self, requests: list[Any], *args: Any, **kwargs: Any) -> list[str]:
        """As the harness's, after the check."""

        def draw(asked: list[Any]) -> list[str]:
            check_prompts_fit(self, requests)
            answers: list[str] = super(RefusesOverflow, self).generate_until(asked, *args, **kwargs)  # type: ignore[misc]  # the harness's
            return answers

        return self.in_turn.taken(requests, draw)

    def apply_chat_template(self, *args: Any, **kwargs: Any) -> str:
        """As the harness's, which renders by transformers, with a limit of time and memory.

        Raises:
            UserError: the template goes on past the limit.
        """
        try:
            with TimeLimit(TIME_LIMIT):
                text: str = super().apply_chat_template(*args, **kwargs)  # type: ignore[misc]  # the harness's
        except OutOfTime as error:
            raise unending_template(error) from None
        return text

    def score_tokens(self, requests: list[Any], *args: Any, **kwargs: Any) -> Any:
        """As the harness's, after the check.

        Raises:
            WindowError: a text is longer than the model's window.
        """
        check_scored_texts_fit(self, requests)
        return super().score_tokens(requests, *args, **kwargs)


def reasoning_hflm() -> type:
    """The harness's transformers model with reasoning taken off before it scores. Made late: its import is long."""
    from lm_eval.models.huggingface import HFLM

    class ReasoningHFLM(RefusesOverflow, HFLM):  # type: ignore[misc]  # the harness ships no types
        """`HFLM` whose stop words do not end a reasoning, and whose unclosed reasoning is no answer."""

        def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
            # The think tags may be special tokens; the harness must see them to take the reasoning off.
            text = self.tokenizer.decode(tokens, skip_special_tokens=False)
            return without_special_tokens(text, self.tokenizer) if skip_special_tokens else text

        def generate_tokens(self, context: Any, max_length: int, stop: list[str], **kwargs: Any) -> torch.Tensor:
            """Ids `[B, S]` of prompts `[B, P]` and their answers; padding where a reasoning never closed."""
            thinking = self.chat_template_args.get("enable_thinking", False)
            end = self.tokenizer.eos_token
            stops = [end] if thinking else stop
            output: torch.Tensor = super().generate_tokens(context, max_length, stops, **kwargs)
            if thinking:
                for row, prompt in zip(output, context, strict=True):
                    answer, before = self.tokenizer.decode(row[len(prompt) :]), self.tokenizer.decode(prompt[-4:])
                    if has_open_reasoning(answer, before):
                        row[len(prompt) :] = self.tokenizer.pad_token_id
            return output

    return ReasoningHFLM


def reasoning_vllm(ends: list[int]) -> type:
    """The harness's vLLM model, as `reasoning_hflm` is its transformers one, whose answers the tokens `ends` end. It
    leaves stop words out by itself.
    """
    from lm_eval.models.vllm_causallms import VLLM

    class ReasoningVLLM(RefusesOverflow, VLLM):  # type: ignore[misc]  # as above
        """`VLLM` whose unclosed reasoning is no answer."""

        def generate_tokens(self, requests: Any = None, generate: bool = False, sampling_params: Any = None) -> Any:
            """vLLM's outputs, one a prompt; without `generate`, prompts whose tokens are scored."""
            if not generate:
                return super().generate_tokens(requests, generate, sampling_params)
            for settings in sampling_params:
                settings.skip_special_tokens = False  # the think tags may be special tokens
                settings.stop_token_ids = ends
            outputs = super().generate_tokens(requests, generate, sampling_params)
            for prompt, output in zip(requests, outputs, strict=True):
                (answer,) = output.outputs
                before = self.tokenizer.decode(prompt[-4:])
                unclosed = self.enable_thinking and has_open_reasoning(answer.text, before)
                answer.text = "" if unclosed else without_special_tokens(answer.text, self.tokenizer)
            return outputs

    return ReasoningVLLM


def has_open_reasoning(answer: str, before: str) -> bool:
    """Whether an answer is reasoning that never closed; `before` is the end of the prompt, which may open it."""
    if END_OF_THINKING in answer:
        return False
    return THINKING in answer or opens_thinking(before)


def without_special_tokens(text: str, tokenizer: Any) -> str:
    """Text without its special tokens but the think tags."""
    # Not every special token of a vocabulary has a name (eos, bos) by which a tokenizer lists it.
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    special = [t for t in (*tokenizer.all_special_tokens, *added) if t not in (THINKING, END_OF_THINKING)]
    return re.sub("|".join(map(re.escape, special)), "", text) if special else text
