"""What is right in a key's value of which some is wrong, so that one mistake hides no other."""

import copy
from typing import Any

from apo_soup.config.nearest import near_word


def right_part(value: Any, errors: list[Any]) -> Any:
    """A copy of a key's value without the keys inside it that pydantic found fault with; a misspelt kind of mapping is
    the one that was meant. What cannot be left out, such as an item of a list, stays.

    Args:
        errors: pydantic's, whose `loc` begins with the key's name.
    """
    part = copy.deepcopy(value)
    for error in errors:
        path = _path(part, error["loc"][1:])
        if error["type"].startswith("union_tag"):
            _mend_tag(_at(part, path), error["ctx"])
        elif error["type"] != "missing" and path and isinstance(holder := _at(part, path[:-1]), dict):
            holder.pop(path[-1], None)
    return part


def _path(value: Any, steps: tuple[Any, ...]) -> list[Any]:
    """Those of an error's steps that lead through the value; others name the member of a union."""
    path: list[Any] = []
    arrived = True  # at a mapping whose kind the next step may tell
    for step in steps:
        if arrived and isinstance(value, dict) and step in (value.get("kind"), value.get("engine")):
            arrived = False
        elif (isinstance(value, dict) and step in value) or (
            isinstance(value, list) and isinstance(step, int) and step < len(value)
        ):
            value, arrived = value[step], True
            path.append(step)
    return path


def _at(value: Any, path: list[Any]) -> Any:
    for step in path:
        value = value[step]
    return value


def _mend_tag(mapping: Any, told: dict[str, Any]) -> None:
    """Put the word that was meant in place of a misspelt kind.

    Args:
        told: of pydantic's error, the key and the words that it may hold.
    """
    key, words = str(told["discriminator"]).strip("'"), str(told.get("expected_tags", ""))
    if isinstance(mapping, dict):
        tags = [word.strip().strip("'") for word in words.split(",")]
        mapping[key] = near_word(mapping.get(key), tags) or mapping.get(key)
