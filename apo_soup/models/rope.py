"""What a model's configuration says of its positions, as one mapping whichever way it is written."""

from typing import Any

# They change what equal weights compute even where the other model does not name them.
_SCALING = ("rope_type", "factor", "short_factor", "long_factor")


def rope_parameters(config: dict[str, Any]) -> dict[str, Any]:
    """The rotary embedding of a configuration; older ones write it as `rope_theta` and `rope_scaling`."""
    older = dict(config.get("rope_scaling") or {})
    rope = older | {"rope_theta": config.get("rope_theta")} | dict(config.get("rope_parameters") or {})
    rope = {key: value for key, value in rope.items() if value is not None}
    kind = rope.pop("type", None)
    return {"rope_type": kind or "default"} | rope


def rope_difference(one: dict[str, Any], other: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """The first key by which the positions of two configurations differ, with both values; None where none does. A key
    that only one of them names is a default of both, unless it scales positions.
    """
    a, b = rope_parameters(one), rope_parameters(other)
    for key in (*_SCALING, *sorted((a.keys() | b.keys()) - set(_SCALING))):
        one_of, other_of = a.get(key), b.get(key)
        if isinstance(one_of, dict) and isinstance(other_of, dict):  # of a kind of layers
            inner = rope_difference({"rope_parameters": one_of}, {"rope_parameters": other_of})
            if inner:
                return f"{key}.{inner[0]}", *inner[1:]
        elif one_of != other_of and ((key in a and key in b) or key in _SCALING):
            return key, one_of, other_of
    return None
