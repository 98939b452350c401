"""The learning-rate schedules of transformers and the arguments of each, read from its source without importing it."""

import ast
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
GIVEN = {"self", "optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}
# Arguments that are a share of the peak learning rate.
SHARES = ("min_lr_rate", "min_lr_ratio", "warmup_lr_rate")
# Schedules that follow what evaluations measure.
BY_METRIC = ("reduce_lr_on_plateau", "greedy")
# The classes that these hand their arguments to.
SCHEDULE_CLASSES = {
    "reduce_lr_on_plateau": ("torch", "optim/lr_scheduler.py", "ReduceLROnPlateau"),
    "greedy": ("transformers", "optimization.py", "GreedyLR"),
}
# Shapes of the warm-up and of the decay of a schedule that has both, and the arguments that say them.
RATE_SHAPES = ("linear", "cosine", "1-sqrt")
SHAPED = ("warmup_type", "decay_type")
# Arguments that are the rate which a schedule goes down to.
LEAST_RATES = ("min_lr", "lr_end")
# Schedules that need one of two arguments, and take both for a mistake.
ONE_OF = {"cosine_with_min_lr": ("min_lr", "min_lr_rate"), "cosine_warmup_with_min_lr": ("min_lr", "min_lr_rate")}


@dataclass(frozen=True)
class Schedule:
    """The arguments that a schedule takes, which of them are texts and which numbers, those that it cannot do without,
    and the numbers that it takes where it is given none.
    """

    arguments: tuple[str, ...]
    texts: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    defaults: Mapping[str, float] = field(default_factory=dict)


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
    nothing = dict.fromkeys(("constant", "constant_with_warmup"), Schedule(()))
    return found | nothing | {name: _schedule_of_class(*place) for name, place in SCHEDULE_CLASSES.items()}


def _schedule_of_class(package: str, file: str, name: str) -> Schedule:
    """What the class of a schedule takes, to which its function hands on whatever it is given."""
    classes = {node.name: node for node in source_tree(package, file).body if isinstance(node, ast.ClassDef)}
    body = classes[name].body
    made = next(node for node in body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    return _schedule(made.args)


def _schedule(arguments: ast.arguments) -> Schedule:
    names, defaults = [argument.arg for argument in arguments.args], list[ast.expr | None](arguments.defaults)
    values = [*[None] * (len(names) - len(defaults)), *defaults, *arguments.kw_defaults]
    every = {argument.arg: argument for argument in (*arguments.args, *arguments.kwonlyargs)}
    own = {name: value for name, value in zip(every, values, strict=True) if name not in GIVEN}
    written = {name: ast.unparse(every[name].annotation or ast.Name("float")) for name in own}
    plain = {name: value.value for name, value in own.items() if isinstance(value, ast.Constant)}
    return Schedule(
        tuple(own),
        tuple(name for name, kind in written.items() if "str" in kind or "Literal" in kind),
        tuple(name for name, kind in written.items() if set(kind.split(" | ")) <= {"int", "float", "None"}),
        tuple(name for name, value in own.items() if value is None),
        {name: value for name, value in plain.items() if isinstance(value, int | float)},
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
        if argument not in schedule.arguments:
            known = ", ".join(schedule.arguments) or "none"
            way = nearest(argument, schedule.arguments) or "remove it"
            told = f"expected an argument of the schedule {name} ({known}), got {argument}; {way}"
            yield Fault(f"lr_scheduler_kwargs.{argument}", told, beside)
        else:
            expected = _expected(argument, value, schedule)
            if expected:
                told = f"expected {expected}, got {as_written(value)}; write one, or leave the argument out"
                yield Fault(f"lr_scheduler_kwargs.{argument}", told)
    yield from _missing(name, schedule, given, beside)
    yield from _unfit(recipe, schedule, given)


def _unfit(recipe: "TrainingFile", schedule: Schedule, given: Mapping[str, Any]) -> Iterator[Fault]:
    """Arguments that do not fit the keys of the run, and evaluations without which a schedule measures nothing."""
    name, peak = recipe.lr_scheduler_type, recipe.learning_rate
    if name in BY_METRIC and recipe.eval_strategy in (None, "no"):
        told = f"expected eval_strategy beside the schedule {name}, which follows evaluations, got none; write it"
        yield Fault("lr_scheduler_type", told, ("eval_strategy",))
    for argument in (name for name in LEAST_RATES if name in schedule.arguments):
        least: Any = given.get(argument, schedule.defaults.get(argument))
        if is_finite(least) and least > peak:
            whose = "" if argument in given else f", which the schedule {name} has without it"
            told = f"expected at most learning_rate, {as_written(peak)}, got {as_written(least)}{whose}, so that the "
            told += f"rate would rise; write {argument} below it"
            yield Fault(f"lr_scheduler_kwargs.{argument}", told, ("learning_rate", "lr_scheduler_type"))
    steps, warm = recipe.max_steps, recipe.warmup_steps
    decay: Any = given.get("num_decay_steps")
    if steps > 0 and is_finite(decay) and given.get("num_stable_steps") is None:
        left = steps - (int(warm) if warm >= 1 else math.ceil(steps * warm))
        if decay > left:
            told = f"expected at most {left}, the steps of the run less its warm-up, got {as_written(decay)}; lower it"
            yield Fault("lr_scheduler_kwargs.num_decay_steps", told, ("max_steps", "warmup_steps"))


def _expected(argument: str, value: Any, schedule: Schedule) -> str | None:
    """What an argument should have been; None where it is that, or null, the library's own default."""
    if value is None:
        return None
    if argument in schedule.texts:
        words = RATE_SHAPES if argument in SHAPED else ()
        known = isinstance(value, str) and (not words or value in words)
        return None if known else f"one of {', '.join(words)}" if words else "a word"
    if argument not in schedule.numbers:
        return None
    number = is_finite(value) and value >= 0
    if argument in SHARES:
        return None if number and value <= 1 else "a share of the peak learning rate, from 0 to 1"
    if argument == "num_cycles":
        return None if number and value > 0 else "a number above 0"
    return None if number else "a number of 0 or more"


def _as_mapping(given: Any) -> dict[str, Any] | None:
    """The arguments as a mapping, which may be written as JSON, as transformers takes it; None where they are none."""
    if isinstance(given, str) and given.strip():
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return None
    return given if isinstance(given, dict) else {} if given in (None, "") else None


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
