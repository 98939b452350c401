"""Mistakes in a stage file as sentences: `FILE:LINE: KEY: expected A, got B; do C`."""

import difflib
import json
import re
import types
from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from apo_soup.config.given import Given
from apo_soup.config.keys import Said

TYPE_WORDS: dict[Any, str] = {
    int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null",
}  # fmt: skip


def in_file_order(problems: list[str]) -> list[str]:
    """Sentences by the line they name; those without one first."""

    def line(problem: str) -> int:
        found = re.match(r".*?:(\d+): ", problem)
        return int(found[1]) if found else 0

    return sorted(problems, key=line)


def sentence(given: Given, name: str, what: str) -> str:
    """One mistake, with the place of its key."""
    return f"{given.where(name)}: {name}: {what}"


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

    Args:
        errors: pydantic's, whose `loc` begins with the key's name.
    """
    seen: set[str] = set()
    for error in errors:
        place, kind, metadata, inside, models = _located(name, field, value, error["loc"][1:], error["type"])
        if place in seen:
            continue
        seen.add(place)
        if "[key]" in error["loc"]:
            yield sentence(given, place, f"expected text as the key, got {as_written(error['input'])}")
        elif error["type"] == "extra_forbidden" and models:
            yield _misplaced_key(given, place, models, error["loc"])
        elif error["type"] == "missing":
            yield missing_key(given, place, kind, metadata)
        elif error["type"].startswith("union_tag"):
            discriminator = str(error["ctx"]["discriminator"]).strip("'")
            tags = [tag for model in mappings_of(kind) for tag in _tags(model, discriminator)]
            found = inside.get(discriminator) if isinstance(inside, dict) else None
            got = "nothing" if found is None else as_written(found)
            told = f"expected one of {', '.join(tags)}, got {got}{_nearest(found, tags)}"
            yield sentence(given, f"{place}.{discriminator}", told)
        else:
            expected = expectation(kind, metadata)
            yield sentence(
                given, place, f"expected {expected}, got {as_written(inside)}{_nearest(inside, _choices(kind))}"
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
    return _choices(field.annotation) if field else []


def _nearest(value: Any, choices: list[str]) -> str:
    near = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else []
    return f"; the nearest is {near[0]}" if near else ""


def as_written(value: Any) -> str:
    """A value of a file as a person wrote it, cut where it is long."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, list)):
        text = json.dumps(value, default=str, ensure_ascii=False)
        return text if len(text) <= 60 else text[:57] + "..."
    return str(value) if isinstance(value, date) else repr(value)


def _located(
    name: str, field: FieldInfo, value: Any, steps: tuple[Any, ...], error: str
) -> tuple[str, Any, list[Any], Any, list[type[BaseModel]]]:
    """The dotted name that an error's steps lead to, the type and bounds declared there, the value, and the mappings of
    keys that it stands in or may stand in. Steps that only name a member of a union lead nowhere.
    """
    place, kind, metadata, around = name, field.annotation, list(field.metadata), list[type[BaseModel]]()
    for step in steps:
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


def mappings_of(kind: Any) -> Iterator[type[BaseModel]]:
    """The mappings of keys that a type may be."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    elif get_origin(kind) in (Union, types.UnionType, Annotated):
        for member in get_args(kind):
            yield from mappings_of(member)


def _item(kind: Any) -> tuple[Any, list[Any]]:
    """The type of a list's items or of a mapping's values, with its bounds."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _item(arguments[0])
    if origin in (Union, types.UnionType):
        return next((_item(a) for a in arguments if get_origin(_bare(a)) in (list, dict)), (Any, []))
    if origin in (list, dict) and arguments:
        return _split(arguments[-1])
    return Any, []


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _split(kind: Any) -> tuple[Any, list[Any]]:
    """A type and what it is annotated with."""
    return (get_args(kind)[0], list(get_args(kind)[1:])) if get_origin(kind) is Annotated else (kind, [])


def _choices(kind: Any) -> list[str]:
    """The words that a type lists."""
    if get_origin(kind) is Literal:
        return [str(a) for a in get_args(kind)]
    return [c for argument in get_args(kind) for c in _choices(argument)]


def expectation(kind: Any, metadata: list[Any]) -> str:
    """What a type expects, in words.

    >>> from apo_soup.config.keys import Positive
    >>> expectation(Positive | None, [])
    'a whole number of 1 or more'
    """
    said = next((m.words for m in metadata if isinstance(m, Said)), None)
    if said:
        return str(said)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return expectation(arguments[0], [*arguments[1:], *metadata])
    if origin in (Union, types.UnionType):
        members = [a for a in arguments if a is not type(None)]
        models = list(mappings_of(kind))
        if len(models) > 1 and len(models) == len(members):
            needed = [n for n, f in models[0].model_fields.items() if all(_needs(m, n) for m in models)]
            return "a mapping" + (f" with {' and '.join(needed)}" if needed else "")
        return " or ".join(dict.fromkeys(expectation(a, metadata) for a in members))
    if origin is Literal:
        words = [str(a) for a in arguments]
        return words[0] if len(words) == 1 else "one of " + ", ".join(words)
    if origin is list or kind is list:
        inner = arguments[0] if arguments else Any
        if get_origin(_bare(inner)) is Literal:
            return f"one or more of {', '.join(_choices(inner))}"
        least = next((m.min_length for m in metadata if isinstance(m, MinLen)), 0)
        most = next((m.max_length for m in metadata if isinstance(m, MaxLen)), None)
        count = f"{least} " if least == most else f"{least} or more " if least else ""
        items = "values" if inner is Any else _plural(expectation(*_split(inner)))
        return f"a list of {count}{items}" if count or inner is not Any else "a list"
    if origin is dict or kind is dict:
        inner = expectation(*_split(arguments[1])) if len(arguments) == 2 and arguments[1] is not Any else ""
        return f"a mapping of {_plural(inner)} by name" if inner else "a mapping"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        needed = [n for n, f in kind.model_fields.items() if f.is_required()]
        return "a mapping" + (f" with {' and '.join(needed)}" if needed else "")
    return TYPE_WORDS.get(kind, "a value") + _bounds(metadata)


def _plural(words: str) -> str:
    for one, many in (
        ("a whole number", "whole numbers"),
        ("a number", "numbers"),
        ("a mapping", "mappings"),
        ("text", "texts"),
    ):
        words = words.replace(one, many)
    return words


def _needs(model: type[BaseModel], name: str) -> bool:
    return name in model.model_fields and model.model_fields[name].is_required()


def _bounds(metadata: list[Any]) -> str:
    """Bounds of a number, in words."""
    low = next((m for m in metadata if isinstance(m, (Ge, Gt))), None)
    high = next((m for m in metadata if isinstance(m, (Le, Lt))), None)
    words = []
    if isinstance(low, Ge) and isinstance(high, Le):
        return f" between {low.ge} and {high.le}"
    if isinstance(low, Gt) and isinstance(high, Lt):
        return f" between {low.gt} and {high.lt}"
    if low is not None:
        words.append(f"{low.ge} or more" if isinstance(low, Ge) else f"above {low.gt}")
    if high is not None:
        words.append(f"at most {high.le}" if isinstance(high, Le) else f"below {high.lt}")
    joined = " and ".join(words)
    return (f" of {joined}" if isinstance(low, Ge) else f" {joined}") if joined else ""
