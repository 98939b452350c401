"""The points of a walk over training keys, each as the checked training file that it is, before anything is trained."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

from apo_soup.config.cosmetic import is_cosmetic
from apo_soup.config.given import Given
from apo_soup.config.in_words import as_written
from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import check_keys
from apo_soup.config.members import checked_members, file_problems, what_decides
from apo_soup.config.nearest import nearest
from apo_soup.config.recipe_file import given_with_shared
from apo_soup.config.sweep import SweepFile
from apo_soup.config.training import TrainingFile
from apo_soup.config.yaml_lines import read_value
from apo_soup.errors import UserError, told_together

# What a training file may be called as in `stage`: its kind trains a model.
_TRAINING = ("sft", "apo")
# Keys of a training that a point has no use for, and what they are there.
NOT_OF_A_POINT = {"checkpoints": None, "push_to_hub": False}


@dataclass(frozen=True)
class PointKeys:
    """A point as the file gives it: values by key, and where each stands, as a dotted key of the sweep file."""

    values: dict[str, Any]
    places: dict[str, str]


@dataclass(frozen=True)
class TrainingPoint:
    """A point that is right.

    Attributes:
        setting: what it lays over the training file, as it is written.
        trainings: the checked training file with that, one a soup member.
        shown: the same values as the file's types take them, by key; one that is not given there is the file's own.
        of_file: whether it trains what the training file alone does.
    """

    setting: PointKeys
    trainings: list[TrainingFile]
    shown: dict[str, Any]
    of_file: bool

    @property
    def told(self) -> str:
        """Its own keys and values, as they are said and name its folder.

        >>> TrainingPoint(PointKeys({}, {}), [], {"beta": 0.1, "loss_type": ["apo_zero"]}, False).told
        'beta=0.1+loss_type=apo_zero'
        """
        return "+".join(f"{name}={value_text(value)}" for name, value in self.shown.items())

    def value(self, name: str) -> str:
        """The value of a key at this point, which may be that of the training file; `-` where neither gives it."""
        value = self.shown[name] if name in self.shown else _value_at(self.trainings[0], name)
        return "-" if value is _NOT_GIVEN else value_text(value)


# Stands for the value of a key that is not given.
_NOT_GIVEN = object()


def value_text(value: Any) -> str:
    """A value of a setting as a table, or the name of a folder, has it; a list of one thing is that thing.

    >>> value_text(1e-7), value_text(["a"]), value_text(None), value_text("a, b"), value_text("true")
    ('1e-07', 'a', 'null', 'a, b', "'true'")
    """
    if isinstance(value, list) and len(value) == 1:
        return value_text(value[0])
    return value if isinstance(value, str) and read_value(value) == value else as_written(value)


def training_path(file: SweepFile) -> Path:
    """The training file that a sweep file names, beside it."""
    return file.path.parent / f"{file.stage}.yaml"


def settings_of(file: SweepFile) -> Iterator[PointKeys]:
    """The points of a file: every combination of `over`, the last key's values first, then `points`."""
    over = file.over or {}
    for numbers in product(*(range(len(values)) for values in over.values())) if over else ():
        chosen = list(zip(over, numbers, strict=True))
        yield PointKeys({name: over[name][n] for name, n in chosen}, {name: f"over.{name}.{n}" for name, n in chosen})
    for number, point in enumerate(file.points or []):
        yield PointKeys(dict(point), {name: f"points.{number}.{name}" for name in point})


def swept_points(file: SweepFile) -> list[TrainingPoint]:
    """The points of a sweep file, in its order.

    Raises:
        UserError: with everything that is wrong with them, or with the training file.
    """
    path, kind = training_path(file), training_kind(file)
    problems = file_problems(path) if kind == "apo" else check_keys(kind, given_with_shared(path, kind))[1]
    points, wrong = _points(file)
    if problems or wrong:
        raise told_together(problems or wrong)
    return points


def sweep_problems(file: SweepFile) -> list[str]:
    """A sentence for everything that is wrong with the points of a sweep file; none where the training file is wrong by
    itself, which is told of that.
    """
    try:
        return _points(file)[1]
    except UserError as error:
        return [line.strip() for line in str(error).splitlines()]


def _points(file: SweepFile) -> tuple[list[TrainingPoint], list[str]]:
    path, kind = training_path(file), training_kind(file)
    given = given_with_shared(path, kind)
    if file_problems(path) if kind == "apo" else check_keys(kind, given.copy())[1]:
        return [], []
    points: list[TrainingPoint] = []
    too_many = _too_many_members(file, kind, given.values.get("members"))
    problems: dict[str, None] = dict.fromkeys([too_many] if too_many else [])
    usual = _trainings(given, kind, PointKeys({}, {}), file)[0]
    for setting in settings_of(file):
        wrong = [*_wrong_keys(file, setting, type(usual[0]))]
        trainings, told = ([], wrong) if wrong else _trainings(given, kind, setting, file)
        problems |= dict.fromkeys(_in_place(file, setting, problem) for problem in told)
        if not told:
            shown = {name: _typed(trainings[0], name, value) for name, value in setting.values.items()}
            points.append(TrainingPoint(setting, trainings, shown, _identity(trainings) == _identity(usual)))
    problems |= dict.fromkeys(_alike(file, points))
    return points, list(problems)


