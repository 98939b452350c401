"""What answers a suite's questions: our transformers model, vLLM, or a server that has the model loaded already."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch

from apo_soup.config.eval import EvalEndpoint
from apo_soup.data.rendering.argument_form import as_served
from apo_soup.data.rendering.loaded_model import LoadedModel
from apo_soup.evals.task_progress import TaskProgress
from apo_soup.models.completion import Completion, Sampling
from apo_soup.models.drawing import answer_seed
from apo_soup.models.endpoint.packages import require_endpoint_packages
from apo_soup.models.generation import generate
from apo_soup.models.vllm import started_llm, vllm_completion
from apo_soup.progress import warn


class AnswerEngine(Protocol):
    """Answers prompts that the checkpoint's renderer wrote."""

    name: str

    def answers(self, prompts: list[str], sampling: Sampling) -> list[Completion]:
        """An answer to each prompt, in their order; one that is there several times is drawn for several times."""


class PromptRenderer(Protocol):
    """Writes the prompts that an engine reads."""

    def prompt(self, messages: list[dict[str, Any]], kwargs: dict[str, Any]) -> str:
        """What an engine is asked: for a served model, the conversation itself."""


class TransformersAnswers:
    """The model in this process."""

    name = "transformers"

    def __init__(self, asked: LoadedModel, batch_size: int):
        self.asked, self.batch_size = asked, batch_size
        self.progress = TaskProgress()

    def answers(self, prompts: list[str], sampling: Sampling) -> list[Completion]:
        """See `AnswerEngine.answers`."""
        self.progress.count(len(prompts), "answers")
        asked = self.asked
        return generate(asked.model, asked.tokenizer, prompts, sampling, self.batch_size, asked.ends, self.progress.at)


class VllmAnswers:
    """vLLM, started at the first question; the transformers model leaves the accelerator for it."""

    name = "vllm"

    def __init__(self, asked: LoadedModel, arguments: dict[str, Any], where: str):
        """`arguments` are those of `vllm.LLM`; `where` is `FILE:LINE: KEY` of the engine, for messages."""
        self.asked, self.arguments, self.where = asked, arguments, where
        self._llm: Any = None

    def answers(self, prompts: list[str], sampling: Sampling) -> list[Completion]:
        """See `AnswerEngine.answers`.

        Raises:
            UserError: vLLM refuses the model or an argument.
        """
        from vllm import SamplingParams

        if self._llm is None:
            self.asked.model.cpu()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._llm = started_llm(self.arguments, self.where)
        tokenizer, ends = self.asked.tokenizer, self.asked.ends
        requests = [{"prompt_token_ids": ids} for ids in tokenizer(prompts, add_special_tokens=False).input_ids]
        parameters = [
            SamplingParams(
                temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k, min_p=sampling.min_p,
                max_tokens=sampling.max_new_tokens, seed=answer_seed(sampling.seed, number),
                skip_special_tokens=False, stop_token_ids=sorted(ends),
            )
            for number in range(len(prompts))
        ]  # fmt: skip
        outputs = self._llm.generate(requests, parameters, use_tqdm=False)
        return [vllm_completion(output.outputs[0], tokenizer, ends) for output in outputs]

    def close(self) -> None:
        """Give the accelerator back, which vLLM's own process keeps until it is told to end."""
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None


class ServedAnswers:
    """A model behind an OpenAI-compatible endpoint."""

    name = "openai"

    def __init__(self, endpoint: EvalEndpoint, where: str):
        """`where` is `FILE:LINE: KEY` of the endpoint, for messages."""
        self.endpoint, self.where = endpoint, where

    def answers(self, prompts: list[str], sampling: Sampling) -> list[Completion]:
        """See `AnswerEngine.answers`. A question that the server refuses has an empty answer. That is told, and what
        the server altered.

        Raises:
            UserError: the server refuses the key, the model or the address, or keeps failing.
        """
        require_endpoint_packages(self.where)
        # Late, for the packages of endpoints are an extra.
        from apo_soup.models.endpoint.client import ChatRequest, EndpointClient

        send = self.endpoint.send_template_kwargs
        asked = [json.loads(prompt) for prompt in prompts]
        requests = [
            ChatRequest(str(n), *as_served(q["messages"], q["arguments"], send), (answer_seed(sampling.seed, n),))
            for n, q in enumerate(asked)
        ]
        replies = EndpointClient(self.endpoint, self.where, sampling, send).replies(requests)
        refused = [reply.problem for reply in replies if reply.problem]
        if refused:
            warn(f"{self.where}: {len(refused)} of {len(prompts)} questions have no answer: {refused[0]}")
        altered = [c.problem for reply in replies for c in reply.completions if c.problem]
        if altered:
            told = f"{len(altered)} of {len(prompts)} answers are not as the model wrote them: {altered[0]}"
            warn(f"{self.where}: {told}")
        answers = [r.completions[0] if r.completions else Completion("", None, False, r.problem) for r in replies]
        return [replace(answer, text=answer.written, calls=()) for answer in answers]


class ServedRenderer:
    """Hands conversations over as they are, in JSON: the server renders them with its own template."""

    def prompt(self, messages: list[dict[str, Any]], kwargs: Mapping[str, Any]) -> str:
        """A conversation and its template arguments as a text that `ServedAnswers` reads."""
        return json.dumps({"messages": messages, "arguments": dict(kwargs)}, ensure_ascii=False)
