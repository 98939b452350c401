"""One loaded model, and the settings that every task reads."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from apo_soup.config.eval import EvalFile
from apo_soup.config.eval_keys import TaskKeys
from apo_soup.data.rendering.loaded_model import LoadedModel, answer_ends, load_model, on_accelerator
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.evals.engines import AnswerEngine, ServedAnswers, ServedRenderer, TransformersAnswers, VllmAnswers
from apo_soup.evals.installed import require_vllm
from apo_soup.evals.scorers import ModelScorer, ServedScorer, TextScorer
from apo_soup.evals.served_tokens import ServedTokens
from apo_soup.evals.task_progress import TaskProgress
from apo_soup.models.tokenizer import TokenizerKeys, encode, load_tokenizer


@dataclass(frozen=True)
class Checkpoint:
    """A model in evaluation mode with its tokenizer, and how much of it fits at once.

    Args:
        suite: the suite file, for messages.
        batch_size: answers generated together.
        samples: answers of each task that are kept to be read.
        seed: of generated items and of the harness.
        progress: what is shown while a task runs.
        engine: what answers; of a served model there is nothing else here but perhaps its tokenizer, and tasks that
            read more are refused.
        renderer: what writes the prompts that the engine reads.
        scorer: what reads probabilities of given texts.
        template: what renders by the model's own template; None of a served model whose tokenizer is not named.
    """

    suite: EvalFile
    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    renderer: Any
    batch_size: int
    samples: int
    seed: int
    engine: AnswerEngine
    scorer: TextScorer
    template: Renderer | None = None
    progress: TaskProgress = field(default_factory=TaskProgress)

    def place(self, task: TaskKeys, key: str) -> str:
        """`FILE:LINE: KEY` of a task's key, as a sentence about it begins."""
        return self.suite.place(f"{task.dotted}.{key}")

    def ids(self, text: str) -> list[int]:
        """Token ids of a text that holds its own special tokens."""
        return list(encode(self.tokenizer, [text])[0].ids)


def load_checkpoint(suite: EvalFile, folder: Path, model: PreTrainedModel | None = None) -> Checkpoint:
    """Load a model folder as the suite asks for it; a copy of `model` is taken in its place when it is given.

    Raises:
        UserError: the tokenizer cannot be loaded, or lacks a chat template; the model comes with code that may not run.
    """
    where = f"{suite.place('models')}: {folder}"
    keys, trusted = TokenizerKeys(suite.chat_template, place=suite.place), suite.trust_remote_code
    if model is None:
        asked = load_model(str(folder), where, keys, suite.dtype, trust_remote_code=trusted)
    else:
        tokenizer = load_tokenizer(str(folder), where, keys, trust_remote_code=trusted)
        asked = asked_copy(model, suite.dtype, tokenizer)
    return Checkpoint(
        suite=suite,
        folder=folder,
        model=asked.model,
        tokenizer=asked.tokenizer,
        renderer=asked.renderer,
        template=asked.renderer,
        batch_size=suite.batch_size,
        samples=suite.samples,
        seed=suite.seed,
        engine=answer_engine(suite, folder, asked, mixed=model is not None),
        scorer=ModelScorer(asked.model, suite.max_context_tokens_per_batch),
    )


def asked_copy(model: PreTrainedModel, dtype: str, tokenizer: PreTrainedTokenizerBase) -> LoadedModel:
    """A copy of a model in the type `dtype`, to be asked with a tokenizer.

    Raises:
        UserError: the chat template is not valid Jinja.
    """
    copied = copy.deepcopy(model).eval()
    if dtype != "auto":
        copied.to(getattr(torch, dtype))
    renderer = Renderer(tokenizer)
    return LoadedModel(on_accelerator(copied), tokenizer, renderer, answer_ends(renderer, copied))


def served_checkpoint(suite: EvalFile) -> Checkpoint:
    """The model that `endpoint` names, of which there are no weights here, and its tokenizer where the file names one.

    Raises:
        UserError: the tokenizer cannot be loaded, or lacks a chat template that is valid Jinja; or the packages of
            endpoints are not installed.
    """
    assert suite.endpoint is not None  # the file's check has looked
    nothing: Any = None
    named = suite.endpoint.tokenizer
    tokenizer = named and load_tokenizer(
        named,
        suite.place("endpoint.tokenizer"),
        TokenizerKeys(suite.chat_template, place=suite.place),
        trust_remote_code=suite.trust_remote_code,
        files=named,
    )
    return Checkpoint(
        suite=suite,
        folder=Path(suite.endpoint.model),
        model=nothing,
        tokenizer=tokenizer or nothing,
        renderer=ServedRenderer(),
        template=Renderer(tokenizer) if tokenizer else None,
        batch_size=suite.batch_size,
        samples=suite.samples,
        seed=suite.seed,
        engine=ServedAnswers(suite.endpoint, suite.place("endpoint")),
        scorer=ServedScorer(ServedTokens(suite.endpoint, suite.place("endpoint"), tokenizer or None)),
    )


def answer_engine(suite: EvalFile, folder: Path, asked: LoadedModel, mixed: bool) -> AnswerEngine:
    """The engine of a model that lies here; a mix in memory is transformers' only.

    Raises:
        UserError: vLLM is asked for and not installed.
    """
    if engine_name(suite, mixed) != "vllm":
        return TransformersAnswers(asked, suite.batch_size)
    arguments = {
        "model": str(folder),
        "dtype": str(asked.model.dtype).removeprefix("torch."),
        "seed": suite.seed,
        "trust_remote_code": suite.trust_remote_code,
    }
    return VllmAnswers(asked, arguments, suite.place("engine"))


def engine_name(suite: EvalFile, mixed: bool) -> str:
    """`vllm` where it may be used: asked for, or installed beside a GPU.

    Raises:
        UserError: vLLM is asked for and not installed.
    """
    wanted, installed = suite.engine, require_vllm(suite)
    use_vllm = wanted == "vllm" or (wanted == "auto" and installed and torch.cuda.is_available())
    return "vllm" if use_vllm and not mixed else "transformers"
