"""Which models are trained on packed documents in whole rows alone, known before they are loaded."""

from typing import Any

from apo_soup.config.training import TrainingFile
from apo_soup.private import attention_implementation
from sft.documents_alone import documents_reason

# Keys of a configuration that decide on it, where a recipe loads its model with other ones.
_DECIDING = {
    "attention_chunk_size",
    "layer_types",
    "rope_parameters",
    "rope_scaling",
    "sliding_window",
    "use_sliding_window",
}


def whole_rows_reason(recipe: TrainingFile, text: Any) -> str | None:
    """Why processes cannot share the rows of a supervised training under SDPA, in a few words; None where they can, and
    where only the loaded model tells.

    Args:
        recipe: its file.
        text: the configuration of its language model.
    """
    if recipe.kind != "sft" or recipe.attn_implementation not in (None, "sdpa"):
        return None
    if recipe.attn_implementation is None and attention_implementation(text) not in (None, "sdpa"):
        return None
    return None if recipe.loading_arguments.keys() & _DECIDING else documents_reason(text, recipe.max_length)
