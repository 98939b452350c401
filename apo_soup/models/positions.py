"""How a model knows where a token stands."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

# Rotary embeddings whose frequencies follow from the largest position of a batch, so that a text feels its neighbours.
_BY_LENGTH = ("dynamic", "longrope")


def rope_by_length(config: Any) -> str | None:
    """The kind of a model's rotary positions where they depend on the longest text of a batch, else None.

    Args:
        config: the configuration of its language model.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = (part.get("rope_type") for part in (rope, *rope.values()) if isinstance(part, dict))
    return next((kind for kind in kinds if kind in _BY_LENGTH), None)


def forget_longest_text(model: "nn.Module") -> None:
    """Let a model with `dynamic` rotary positions begin anew: it keeps the frequencies of the longest text that it has
    read, and reads a shorter one behind it with them.
    """
    kept = "max_seq_len_cached"
    for module in model.modules():
        for name in [name for name in vars(module) if name.endswith(kept)]:
            prefix = name.removesuffix(kept)
            first = getattr(module, f"{prefix}original_inv_freq", None)
            if first is not None:
                setattr(module, f"{prefix}inv_freq", first.to(getattr(module, f"{prefix}inv_freq").device).clone())
                setattr(module, name, module.original_max_seq_len)
