"""One loaded model, and the settings that every task reads."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from apo_soup.config.eval import EvalFile
from apo_soup.config.eval_keys import TaskKeys
from apo_soup.data.rendering.message_form import ANSWER, PROBE, USER
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.data.sources.rows import RowError
from apo_soup.evals.engines import AnswerEngine, ServedAnswers, ServedRenderer, TransformersAnswers, VllmAnswers
from apo_soup.evals.installed import require_vllm
from apo_soup.evals.scorers import ModelScorer, ServedScorer, TextScorer
from apo_soup.evals.served_tokens import ServedTokens
from apo_soup.evals.task_progress import TaskProgress
from apo_soup.models.generation import end_ids
from apo_soup.models.loading import load_causal_model
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
    keys = TokenizerKeys(suite.chat_template, place=suite.place)
    tokenizer = load_tokenizer(str(folder), where, keys, trust_remote_code=suite.trust_remote_code)
    loaded: PreTrainedModel
    if model is None:
        loaded = load_causal_model(folder, where, suite.dtype, suite.trust_remote_code)
    else:
        loaded = copy.deepcopy(model)
        if suite.dtype != "auto":
            loaded.to(getattr(torch, suite.dtype))
    loaded.eval()
    renderer = Renderer(tokenizer)
    end = template_end(renderer)
    if end is not None:
        loaded.generation_config.eos_token_id = sorted(end_ids(loaded, tokenizer) | {end})
    if torch.accelerator.is_available():
        device: Any = torch.accelerator.current_accelerator()  # transformers' wrapper of `to` hides its arguments
        loaded.to(device)
    return Checkpoint(
        suite=suite,
        folder=folder,
        model=loaded,
        tokenizer=tokenizer,
        renderer=renderer,
        template=renderer,
        batch_size=suite.batch_size,
        samples=suite.samples,
        seed=suite.seed,
        engine=answer_engine(suite, folder, loaded, tokenizer, mixed=model is not None),
        scorer=ModelScorer(loaded, suite.max_context_tokens_per_batch),
    )


def template_end(renderer: Renderer) -> int | None:
    """The special token that the chat template writes behind an answer, if it writes one. Of some published models it
    is neither the tokenizer's end nor among those of its generation settings; an answer would run on to its limit.
    """
    try:
        text, _ = renderer.render([USER, ANSWER], {})
    except RowError:  # a template that asks for more than a question; its tasks tell it
        return None
    tokenizer, behind = renderer.tokenizer, text.rpartition(PROBE)[2].lstrip()
    ids = tokenizer(behind, add_special_tokens=False).input_ids[:1]
    special = (number for number in ids if number in tokenizer.added_tokens_decoder)
    return next((number for number in special if tokenizer.added_tokens_decoder[number].special), None)


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


def answer_engine(
    suite: EvalFile, folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, mixed: bool
) -> AnswerEngine:
    """The engine of a model that lies here; a mix in memory is transformers' only.

    Raises:
        UserError: vLLM is asked for and not installed.
    """
    if engine_name(suite, mixed) != "vllm":
        return TransformersAnswers(model, tokenizer, suite.batch_size)
    arguments = {
        "model": str(folder),
        "dtype": str(model.dtype).removeprefix("torch."),
        "seed": suite.seed,
        "trust_remote_code": suite.trust_remote_code,
    }
    return VllmAnswers(model, tokenizer, arguments, suite.place("engine"))


def engine_name(suite: EvalFile, mixed: bool) -> str:
    """`vllm` where it may be used: asked for, or installed beside a GPU.

    Raises:
        UserError: vLLM is asked for and not installed.
    """
    wanted, installed = suite.engine, require_vllm(suite)
    use_vllm = wanted == "vllm" or (wanted == "auto" and installed and torch.cuda.is_available())
    return "vllm" if use_vllm and not mixed else "transformers"
