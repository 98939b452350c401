"""Who answers: transformers here, vLLM in this process, or an OpenAI-compatible endpoint (`apo/pairs/endpoint.py`).

An engine answers the prompts that are not in `done` yet and hands over what is finished as it goes. Both sides render
prompts with the model's own chat template, in the recipe's mode. Libraries are imported where they are used: a run
against an endpoint needs neither torch nor transformers, and starts in a second.
"""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

from apo.pairs.journal import Answer
from apo.pairs.prompts import Prompt
from apo_soup.errors import UserError, told_by_library
from apo_soup.models.completion import Completion, Sampling

Keep = Callable[[list[Answer]], None]
# Prompts that vLLM is given at a time: enough to keep it busy, few enough to lose little when it is killed.
VLLM_CHUNK = 256


@dataclass(frozen=True)
class Side:
    """The strong or the weak side: its settings from the recipe, with the file's defaults laid under them."""

    name: str
    where: str
    settings: dict[str, Any]

    @property
    def engine(self) -> str:
        return self.settings["engine"]

    @property
    def candidates(self) -> int:
        return self.settings["candidates"]

    @property
    def sampling(self) -> Sampling:
        s = self.settings
        return Sampling(s["max_new_tokens"], s["temperature"], s["top_p"], s["top_k"], s["min_p"], s["seed"])

    def seed(self, *parts: Any) -> int:
        """A seed of 31 bits for one request or batch, from the recipe's seed, the side and `parts` alone."""
        text = repr((self.settings["seed"], self.name, *parts))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


class Engine(Protocol):
    """Answers prompts with `candidates` completions each."""

    def answer(self, prompts: list[Prompt], done: Collection[str], keep: Keep) -> None:
        """Answer the prompts whose ids are not in `done`; `keep` is called with every group that is finished."""

    def close(self) -> None:
        """Give back the memory of the model, before the other side's is loaded."""


