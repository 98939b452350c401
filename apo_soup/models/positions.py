"""How a model knows where a token stands."""

from typing import Any

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
