"""How many rows a model's embeddings have, and whether its tokenizer fits them. No torch: `check` asks too."""

from collections.abc import Mapping
from typing import Any

from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError


def embedding_rows(config: Mapping[str, Any]) -> int | None:
    """The rows of the embeddings of a model with this `config.json`; None where it does not say."""
    text = config.get("text_config")
    rows = (text if isinstance(text, Mapping) else config).get("vocab_size")
    return rows if isinstance(rows, int) and not isinstance(rows, bool) else None


def rows_for(ids: int, rows: int, multiple: int) -> int:
    """The rows of embeddings that are resized for token ids below `ids`: never fewer than before, and a multiple."""
    return -(-max(ids, rows) // multiple) * multiple


def check_fits(recipe: TrainingFile, ids: int, rows: int | None) -> None:
    """Refuse a tokenizer that the model has no embeddings for, unless the file resizes them.

    Args:
        ids: the tokenizer's highest id, holes below it included, and 1.
        rows: the rows of the model's embeddings; None where they are not known.

    Raises:
        UserError: the tokenizer is larger.
    """
    problem = misfit(recipe, ids, rows)
    if problem:
        raise UserError(problem)


def misfit(recipe: TrainingFile, ids: int, rows: int | None) -> str | None:
    """The sentence of `check_fits`, or None where the tokenizer fits."""
    if rows is None or ids <= rows or recipe.embedding_multiple is not None:
        return None
    name = next((token.key for token in recipe.new_tokens), "model_name_or_path").partition(".")[0]
    cure = (
        "give resize_embeddings: true"
        if "resize_embeddings" in type(recipe).model_fields
        else "give resize_embeddings: true in the mid or sft file that makes this model"
    )
    return (
        f"{recipe.place(name)}: expected a tokenizer of at most {rows:,} ids, for the embeddings of "
        f"{recipe.model_name_or_path} have as many rows, got one of {ids:,}; {cure}, or name a model that fits its "
        "tokenizer"
    )
