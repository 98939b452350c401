"""Every key of every kind of file, given what it cannot take: each sentence has one shape and says what to do."""

import copy
import re
import types
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from helpers import ROOT
from pydantic import BaseModel

from apo_soup.config.faulty_place import kind_word
from apo_soup.config.given import Given
from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import KINDS, check_keys, file_model
from apo_soup.config.renamed import RENAMED

SHAPE = re.compile(r"f\.yaml(:\d+)?: (?P<key>[^ :]+): expected \S.*, got \S.*; \S.*[^.;,]")
# Keys whose values mergekit judges, whatever their type.
MERGEKITS = ("weight", "normalize", "tokenizer", "tokenizer_source")
BROKEN = (
    None, True, "zzz", "", "true", -1, 0, 1, 300, 0.5, 2.5, 10**400, float("nan"), float("inf"), date(2024, 1, 3),
    [], [[]], [None], [-1, -1, -1], ["zzz"], {}, {"zzz": 1}, {1: 2}, [{"zzz": 1}],
)  # fmt: skip


def members_of(kind: Any) -> list[Any]:
    """The types that a type may be, without annotations."""
    if get_origin(kind) is Annotated:
        return members_of(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [member for argument in get_args(kind) for member in members_of(argument)]
    return [kind]


def mappings_in(kind: Any) -> Iterator[tuple[type[BaseModel], bool]]:
    """The mappings of keys that a value of a type holds, and whether they stand in a list."""
    for member in members_of(kind):
        if isinstance(member, type) and issubclass(member, BaseModel):
            yield member, False
        elif get_origin(member) is list:
            yield from ((inner, True) for inner, _ in mappings_in(get_args(member)[0]))


def right_value(kind: Any) -> Any:
    """Some value that a required key of a type takes."""
    first = members_of(kind)[0]
    if get_origin(first) is Literal:
        return get_args(first)[0]
    if get_origin(first) is list:
        return [right_value(get_args(first)[0])]
    if get_origin(first) is dict:
        return {"x": right_value(get_args(first)[1])}
    if issubclass(first, BaseModel):
        return right_keys(first)
    return {int: 1, float: 1, bool: True}.get(first, "x")


def right_keys(model: type[BaseModel]) -> dict[str, Any]:
    """A mapping with the required keys of a model, and with the engine that tells it apart."""
    keys = {name: right_value(field.annotation) for name, field in model.model_fields.items() if field.is_required()}
    return keys | ({"engine": kind_word(model)} if "engine" in model.model_fields else {})


def files_with_places(model: type[BaseModel], values: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """Contents of a file, and the path to a key in them, for every declared key of a model and what it holds."""
    for name, field in model.model_fields.items():
        yield values, [name]
        for inner, listed in mappings_in(field.annotation):
            held = right_keys(inner)
            for inside, path in files_with_places(inner, held):
                yield {**values, name: [inside] if listed else inside}, [name, *([0] if listed else []), *path]


def with_value(values: dict[str, Any], path: list[Any], value: Any) -> dict[str, Any]:
    """A copy of a file's contents with another value at a path."""
    changed = copy.deepcopy(values)
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = copy.deepcopy(value)
    return changed


def mistakes(kind: str, values: dict[str, Any]) -> list[str]:
    lines = {name: number for number, name in enumerate(values, 1)}
    return check_keys(kind, Given(Path("f.yaml"), values, lines))[1]


@pytest.mark.parametrize("kind", KINDS)
def test_every_refused_value_is_told_in_one_shape(kind):
    model = file_model(kind)
    refused, wrong = set(), set()
    for values, path in files_with_places(model, right_keys(model)):
        for value in BROKEN:
            told = mistakes(kind, with_value(values, path, value))
            wrong |= {sentence for sentence in told if not SHAPE.fullmatch(sentence)}
            if told:
                refused.add(".".join(map(str, path)))
    assert not wrong, "\n".join(sorted(wrong)[:40])
    declared = {".".join(map(str, path)) for _, path in files_with_places(model, right_keys(model))}
    dropped = {old for old, (new, _) in RENAMED.items() if new is None}
    assert {name for name in declared - refused if name.rpartition(".")[2] not in MERGEKITS} <= dropped


SHIPPED = sorted(f for f in (ROOT / "recipes").glob("*/*.yaml") if stage_of_file(f))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f"{f.parent.name}/{f.name}")
def test_every_key_of_a_shipped_file_is_told_in_that_shape(file):
    """The keys that the file gives and what they hold, one after another, each replaced by what it cannot be."""
    kind, values = str(stage_of_file(file)), Given.from_file(file, []).values
    for name in values:
        told = [sentence for value in (None, {}, [[]], -1.5) for sentence in mistakes(kind, {**values, name: value})]
        assert told
        assert all(SHAPE.fullmatch(sentence) for sentence in told), told
