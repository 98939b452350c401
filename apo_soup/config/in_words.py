"""Types and values of keys in words, as sentences and tables have them."""

import json
import types
from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel

from apo_soup.config.keys import Said

TYPE_WORDS: dict[Any, str] = {
    int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null",
}  # fmt: skip
# Longer numbers are not written out; Python itself refuses to from 4 300 digits on.
MOST_DIGITS = 100
# Characters of a name that a sentence says again as it is.
LONGEST_SAID = 100


def as_written(value: Any) -> str:
    """A value of a file as a person wrote it, cut where it is long."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
        return f"a number of more than {MOST_DIGITS} digits"
    if isinstance(value, (dict, list)):
        return _cut(json.dumps(_with_text_keys(value), default=str, ensure_ascii=False), 60)
    return str(value) if isinstance(value, date) else _cut(repr(value), 200)


def said_again(name: Any) -> str:
    """A name as it is, where it is short enough for a sentence and can be printed; else as a value."""
    plain = isinstance(name, str) and 0 < len(name) < LONGEST_SAID and name.isprintable()
    return name if plain else as_written(name)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _with_text_keys(value: Any) -> Any:
    """A value that JSON can hold: YAML's keys may be dates, and its numbers longer than Python writes."""
    if isinstance(value, dict):
        return {k if isinstance(k, str) else as_written(k): _with_text_keys(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_with_text_keys(v) for v in value]
    return as_written(value) if isinstance(value, int) and abs(value) >= 10**MOST_DIGITS else value


def mappings_of(kind: Any) -> Iterator[type[BaseModel]]:
    """The mappings of keys that a type may be."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    elif get_origin(kind) in (Union, types.UnionType, Annotated):
        for member in get_args(kind):
            yield from mappings_of(member)


def mappings_inside(kind: Any) -> Iterator[type[BaseModel]]:
    """The mappings of keys that a type may be, or be a list of."""
    if get_origin(kind) is list:
        yield from mappings_inside(get_args(kind)[0])
    elif found := list(mappings_of(kind)):
        yield from found
    else:
        for argument in get_args(kind):
            if get_origin(argument) is list or get_args(argument):
                yield from mappings_inside(argument)


def without_annotation(kind: Any) -> Any:
    """A type without what it is annotated with."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def type_and_metadata(kind: Any) -> tuple[Any, list[Any]]:
    """A type and what it is annotated with."""
    return (get_args(kind)[0], list(get_args(kind)[1:])) if get_origin(kind) is Annotated else (kind, [])


def listed_words(kind: Any) -> list[str]:
    """The words that a type lists."""
    if get_origin(kind) is Literal:
        return [str(a) for a in get_args(kind)]
    return [c for argument in get_args(kind) for c in listed_words(argument)]


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
        # typing keeps whichever order of the same members was written first in the process.
        return " or ".join(sorted({expectation(a, metadata) for a in members}))
    if origin is Literal:
        words = [a if isinstance(a, str) else as_written(a) for a in arguments]
        return words[0] if len(words) == 1 else "one of " + ", ".join(words)
    if origin is list or kind is list:
        inner = arguments[0] if arguments else Any
        if get_origin(without_annotation(inner)) is Literal:
            return f"one or more of {', '.join(listed_words(inner))}"
        least = next((m.min_length for m in metadata if isinstance(m, MinLen)), 0)
        most = next((m.max_length for m in metadata if isinstance(m, MaxLen)), None)
        count = f"{least} " if least == most else f"{least} or more " if least else ""
        items = "values" if inner is Any else _plural(expectation(*type_and_metadata(inner)))
        return f"a list of {count}{items}" if count or inner is not Any else "a list"
    if origin is dict or kind is dict:
        inner = expectation(*type_and_metadata(arguments[1])) if len(arguments) == 2 and arguments[1] is not Any else ""
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
        ("a list", "lists"),
        ("text of 1 or more characters", "text"),
        ("text", "texts"),
    ):
        words = words.replace(one, many)
    return words


def _needs(model: type[BaseModel], name: str) -> bool:
    return name in model.model_fields and model.model_fields[name].is_required()


def _bounds(metadata: list[Any]) -> str:
    """Bounds of a number, or of a text's length, in words."""
    shortest = next((m.min_length for m in metadata if isinstance(m, MinLen)), 0)
    if shortest:
        return f" of {shortest} or more characters"
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
