"""Where in a stage file pydantic found fault: the place that an error's steps lead to, and what is declared there."""

import re
import types
from dataclasses import dataclass, field
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from apo_soup.config.in_words import listed_words, mappings_of, type_and_metadata, without_annotation
from apo_soup.config.keys import has_mark


@dataclass(frozen=True)
class FaultyPlace:
    """A place in a stage file: its dotted name, the type and bounds declared there, and the value that stands there.

    `around` are the mappings of keys that it stands in, or may stand in; `instead` is what may be done other than to
    correct the value, in words, and `secret` whether the value stands in
    no log.
    """

    name: str
    kind: Any
    metadata: list[Any]
    value: Any
    around: list[type[BaseModel]] = field(default_factory=list)
    instead: str = ""
    secret: bool = False


def faulty_place(name: str, declared: FieldInfo, value: Any, steps: tuple[Any, ...], error: str) -> FaultyPlace:
    """The place that an error's steps lead to, from a key and its value on. Steps that only name a member of a union
    lead nowhere.

    Args:
        error: pydantic's word for the kind of error.
    """
    place, kind, metadata, around = name, declared.annotation, list(declared.metadata), list[type[BaseModel]]()
    instead, secret = _way_out(declared), has_mark(declared, "secret")
    arrived = True  # at a value of which no step has told yet
    for step in steps:
        first, arrived = arrived, False
        if step == 0 and isinstance(value, dict) and list(mappings_of(_item(kind)[0])):
            kind, metadata = _item(kind)  # one mapping, written without the list that it stands in
            arrived = True
            continue
        if step == 0 and not isinstance(value, (list, dict)):
            kind, metadata = _item(kind)  # one value, written without brackets
            continue
        models = list(mappings_of(kind))
        if first and isinstance(value, dict) and len(models) > 1 and step in map(kind_word, models):
            continue  # the member of a union, which may have a key of the same name
        if isinstance(step, str) and models and isinstance(value, dict):
            tagged = model_by_tag(models, steps)
            owner = tagged if tagged and step in tagged.model_fields else None
            owner = owner or next((m for m in models if step in m.model_fields), None)
            if step in value or (owner is not None and error == "missing"):
                found = owner.model_fields[step] if owner else None
                kind, metadata = (found.annotation, list(found.metadata)) if found else (Any, [])
                value, place, around = value.get(step), f"{place}.{step}", models
                instead = _way_out(found) if found else ""
                secret = secret or found is None or has_mark(found, "secret")
                arrived = True
                continue
        listed = isinstance(value, list) and isinstance(step, int) and step < len(value)
        named = isinstance(value, dict) and step in value and not models
        if listed or named:
            kind, metadata = _item(kind)
            value, place, instead, arrived = value[step], f"{place}.{step}", "remove it", True
    return FaultyPlace(place, kind, metadata, value, around, instead, secret)


def _way_out(declared: FieldInfo) -> str:
    return "" if declared.is_required() else "leave the key out"


def model_by_tag(models: list[type[BaseModel]], steps: tuple[Any, ...]) -> type[BaseModel] | None:
    """The member of a union of mappings that the first of the steps to do so names by its tag."""
    tags = {kind_word(model): model for model in models}
    return next((tags[step] for step in steps if step in tags), None)


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


def kind_word(model: type[BaseModel]) -> str:
    """The word by which a mapping of a kind is told apart from its siblings, as `engine` or `kind` name it."""
    for name in ("kind", "engine"):
        tags = tags_of(model, name)
        if len(tags) == 1:
            return tags[0]
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", model.__name__.removesuffix("Task").removesuffix("Side")).lower()


def tags_of(model: type[BaseModel], discriminator: str) -> list[str]:
    """The words that a mapping's discriminator may be."""
    field = model.model_fields.get(discriminator)
    return listed_words(field.annotation) if field else []
