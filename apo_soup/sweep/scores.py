"""Scores of models and of weighted averages, asked of `apo-soup eval` and read from what it leaves on disk."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apo_soup.children import run_program
from apo_soup.config.load import load
from apo_soup.config.places import places_looked_at
from apo_soup.config.stage_file import StageFile
from apo_soup.errors import UserError
from apo_soup.hashing import hash_value
from apo_soup.resources import project_environment
from apo_soup.runs.code_hash import code_hash
from apo_soup.runs.results import column_titles, evaluation_results
from apo_soup.runs.suite_inputs import suite_inputs
from apo_soup.stops import StopAsked, ending_signals

# What `apo-soup eval` runs: a program of its own here, which is started and never imported.
EVALUATION = "apo_soup.evals.program"
Metrics = dict[str, dict[str, Any]]


class PointFailed(UserError):
    """A point of a walk whose training, evaluation or score failed, which says nothing of the others."""


def eval_file(recipe: StageFile, key: str, named: str | None) -> Path:
    """The eval file that a key of a stage file names, or the one beside it.

    Raises:
        UserError: none is there.
    """
    file = Path(named) if named else recipe.path.parent / "eval.yaml"
    if not file.is_file():
        looked = places_looked_at(named, recipe.path.parent) if named else "no eval.yaml lies beside the file"
        raise UserError(
            f"{recipe.place(key)}: expected an eval file, got {file}, which is not there ({looked}); name an eval file"
        )
    load(file, "eval")
    return file


def mix_metrics(
    suite: Path, mixes: dict[str, dict[Path, float]], output: Path, tasks: Sequence[str] = ()
) -> dict[str, Metrics]:
    """Metrics of every mix by name; what was measured before, with the same models and suite, is not measured again.

    Args:
        mixes: by name, each model folder's weight in the average.
        output: where the evaluation leaves the results of every mix.
        tasks: the suite's tasks to run; all of them when it is empty.

    Raises:
        PointFailed: the evaluation stopped; its own words are on the terminal.
        UserError: what it left cannot be read.
        StopAsked: a signal ended it.
    """
    if not mixes:
        return {}
    words: list[str] = []
    for name, parts in mixes.items():
        words += ["--mix", f"{name}:" + ",".join(f"{folder}={weight!r}" for folder, weight in parts.items())]
    _evaluate(suite, output, tasks, words, f"{len(mixes)} averages")
    by_name = _found_in(output, "mix-*")
    return {name: by_name[f"mix/{name}"] for name in mixes}


def model_metrics(suite: Path, model: str, name: str, output: Path, tasks: Sequence[str] = ()) -> Metrics:
    """Metrics of one model; what was measured before is not measured again.

    Args:
        model: its folder, or its id of the Hub.
        name: what its results go by.
        output: as `mix_metrics` takes it, and `tasks`.

    Raises:
        PointFailed: the evaluation stopped; its own words are on the terminal.
        UserError: what it left cannot be read.
        StopAsked: a signal ended it.
    """
    _evaluate(suite, output, tasks, [f"--models={json.dumps({name: model})}"], name)
    return _found_in(output, "[!.]*")[name]


def _evaluate(suite: Path, output: Path, tasks: Sequence[str], words: list[str], what: str) -> None:
    command = [sys.executable, "-m", "apo_soup", "eval", "--config", str(suite), "--output_dir", str(output)]
    for task in tasks:
        command += ["--task", task]
    code = run_program([*command, *words], "the evaluation", environment=project_environment())
    if code - 128 in ending_signals():
        raise StopAsked(code - 128, None)
    if code:
        raise PointFailed(
            f"{suite}: expected scores of {what}, got exit code {code} from the evaluation; its own words are above"
        )


def _found_in(output: Path, pattern: str) -> dict[str, Metrics]:
    """The metrics in a folder of results, by the models' names."""
    found = [evaluation_results(file) for file in output.glob(f"{pattern}/results.json")]
    return {results["name"]: results["metrics"] for results in found}


def metrics_of_members(several: Sequence[Metrics]) -> Metrics:
    """The metrics of several models on the same items as those of one: each item's outcome is the mean of theirs.

    >>> one, two = ({"x": {"value": v, "items": [v, 1.0], "better": "higher"}} for v in (0.0, 1.0))
    >>> metrics_of_members([one, two])["x"]
    {'value': 0.5, 'items': [0.5, 1.0], 'better': 'higher'}
    """
    first = several[0]
    means: Metrics = {}
    for name, metric in first.items():
        others = [metrics[name] for metrics in several if name in metrics]
        means[name] = metric | {"value": _mean([other["value"] for other in others])}
        if all(other.get("items") is not None for other in others):
            means[name]["items"] = [_mean(outcomes) for outcomes in zip(*(o["items"] for o in others), strict=True)]
    return means


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def item_gains(metrics: Metrics, name: str, where: str) -> list[float]:
    """The outcomes of a metric, item by item, the sign turned where less is better, so that more always is.

    Args:
        where: the place of the key that names the metric.

    Raises:
        PointFailed: an outcome is not finite.
        UserError: the suite has no such metric with items, or nobody knows which way it is better.
    """
    items = metrics.get(name, {}).get("items")
    if items is None:
        known = ", ".join(n for n, m in metrics.items() if m.get("items") is not None)
        raise UserError(f"{where}: expected one of {known}, which keep single items, got {name}; name one of these")
    if not all(map(math.isfinite, items)):
        raise PointFailed(f"{where}: expected finite scores of {name}, got NaN or infinity; choose another metric")
    better = metrics[name]["better"]
    if better not in ("higher", "lower"):
        raise UserError(
            f"{where}: expected a score that is better when higher or lower, got {name}, which is neither; "
            "choose another metric"
        )
    return [-value for value in items] if better == "lower" else items


def metric_titles(suite: Path, metrics: Sequence[str]) -> dict[str, str]:
    """The metrics' titles in pictures, by the kinds of the suite's tasks.

    Raises:
        UserError: the suite is not a valid eval file.
    """
    kinds = {task.name: task.kind for task in load(suite, "eval").tasks}
    return column_titles([*metrics], {metric: kinds.get(metric.partition("/")[0], "") for metric in metrics})


def suite_values(suite: Path) -> dict[str, Any]:
    """The keys of a suite that decide what it asks, for the configuration of a stage that asks it.

    Raises:
        UserError: the suite is not a valid eval file.
    """
    return {"suite": load(suite, "eval").deciding_values()}


def suite_reads(suite: Path, asking: str) -> dict[str, str]:
    """Content hashes by label of what a suite reads and of the code that asks it.

    Args:
        asking: the module that asks, its `__name__`.

    Raises:
        UserError: a file or folder that it names is not there.
    """
    return suite_inputs(load(suite, "eval")) | {"code": hash_value([code_hash(EVALUATION), code_hash(asking)])}
