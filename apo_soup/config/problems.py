"""Mistakes in a stage file as sentences: `FILE:LINE: KEY: expected A, got B; do C`."""

import difflib
import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from apo_soup.config.given import Given
from apo_soup.config.in_words import (
    as_written,
    expectation,
    listed_words,
    mappings_of,
    type_and_metadata,
    without_annotation,
)


def in_file_order(problems: list[str]) -> list[str]:
    """Sentences by the line they name; those without one first."""

    def line(problem: str) -> int:
        found = re.match(r".*?:(\d+): ", problem)
        return int(found[1]) if found else 0

    return sorted(problems, key=line)


def sentence(given: Given, name: str, what: str) -> str:
    """One mistake, with the place of its key."""
    return f"{given.where(name)}: {name if name and name.isprintable() else repr(name)}: {what}"


def unknown_key(given: Given, name: str, known: list[str]) -> str:
    """That a key is unknown, and the nearest one that is not."""
    near = difflib.get_close_matches(name.rpartition(".")[2], known, n=1, cutoff=0.0)
    return sentence(given, name, "unknown key" + (f"; the nearest known key is {near[0]}" if near else ""))


def missing_key(given: Given, name: str, kind: Any, metadata: list[Any]) -> str:
    """That a key which must be there is not."""
    place, _, last = name.rpartition(".")
    where = given.where(place) if place else str(given.path)
    way = f"add it, or give --{name} VALUE" if not place else f"add {last} to it"
    return f"{where}: {name}: expected {expectation(kind, metadata)}, got nothing; {way}"


def wrong_values(given: Given, name: str, field: FieldInfo, value: Any, errors: list[Any]) -> Iterator[str]:
    """A sentence for each place inside a key's value that pydantic found fault with, each place once.

    A place is left out where something inside it is told: that a mapping was no text, beside a fault of the mapping.

    Args:
        errors: pydantic's, whose `loc` begins with the key's name.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for error in errors:
        wrong_key = "[key]" in error["loc"] or error["type"] == "invalid_key"
        steps = error["loc"][1 : -2 if "[key]" in error["loc"] else -1] if wrong_key else error["loc"][1:]
        place, *rest = _located(name, field, value, steps, error["type"])
        if wrong_key:
            place = f"{place}.{as_written(error['input'])}"
        found.setdefault(place, (error, wrong_key, *rest))
    for place, (error, wrong_key, kind, metadata, inside, models) in found.items():
        if any(other.startswith(f"{place}.") for other in found):
            continue
        if wrong_key:
            yield sentence(given, place, f"expected text as the key, got {as_written(error['input'])}")
        elif error["type"] == "extra_forbidden" and models:
            yield _misplaced_key(given, place, models, error["loc"])
        elif error["type"] == "missing":
            yield missing_key(given, place, kind, metadata)
        elif error["type"].startswith("union_tag"):
            discriminator = str(error["ctx"]["discriminator"]).strip("'")
            tags = [tag for model in mappings_of(kind) for tag in _tags(model, discriminator)]
            tag = inside.get(discriminator) if isinstance(inside, dict) else None
            got = "nothing" if tag is None else as_written(tag)
            told = f"expected one of {', '.join(tags)}, got {got}{_nearest(tag, tags)}"
            yield sentence(given, f"{place}.{discriminator}", told)
        else:
            expected = expectation(kind, metadata)
            yield sentence(
                given, place, f"expected {expected}, got {as_written(inside)}{_nearest(inside, listed_words(kind))}"
            )


def _misplaced_key(given: Given, place: str, models: list[type[BaseModel]], steps: tuple[Any, ...]) -> str:
    """That a mapping has no such key; where a mapping of another kind has it, which."""
    last = place.rpartition(".")[2]
    model = _by_tag(models, steps) or models[0]
    others = [kind_word(m) for m in models if last in m.model_fields and m is not model]
    if others:
        return sentence(
            given, place, f"the key belongs to {' and '.join(others)}, and this is {kind_word(model)}; leave it out"
        )
    return unknown_key(given, place, list(model.model_fields))


def kind_word(model: type[BaseModel]) -> str:
    """The word by which a mapping of a kind is told apart from its siblings, as `engine` or `kind` name it."""
    for name in ("kind", "engine"):
        tags = _tags(model, name)
        if len(tags) == 1:
            return tags[0]
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", model.__name__.removesuffix("Task").removesuffix("Side")).lower()


def _tags(model: type[BaseModel], discriminator: str) -> list[str]:
    """The words that a mapping's discriminator may be."""
    field = model.model_fields.get(discriminator)
    return listed_words(field.annotation) if field else []


def _nearest(value: Any, choices: list[str]) -> str:
    near = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else []
    return f"; the nearest is {near[0]}" if near else ""


def _located(
    name: str, field: FieldInfo, value: Any, steps: tuple[Any, ...], error: str
) -> tuple[str, Any, list[Any], Any, list[type[BaseModel]]]:
    """The dotted name that an error's steps lead to, the type and bounds declared there, the value, and the mappings of
    keys that it stands in or may stand in. Steps that only name a member of a union lead nowhere.
    """
    place, kind, metadata, around = name, field.annotation, list(field.metadata), list[type[BaseModel]]()
    for step in steps:
        if step == 0 and isinstance(value, dict) and list(mappings_of(_item(kind)[0])):
            kind, metadata = _item(kind)  # one mapping, written without the list that it stands in
            continue
        models = list(mappings_of(kind))
        if isinstance(step, str) and models and isinstance(value, dict):
            tagged = _by_tag(models, steps)
            owner = tagged if tagged and step in tagged.model_fields else None
            owner = owner or next((m for m in models if step in m.model_fields), None)
            if step in value or (owner is not None and error == "missing"):
                declared = owner.model_fields[step] if owner else None
                kind, metadata = (declared.annotation, list(declared.metadata)) if declared else (Any, [])
                value, place, around = value.get(step), f"{place}.{step}", models
                continue
        listed = isinstance(value, list) and isinstance(step, int) and step < len(value)
        named = isinstance(value, dict) and step in value and not models
        if listed or named:
            kind, metadata = _item(kind)
            value, place = value[step], f"{place}.{step}"
    return place, kind, metadata, value, around


def _by_tag(models: list[type[BaseModel]], steps: tuple[Any, ...]) -> type[BaseModel] | None:
    """The member of a union of mappings that one of the steps names by its tag."""
    return next((model for model in models if kind_word(model) in steps), None)


def _item(kind: Any) -> tuple[Any, list[Any]]:
    """The type of a list's items or of a mapping's values, with its bounds."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _item(arguments[0])
    if origin in (Union, types.UnionType):
        return next((_item(a) for a in arguments if get_origin(without_annotation(a)) in (list, dict)), (Any, []))
    if origin in (list, dict) and arguments:
        return type_and_metadata(arguments[-1])
    return Any, []
