"""JSON as rows hold it: a key that an object has twice is refused, of which Python would take the last."""

import json
from typing import Any

from apo_soup.data.sources.rows import RowError


class RepeatedKeyError(RowError):
    """An object that says two things under one name: nobody knows which was meant."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise RepeatedKeyError(f"expected each key of an object once, got {twice} twice; remove one")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
_STRICT = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)


def json_value(text: str, strict: bool = False) -> Any:
    """The value of a JSON text.

    Args:
        strict: NaN and infinities, which JSON has no word for, are refused too.

    Raises:
        RepeatedKeyError: an object has a key twice.
        ValueError: it is no JSON, or holds a number with more digits than Python reads.
        RecursionError: it is nested too deeply.

    >>> json_value('{"a": [1]}')
    {'a': [1]}
    """
    return (_STRICT if strict else _DECODER).decode(text)
