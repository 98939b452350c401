"""Which models are trained on packed rows whole alone, or not at all, known before they are loaded."""

from typing import Any

from apo.packable_models import model_reason
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
    """Why processes cannot share the rows of a training, in a few words; None where they can, and where only the loaded
    model tells, as beside other attention than SDPA in a supervised one.

    Args:
        recipe: its file.
        text: the configuration of its language model.
    """
    if recipe.kind == "apo":
        return model_reason(text)
    if recipe.attn_implementation not in (None, "sdpa"):
        return None
    if recipe.attn_implementation is None and attention_implementation(text) not in (None, "sdpa"):
        return None
    return None if recipe.loading_arguments.keys() & _DECIDING else documents_reason(text, recipe.max_length)