class TransformersEngine:
    """Batches of a model in this process, on a GPU where there is one.

    Batches are made of all prompts, sorted by length, and each has a seed of its own: a run that was killed and goes
    on draws the same tokens as one that was not.
    """

    def __init__(self, side: Side):
        import torch
        from transformers import AutoModelForCausalLM

        self.side, settings = side, side.settings
        self.tokenizer = side_tokenizer(side)
        self.model = AutoModelForCausalLM.from_pretrained(
            settings["model"],
            revision=settings.get("revision"),
            dtype=settings.get("dtype", "auto"),
            trust_remote_code=settings.get("trust_remote_code", False),
        ).eval()
        if torch.cuda.is_available():
            self.model = self.model.to("cuda")

    def answer(self, prompts: list[Prompt], done: Collection[str], keep: Keep) -> None:
        import torch

        from apo_soup.models.generation import batch

        texts, refused = rendered(self.tokenizer, prompts)
        if refused:
            keep(refused)
            prompts = [p for p in prompts if p.id in texts]
        texts = [texts[p.id] for p in prompts]
        order = sorted(range(len(prompts)), key=lambda i: len(texts[i]))
        count = self.side.candidates
        size = max(1, self.side.settings["batch_size"] // count)
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            if all(prompts[i].id in done for i in chosen):
                continue
            torch.manual_seed(self.side.seed(start))
            asked = [texts[i] for i in chosen for _ in range(count)]
            found = [
                with_opening(c, t)
                for c, t in zip(batch(self.model, self.tokenizer, asked, self.side.sampling), asked, strict=True)
            ]
            lengths = [
                len(ids) for ids in self.tokenizer([texts[i] for i in chosen], add_special_tokens=False).input_ids
            ]
            keep([Answer(prompts[i].id, found[n * count : (n + 1) * count], lengths[n]) for n, i in enumerate(chosen)])

    def close(self) -> None:
        import gc

        import torch

        self.model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class VLLMEngine:
    """vLLM in this process; `engine_kwargs` go to `vllm.LLM` as they are. Every candidate has a seed of its own."""

    def __init__(self, side: Side):
        from vllm import LLM

        settings = side.settings
        self.side = side
        self.tokenizer = side_tokenizer(side)
        with told_by_library(f"{side.where}: vLLM refuses", (TypeError, ValueError, RuntimeError, OSError)):
            self.llm = LLM(
                model=settings["model"],
                revision=settings.get("revision"),
                dtype=settings.get("dtype", "auto"),
                trust_remote_code=settings.get("trust_remote_code", False),
                seed=settings["seed"],
                **(settings.get("engine_kwargs") or {}),
            )

    def answer(self, prompts: list[Prompt], done: Collection[str], keep: Keep) -> None:
        rendering, refused = rendered(self.tokenizer, [p for p in prompts if p.id not in done])
        asked = {key: self.tokenizer(text, add_special_tokens=False).input_ids for key, text in rendering.items()}
        longest = self.llm.llm_engine.model_config.max_model_len
        for key, ids in asked.items():
            if len(ids) >= longest:
                refused.append(Answer(key, [], problem=f"the prompt has {len(ids)} tokens, max_model_len is {longest}"))
        if refused:
            keep(refused)
        left = [p for p in prompts if p.id in asked and len(asked[p.id]) < longest]
        for start in range(0, len(left), VLLM_CHUNK):
            chunk = left[start : start + VLLM_CHUNK]
            texts, ids = [rendering[p.id] for p in chunk], [asked[p.id] for p in chunk]
            # Its engine is a process of its own and may die of anything; what was answered until then is kept.
            with told_by_library(f"{self.side.where}: vLLM stopped", (Exception,)):
                outputs = self.llm.generate(
                    [{"prompt_token_ids": i} for i in ids], [self._parameters(p) for p in chunk], use_tqdm=False
                )
            keep(
                [
                    Answer(p.id, [with_opening(self._completion(o), t) for o in output.outputs], len(i))
                    for p, t, i, output in zip(chunk, texts, ids, outputs, strict=True)
                ]
            )

    def close(self) -> None:
        # The engine runs in a process of its own, which keeps the GPU until it is told to end.
        self.llm.llm_engine.engine_core.shutdown()

    def _parameters(self, prompt: Prompt) -> Any:
        from vllm import SamplingParams

        sampling = self.side.sampling
        return SamplingParams(
            n=self.side.candidates,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            max_tokens=sampling.max_new_tokens,
            seed=self.side.seed(prompt.id),
            skip_special_tokens=False,
        )

    def _completion(self, output: Any) -> Completion:
        ids = list(output.token_ids)
        finished = output.finish_reason == "stop"
        # vLLM names the token that ended a turn where it is not the tokenizer's own.
        if finished and ids and ids[-1] in (self.tokenizer.eos_token_id, output.stop_reason):
            ids.pop()
        return Completion(self.tokenizer.decode(ids, skip_special_tokens=False), len(ids), finished)


def check_engine(side: Side) -> None:
    """Refuse an engine that is not installed, before the other side has been asked for hours."""
    if side.engine == "vllm" and find_spec("vllm") is None:
        raise UserError(
            f"{side.where}: engine vllm is not installed here; pip install 'apo-soup[vllm]' in an environment of its "
            "own, or take engine transformers or openai"
        )
    if side.engine == "openai" and find_spec("openai") is None:
        raise UserError(f"{side.where}: engine openai needs the openai package; pip install 'apo-soup[endpoint]'")


def make_engine(side: Side) -> Engine:
    """The engine that a side's recipe names, with its model loaded."""
    if side.engine == "openai":
        from apo.pairs.endpoint import EndpointEngine

        return EndpointEngine(side)
    return VLLMEngine(side) if side.engine == "vllm" else TransformersEngine(side)


def side_tokenizer(side: Side) -> Any:
    """The tokenizer of a side's model, with the recipe's template on it where one is given."""
    from apo_soup.models.tokenizer import load_tokenizer

    settings = side.settings
    return load_tokenizer(
        settings["model"],
        side.where,
        settings.get("chat_template"),
        revision=settings.get("revision"),
        trust_remote_code=settings.get("trust_remote_code", False),
    )


def rendered(tokenizer: Any, prompts: list[Prompt]) -> tuple[dict[str, str], list[Answer]]:
    """The texts that the model completes by prompt id, and an answer with a problem for each prompt refused."""
    from apo_soup.data.rows import RowError
    from apo_soup.data.trained_spans import Renderer

    renderer = Renderer(tokenizer)
    texts, refused = {}, []
    for prompt in prompts:
        try:
            texts[prompt.id] = renderer.prompt(prompt.messages, prompt.kwargs)
        except RowError as error:
            refused.append(Answer(prompt.id, [], problem=str(error)))
    return texts, refused


def with_opening(completion: Completion, prompt: str) -> Completion:
    """A completion whose template opened the think block in the prompt, with that opening in front."""
    if not prompt.rstrip().endswith("<think>"):
        return completion
    return Completion("<think>" + completion.text, completion.tokens, completion.finished)
