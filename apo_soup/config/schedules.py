"""The learning-rate schedules of transformers and the arguments of each, read from its source without importing it."""

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from apo_soup.config.in_words import as_written
from apo_soup.config.keys import is_finite
from apo_soup.config.library_source import enumeration_members, source_tree
from apo_soup.config.nearest import nearest
from apo_soup.config.stage_file import Fault

if TYPE_CHECKING:
    from apo_soup.config.training import TrainingFile

# What the Trainer gives every schedule by itself, and what a checkpoint does.
GIVEN = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}
# Arguments that are a share of the peak learning rate.
SHARES = ("min_lr_rate", "min_lr_ratio", "warmup_lr_rate")
# Schedules that need one of two arguments, and take both for a mistake.
ONE_OF = {"cosine_with_min_lr": ("min_lr", "min_lr_rate"), "cosine_warmup_with_min_lr": ("min_lr", "min_lr_rate")}


@dataclass(frozen=True)
class Schedule:
    """The arguments that a schedule takes, which of them are texts, and those that it cannot do without; `open` takes
    any further ones.
    """

    arguments: tuple[str, ...]
    texts: tuple[str, ...]
    required: tuple[str, ...]
    open: bool


@cache
def schedules() -> dict[str, Schedule]:
    """Every schedule by its name in a recipe.

    Raises:
        UserError: transformers is not installed.
    """
    tree = source_tree("transformers", "optimization.py")
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    words = enumeration_members()["SchedulerType"]
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TYPE_TO_SCHEDULER_FUNCTION":
            assert isinstance(node.value, ast.Dict)
            for name, function in zip(node.value.keys, node.value.values, strict=True):
                assert isinstance(name, ast.Attribute)
                found[words[name.attr]] = _schedule(functions[ast.unparse(function)].args)
    # The Trainer calls these two without the recipe's arguments.
    nothing = Schedule((), (), (), False)
    return found | dict.fromkeys(("constant", "constant_with_warmup"), nothing)


def _schedule(arguments: ast.arguments) -> Schedule:
    names = [argument.arg for argument in arguments.args]
    needed = names[: len(names) - len(arguments.defaults)]
    names += [argument.arg for argument in arguments.kwonlyargs]
    needed += [a.arg for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is None]
    every = [*arguments.args, *arguments.kwonlyargs]
    return Schedule(
        tuple(name for name in names if name not in GIVEN),
        tuple(a.arg for a in every if a.annotation is not None and "str" in ast.unparse(a.annotation)),
        tuple(name for name in needed if name not in GIVEN),
        arguments.kwarg is not None,
    )


def schedule_faults(recipe: "TrainingFile") -> Iterator[Fault]:
    """What is wrong with the arguments of a file's schedule, which the Trainer reads when rows and model are there.

    Raises:
        UserError: transformers is not installed.
    """
    name, given = recipe.lr_scheduler_type, _as_mapping(recipe.lr_scheduler_kwargs)
    schedule = schedules().get(name)
    if schedule is None:
        return
    if given is None:
        told = f"expected a mapping, got {as_written(recipe.lr_scheduler_kwargs)}; write `name: value` lines below it"
        yield Fault("lr_scheduler_kwargs", told)
        return
    beside = ("lr_scheduler_type",)
    for argument, value in given.items():
        if argument not in schedule.arguments and not schedule.open:
            known = ", ".join(schedule.arguments) or "none"
            way = nearest(argument, schedule.arguments) or "remove it"
            told = f"expected an argument of the schedule {name} ({known}), got {argument}; {way}"
            yield Fault(f"lr_scheduler_kwargs.{argument}", told, beside)
        elif argument in schedule.arguments:
            expected = _expected(argument, value, argument in schedule.texts)
            if expected:
                told = f"expected {expected}, got {as_written(value)}; write one, or leave the argument out"
                yield Fault(f"lr_scheduler_kwargs.{argument}", told)
    yield from _missing(name, schedule, given, beside)


def _expected(argument: str, value: Any, text: bool) -> str | None:
    """What an argument should have been; None where it is that, or null, the library's own default."""
    if value is None:
        return None
    if text:
        return None if isinstance(value, str) else "a word"
    number = is_finite(value) and value >= 0
    if argument in SHARES:
        return None if number and value <= 1 else "a share of the peak learning rate, from 0 to 1"
    return None if number else "a number of 0 or more"


def _as_mapping(given: Any) -> dict[str, Any] | None:
    """The arguments as a mapping, which may be written as JSON, as transformers takes it; None where they are none."""
    if isinstance(given, str) and given.strip():
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return None
    return given if isinstance(given, dict) else None if given else {}


def _missing(name: str, schedule: Schedule, given: dict[str, Any], beside: tuple[str, ...]) -> Iterator[Fault]:
    """Arguments without which the schedule stops the run."""
    for argument in schedule.required:
        if given.get(argument) is None:
            told = f"expected {argument}, which the schedule {name} needs, got none; write it under lr_scheduler_kwargs"
            yield Fault("lr_scheduler_kwargs", told, beside)
    either = ONE_OF.get(name, ())
    have = [argument for argument in either if given.get(argument) is not None]
    if either and len(have) != 1:
        told = f"expected one of {' and '.join(either)} for the schedule {name}, got {'both' if have else 'none'}"
        way = "leave one of them out" if have else f"write one, such as {{{either[-1]}: 0.1}}"
        yield Fault("lr_scheduler_kwargs", f"{told}; {way}", beside)