def training_kind(file: SweepFile) -> str:
    """The kind of the training file that a sweep file names.

    Raises:
        UserError: no such file lies beside it.
    """
    beside = {path.stem: stage_of_file(path) for path in sorted(file.path.parent.glob("*.yaml"))}
    trained = {name: kind for name, kind in beside.items() if kind in _TRAINING}
    kind = trained.get(file.stage)
    if kind is None:
        way = nearest(file.stage, trained) or (f"name one of {', '.join(trained)}" if trained else "add one")
        raise UserError(
            f"{file.place('stage')}: expected a training file of the recipe, without .yaml, got "
            f"{as_written(file.stage)}; {way}"
        )
    return kind


def _too_many_members(file: SweepFile, kind: str, members: Any) -> str | None:
    there = len(members) if isinstance(members, list) and members else 1
    if kind == "apo" and file.members != "all" and file.members > there:
        told = f"expected at most {there}, the members of {training_path(file).name}, got {file.members}; lower it"
        return f"{file.place('members')}: {told}"
    if kind != "apo" and file.gives("members") and file.members != 1:
        return (
            f"{file.place('members')}: expected no such key, since {training_path(file).name} trains no soup members, "
            f"got {as_written(file.members)}; leave it out"
        )
    return None


def _wrong_keys(file: SweepFile, setting: PointKeys, model: type[TrainingFile]) -> Iterator[str]:
    for name, place in setting.places.items():
        if is_cosmetic(name, model):
            yield (
                f"{file.place(place)}: expected a key that changes what is learned, got {name}, which changes none of "
                "it; leave it out"
            )


def _trainings(given: Given, kind: str, setting: PointKeys, file: SweepFile) -> tuple[list[TrainingFile], list[str]]:
    """The training file with a setting laid over it, one a member, and what is wrong with it."""
    laid = given.copy()
    for name, place in setting.places.items():
        where = file.place(place)
        try:
            laid.set(name, setting.values[name], where)
        except UserError as error:
            return [], [str(error)]
        laid.laid[name] = (where.removesuffix(f": {place}"), place)
    if kind != "apo":
        checked, problems = check_keys(kind, laid)
        return ([] if checked is None else [cast(TrainingFile, checked)]), problems
    recipes, problems = checked_members(laid, members_with(given.values.get("members"), setting.values, file.members))
    return list(recipes), problems


def members_with(members: Any, values: dict[str, Any], count: int | str) -> list[dict[str, Any]]:
    """What the first `count` soup members of a file lay over its keys at a point, whose values win. No step of them is
    kept, and none is sent away.

    >>> members_with([{"seed": 1, "beta": 0.1}, {"seed": 2}], {"beta": 0.5}, 1)
    [{'seed': 1, 'beta': 0.5}]
    """
    own = members if isinstance(members, list) and members else [{}]
    kept = own if count == "all" else own[: int(count)]
    without = {*values, *NOT_OF_A_POINT}
    return [{**{k: v for k, v in member.items() if k not in without}, **values} for member in kept]


def _in_place(file: SweepFile, setting: PointKeys, problem: str) -> str:
    """A problem as one of the sweep file: where it is about a key that the point does not give, with the point."""
    if problem.startswith(f"{file.path}:") or problem.startswith(f"{file.path} "):
        return problem
    place = next(iter(setting.places.values()))
    told = ", ".join(f"{name}: {value_text(value)}" for name, value in setting.values.items())
    return f"{file.place(place)}: expected keys that the rest of the file goes with, got {told}, with which {problem}"


def _value_at(training: TrainingFile, name: str) -> Any:
    """The value that a training file gives at a dotted name, as its types take it."""
    node: Any = training.given_values()
    try:
        for step in name.split("."):
            node = node[int(step)] if isinstance(node, list) else node[step]
    except (KeyError, IndexError, TypeError, ValueError):
        return _NOT_GIVEN
    return node


def _typed(training: TrainingFile, name: str, value: Any) -> Any:
    """A value as the training file's types take it; as it is written where it stands under another name there."""
    found = _value_at(training, name)
    return value if found is _NOT_GIVEN else found


def _identity(trainings: list[TrainingFile]) -> list[Any]:
    return [what_decides(training) for training in trainings]


def _alike(file: SweepFile, points: list[TrainingPoint]) -> Iterator[str]:
    """That two points are one training, or two members of a point."""
    seen: list[tuple[list[Any], TrainingPoint]] = []
    for point in points:
        identity = _identity(point.trainings)
        place = file.place(next(iter(point.setting.places.values())))
        first = next((other for known, other in seen if known == identity), None)
        if first is not None:
            yield (
                f"{place}: expected points that train differently, got {point.told}, which trains as {first.told} "
                "does; leave one of them out"
            )
        if any(identity[n] in identity[:n] for n in range(len(identity))):
            yield (
                f"{place}: expected soup members that differ at every point, got {point.told}, which makes them one; "
                "give members: 1, or leave that key out"
            )
        seen.append((identity, point))
