"""What walks and greedy soups name of a suite: its file, tasks and scores; and what the points of a walk name."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from apo_soup.config.choosing_keys import ChoosingKeys
from apo_soup.config.eval import EvalFile
from apo_soup.config.load import load
from apo_soup.config.score_names import score_fault
from apo_soup.config.stage_file import StageFile
from apo_soup.config.sweep import SweepFile
from apo_soup.config.swept_points import PointKeys, settings_of, swept_points
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError


def trainings_with_names(file: SweepFile) -> Iterator[TrainingFile]:
    """The trainings of the points of a walk that may name a file or a model themselves; what the others name is looked
    at in their own file.

    Raises:
        UserError: a point is wrong, or the training file.
    """
    if not any(_names_something(setting) for setting in settings_of(file)):
        return
    for point in swept_points(file):
        if _names_something(point.setting):
            yield from point.trainings


def _names_something(setting: PointKeys) -> bool:
    return any(map(_holds_text, setting.values.values()))


def _holds_text(value: object) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, str) or any(map(_holds_text, inside))


def look_at_choice(recipe: StageFile, keys: ChoosingKeys, prefix: str, at: Callable[..., Any]) -> None:
    """Look at the suite of a walk, and at the tasks and scores that it names.

    Args:
        prefix: what stands before the keys' names.
        at: calls what it is given, which raises UserError, and goes on.
    """
    at(require_tasks, recipe, f"{prefix}eval", keys.eval, [(f"{prefix}tasks", task) for task in keys.tasks])
    scores = [(f"{prefix}guardrails.{score}", score) for score in keys.guardrails or ()]
    scores += [(f"{prefix}metric", keys.metric)] if keys.metric else []
    for place, name in scores:
        at(require_score, recipe, (f"{prefix}eval", keys.eval), place, name, keys.tasks)


def require_tasks(recipe: StageFile, key: str, written: str | None, named: Sequence[tuple[str, str]]) -> EvalFile:
    """The eval file that a key names, or the one beside the recipe; one that is not there, or lacks a task, is refused.

    Args:
        key: that of the eval file.
        written: its value.
        named: keys, and the tasks that they name.

    Raises:
        UserError: with what is not there.
    """
    file = Path(written) if written else recipe.path.parent / "eval.yaml"
    if not file.is_file():
        told = f"expected an eval file, got {file}, which is not there; add it, or name another one"
        raise UserError(f"{recipe.place(key)}: {told}")
    suite = load(file, "eval")
    known = [task.name for task in suite.tasks]
    for place, name in named:
        if name not in known:
            told = f"expected one of the tasks of {file} ({', '.join(known)}), got {name}; correct the name"
            raise UserError(f"{recipe.place(place)}: {told}")
    return suite


def require_score(
    recipe: StageFile, suite: tuple[str, str | None], place: str, name: str, asked: Sequence[str] = ()
) -> None:
    """Refuse a score that no task of an eval file has.

    Args:
        suite: key and value of the eval file.
        place: the key that names the score.
        asked: the tasks that are asked, where these are not all.

    Raises:
        UserError: with what the tasks have.
    """
    tasks = require_tasks(recipe, *suite, []).tasks
    fault = score_fault(name, tasks)
    if fault:
        raise UserError(f"{recipe.place(place)}: {fault}")
    if asked and score_fault(name, [task for task in tasks if task.name in asked]):
        told = f"expected a score of one of the tasks that are asked ({', '.join(asked)}), got {name}"
        raise UserError(f"{recipe.place(place)}: {told}; add its task there, or name another")
