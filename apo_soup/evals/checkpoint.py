"""One loaded model, and the settings that every task reads."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from apo_soup.config.recipe import Recipe
from apo_soup.data.trained_spans import Renderer
from apo_soup.errors import UserError
from apo_soup.models.tokenizer import encode, load_tokenizer


@dataclass(frozen=True)
class Checkpoint:
    """A model in evaluation mode with its tokenizer, and how much of it fits at once."""

    where: str
    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    renderer: Renderer
    batch_size: int
    tokens_per_batch: int
    samples: int
    seed: int

    def ids(self, text: str) -> list[int]:
        return encode(self.tokenizer, [text])[0].ids


def load_checkpoint(recipe: Recipe, folder: Path, model: PreTrainedModel | None = None) -> Checkpoint:
    """Load a model folder as the suite asks for it; `model` is taken in its place when it is given."""
    values, where = recipe.values, str(recipe.path)
    tokenizer = load_tokenizer(str(folder), where, values.get("chat_template"))
    dtype = values.get("dtype", "float32")
    if dtype not in ("auto", "float32", "bfloat16", "float16", "float64"):
        raise UserError(f"{recipe.where('dtype')}: dtype is auto, float32, bfloat16, float16 or float64, found {dtype}")
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype) if model is None else copied(model, dtype)
    loaded.eval()
    if torch.accelerator.is_available():
        loaded.to(torch.accelerator.current_accelerator())
    return Checkpoint(
        where=where,
        folder=folder,
        model=loaded,
        tokenizer=tokenizer,
        renderer=Renderer(tokenizer),
        batch_size=values.get("batch_size", 32),
        tokens_per_batch=values.get("max_context_tokens_per_batch", 8192),
        samples=values.get("samples", 3),
        seed=values.get("seed", 0),
    )


def copied(model: PreTrainedModel, dtype: str) -> PreTrainedModel:
    """A copy of a model in the type that a suite evaluates in."""
    return copy.deepcopy(model) if dtype == "auto" else copy.deepcopy(model).to(getattr(torch, dtype))
