"""What walks and greedy soups name of a suite: its file, tasks and scores; and what the points of a walk name."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from apo_soup.config.choosing_keys import ChoosingKeys
from apo_soup.config.load import load
from apo_soup.config.stage_file import StageFile
from apo_soup.config.sweep import SweepFile
from apo_soup.config.swept_points import swept_points
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError


def trainings_with_names(file: SweepFile) -> Iterator[TrainingFile]:
    """The trainings of the points of a walk that may name a file or a model themselves; what the others name is looked
    at in their own file.

    Raises:
        UserError: a point is wrong, or the training file.
    """
    for point in swept_points(file):
        if any(map(_holds_text, point.setting.values.values())):
            yield from point.trainings


def _holds_text(value: object) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, str) or any(map(_holds_text, inside))


def look_at_choice(recipe: StageFile, keys: ChoosingKeys, prefix: str, at: Callable[..., Any]) -> None:
    """Look at the suite of a walk, and at the tasks and scores that it names.

    Args:
        prefix: what stands before the keys' names.
        at: calls what it is given, which raises UserError, and goes on.
    """
    at(require_in_suite, recipe, f"{prefix}eval", keys.eval, [(f"{prefix}tasks", task) for task in keys.tasks])
    scores = [(f"{prefix}guardrails.{score}", score) for score in keys.guardrails or ()]
    scores += [(f"{prefix}metric", keys.metric)] if keys.metric else []
    for named in scores:
        at(require_in_suite, recipe, f"{prefix}eval", keys.eval, [named], keys.tasks)


def require_in_suite(
    recipe: StageFile, key: str, written: str | None, named: Sequence[tuple[str, str]], asked: Sequence[str] = ()
) -> None:
    """Refuse an eval file that is not there, or lacks a task whose name, or score, a key has.

    Args:
        key: that of the eval file.
        written: its value.
        named: keys, and what they name.
        asked: the tasks that are asked, where these are not all.

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
        if not _is_of(name, known):
            told = f"expected one of the tasks of {file} ({', '.join(known)}), or a score of one, got {name}"
            raise UserError(f"{recipe.place(place)}: {told}; correct the name")
        if asked and not _is_of(name, asked):
            told = f"expected a score of one of the tasks that are asked ({', '.join(asked)}), got {name}"
            raise UserError(f"{recipe.place(place)}: {told}; add its task there, or name another")


def _is_of(name: str, tasks: Sequence[str]) -> bool:
    """Whether a name is that of one of these tasks, or of a score of one, which begins with its task."""
    return any(name == task or name.startswith(f"{task}/") for task in tasks)
