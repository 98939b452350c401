"""Cosmetic keys of a stage file, at any depth: they decide nothing of what the file makes."""

import copy
from collections.abc import Iterator
from functools import cache, reduce
from operator import getitem
from typing import Any

from pydantic import BaseModel

from apo_soup.config.in_words import mappings_inside
from apo_soup.config.keys import has_mark

Place = tuple[str | int, ...]


def cosmetic_places(value: Any, *kinds: Any) -> Iterator[Place]:
    """Where cosmetic keys stand in a value of the declared types, by the keys and numbers that lead there.

    Of a union those members count that declare all keys of the value.
    """
    if isinstance(value, list):
        for number, entry in enumerate(value):
            yield from ((number, *place) for place in cosmetic_places(entry, *kinds))
    if not isinstance(value, dict):
        return
    models = [
        model
        for kind in kinds
        for model in mappings_inside(kind)
        if model.model_config.get("extra") == "allow" or value.keys() <= model.model_fields.keys()
    ]
    for name, inside in value.items():
        declaring = [model for model in models if name in model.model_fields]
        if declaring and all(name in _cosmetic_names(model) for model in declaring):
            yield (name,)
        elif isinstance(inside, dict | list):
            types = (model.model_fields[name].annotation for model in declaring)
            yield from ((name, *place) for place in cosmetic_places(inside, *types))


@cache
def _cosmetic_names(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(name for name, field in model.model_fields.items() if has_mark(field, "cosmetic"))


def without_cosmetic(value: Any, kind: Any) -> Any:
    """A copy of a value of a declared type without its cosmetic keys."""
    left = copy.deepcopy(value)
    for *around, name in list(cosmetic_places(left, kind)):
        del reduce(getitem, around, left)[name]
    return left


def with_cosmetic_of(value: Any, other: Any, kind: Any) -> Any:
    """A copy of a value of a declared type with the cosmetic keys of another one, where the mappings that they stand in
    are there.
    """
    laid = copy.deepcopy(value)
    for *around, name in cosmetic_places(other, kind):
        try:
            place = reduce(getitem, around, laid)
        except (LookupError, TypeError):
            continue
        if isinstance(place, dict):
            place[name] = reduce(getitem, (*around, name), other)
    return laid


def is_cosmetic(name: str, *kinds: Any) -> bool:
    """Whether a dotted name leads to a cosmetic key in mappings of the declared types, or into one.

    >>> from apo_soup.config.pairs import PairsFile
    >>> is_cosmetic("strong.timeout", PairsFile), is_cosmetic("strong.seed", PairsFile)
    (True, False)
    """
    first, _, rest = name.partition(".")
    if first.isdecimal():
        return is_cosmetic(rest, *kinds)
    models = [model for kind in kinds for model in mappings_inside(kind)]
    fields = [model.model_fields[first] for model in models if first in model.model_fields]
    return bool(fields) and all(
        has_mark(field, "cosmetic") or (bool(rest) and is_cosmetic(rest, field.annotation)) for field in fields
    )
