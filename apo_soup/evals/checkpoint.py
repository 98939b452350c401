"""One loaded model, and the settings that every task reads."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from apo_soup.config.eval import EvalFile
from apo_soup.config.eval_keys import TaskKeys
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.models.loading import load_causal_model
from apo_soup.models.tokenizer import encode, load_tokenizer


@dataclass(frozen=True)
class Checkpoint:
    """A model in evaluation mode with its tokenizer, and how much of it fits at once.

    Args:
        suite: the suite file, for messages.
        batch_size: answers generated together.
        tokens_per_batch: padded positions of a batch whose log-probabilities are computed together.
        samples: answers of each task that are kept to be read.
        seed: of generated items and of the harness.
        output: folder of the results, for what a task leaves beside them.
    """

    suite: EvalFile
    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    renderer: Renderer
    batch_size: int
    tokens_per_batch: int
    samples: int
    seed: int
    output: Path | None = None

    def place(self, task: TaskKeys, key: str) -> str:
        """`FILE:LINE: KEY` of a task's key, as a sentence about it begins."""
        return self.suite.place(f"{task.dotted}.{key}")

    def ids(self, text: str) -> list[int]:
        """Token ids of a text that holds its own special tokens."""
        return list(encode(self.tokenizer, [text])[0].ids)


def load_checkpoint(
    suite: EvalFile, folder: Path, model: PreTrainedModel | None = None, output: Path | None = None
) -> Checkpoint:
    """Load a model folder as the suite asks for it; a copy of `model` is taken in its place when it is given.

    Raises:
        UserError: the tokenizer cannot be loaded, or lacks a chat template; the model comes with code that may not run.
    """
    where = f"{suite.place('models')}: {folder}"
    tokenizer = load_tokenizer(
        str(folder), where, suite.chat_template, trust_remote_code=suite.trust_remote_code, key_place=suite.place
    )
    loaded: PreTrainedModel
    if model is None:
        loaded = load_causal_model(folder, where, suite.dtype, suite.trust_remote_code)
    else:
        loaded = copy.deepcopy(model)
        if suite.dtype != "auto":
            loaded.to(getattr(torch, suite.dtype))
    loaded.eval()
    if torch.accelerator.is_available():
        device: Any = torch.accelerator.current_accelerator()  # transformers' wrapper of `to` hides its arguments
        loaded.to(device)
    return Checkpoint(
        suite=suite,
        folder=folder,
        model=loaded,
        tokenizer=tokenizer,
        renderer=Renderer(tokenizer),
        batch_size=suite.batch_size,
        tokens_per_batch=suite.max_context_tokens_per_batch,
        samples=suite.samples,
        seed=suite.seed,
        output=output,
    )
