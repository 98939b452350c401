"""A model with more embeddings: a copy of it on disk, with a row for every token, that a stage then trains.

transformers resizes a model in memory by drawing new rows around the mean of the old ones. A stage loads its model in
several ways (in shards, quantised, once more to merge an adapter) and again after a kill, and each must find the same
rows. So they are made once, without the noise, and everything loads the copy.
"""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.utils import create_model_from_path

from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError, told_by_library
from apo_soup.models.embeddings import rows_for
from apo_soup.models.recipe_tokenizer import CONFIG_ERRORS, model_rows, token_ids
from apo_soup.private import outside_deepspeed
from apo_soup.progress import say
from apo_soup.runs.put_in_place import hidden_sibling
from apo_soup.runs.ranks import main_decides
from apo_soup.runs.stage import Stage

# The copy's folder in a stage's partial one.
RESIZED = "resized"
# Rows of an embedding that are summed at a time.
ROWS_A_COPY = 8192


def model_to_load(recipe: TrainingFile, stage: Stage, tokenizer: PreTrainedTokenizerBase, dtype: str | None) -> str:
    """The model that a stage trains: the recipe's, or, where that is resized, its copy in the stage's partial folder.

    All ranks call it; the main one makes the copy.

    Args:
        dtype: the type that the copy is written in, as `from_pretrained` takes it.

    Raises:
        UserError: the model cannot be loaded, or its weights are quantised.
    """
    multiple = recipe.embedding_multiple
    if multiple is None:
        return recipe.model_name_or_path
    ids, rows = token_ids(tokenizer), model_rows(recipe)
    if rows is not None and rows_for(ids, rows, multiple) == rows:
        say(f"{stage.name}: {rows:,} embeddings hold {ids:,} token ids, nothing is resized")
        return recipe.model_name_or_path
    folder = stage.partial / RESIZED

    def write() -> None:
        if folder.is_dir():
            return
        before, after = _write_copy(recipe, folder, ids, multiple, dtype)
        say(
            f"{stage.name}: embeddings resized from {before:,} to {after:,} rows for {ids:,} token ids; the new rows "
            "are the mean of the old ones"
        )

    main_decides(f"resized for {stage.name}", write)
    PartialState().wait_for_everyone()
    return str(folder)


def _write_copy(recipe: TrainingFile, folder: Path, ids: int, multiple: int, dtype: str | None) -> tuple[int, int]:
    """Load the recipe's model, resize it, and put the copy into place as a whole; returns its rows before and after."""
    where = recipe.place("model_name_or_path")
    loading = partial(told_by_library, where, expected="a model that transformers loads", way="name another one")
    revision = recipe.model_revision if recipe.gives("model_revision") else None
    named: dict[str, Any] = {"revision": revision, "trust_remote_code": recipe.trust_remote_code}
    with loading(kinds=CONFIG_ERRORS):
        config = AutoConfig.from_pretrained(recipe.model_name_or_path, **named)
    if getattr(config, "quantization_config", None):
        raise UserError(
            f"{recipe.place('resize_embeddings')}: expected a model whose weights are plain "
            f"numbers, got {recipe.model_name_or_path}, which is quantised; begin with the model that it was made from"
        )
    with outside_deepspeed():
        with loading(kinds=(ValueError, OSError)):
            model = create_model_from_path(recipe.model_name_or_path, dtype=dtype, device_map=None, **named)
        before, after = add_rows(model, ids, multiple)
    unfinished = hidden_sibling(folder, "partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished)
    for code in Path(recipe.model_name_or_path).expanduser().glob("*.py"):
        shutil.copyfile(code, unfinished / code.name)
    unfinished.rename(folder)
    return before, after


@torch.no_grad()
def add_rows(model: PreTrainedModel, ids: int, multiple: int = 1) -> tuple[int, int]:
    """Resize the embeddings, and the head where it is not tied to them, for token ids below `ids`; returns the rows of
    the embeddings before and after.

    The old rows stay as they are; every new row is their mean, and so is a new bias of the head.
    """
    before = [len(values) for values in _rows_a_token(model)]
    model.resize_token_embeddings(rows_for(ids, before[0], multiple), mean_resizing=False)
    resized = _rows_a_token(model)
    for values, rows in zip(resized, before, strict=True):
        if len(values) > rows:
            values[rows:] = mean_row(values[:rows]).to(values.dtype)
    return before[0], len(resized[0])


def _rows_a_token(model: PreTrainedModel) -> list[torch.Tensor]:
    """What has a row a token: the embeddings `[V, H]`, the head `[V, H]` and its bias `[V]`, where there are such."""
    layers: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    found = [getattr(layer, name, None) for layer in layers for name in ("weight", "bias")]
    return [values for values in found if values is not None]


def mean_row(rows: torch.Tensor) -> torch.Tensor:
    """The mean `[...]` of `rows` `[N, ...]`, summed in float64 so that no number of threads changes its bits."""
    return (
        torch.stack([block.double().sum(0) for block in torch.split(rows, ROWS_A_COPY)]).sum(0).div(len(rows)).float()
    )
