"""Scores of weighted averages, asked of `apo-soup eval` and read from what it leaves on disk."""

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apo_soup.config.load import load
from apo_soup.config.merge import MergeFile
from apo_soup.config.places import places_looked_at
from apo_soup.errors import UserError
from apo_soup.hashing import hash_file, hash_value
from apo_soup.resources import project_environment
from apo_soup.runs.code_hash import code_hash
from apo_soup.runs.results import evaluation_results
from apo_soup.runs.suite_inputs import suite_inputs

# What `apo-soup eval` runs: a program of its own here, which is started and never imported.
EVALUATION = "apo_soup.evals.program"
Metrics = dict[str, dict[str, Any]]


def eval_file(recipe: MergeFile, key: str, named: str | None) -> Path:
    """The eval file that a key of a merge file names, or the one beside it.

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
        UserError: the evaluation stopped; its own words are on the terminal.
    """
    words = [sys.executable, "-m", "apo_soup", "eval", "--config", str(suite), "--output_dir", str(output)]
    for task in tasks:
        words += ["--task", task]
    for name, parts in mixes.items():
        words += ["--mix", f"{name}:" + ",".join(f"{folder}={weight!r}" for folder, weight in parts.items())]
    code = subprocess.run(words, env=project_environment()).returncode
    if code:
        raise UserError(
            f"{suite}: expected scores of {len(mixes)} averages, got exit code {code} from the evaluation; its own "
            "words are above"
        )
    found = [evaluation_results(file) for file in output.glob("mix-*/results.json")]
    by_name = {results["name"]: results["metrics"] for results in found}
    return {name: by_name[f"mix/{name}"] for name in mixes}


def item_gains(metrics: Metrics, name: str, where: str) -> list[float]:
    """The outcomes of a metric, item by item, the sign turned where less is better, so that more always is.

    Raises:
        UserError: the suite has no such metric with items, or nobody knows which way it is better.
    """
    items = metrics.get(name, {}).get("items")
    if items is None:
        known = ", ".join(n for n, m in metrics.items() if m.get("items") is not None)
        raise UserError(
            f"{where}.metric: expected one of {known}, which keep single items, got {name}; name one of these"
        )
    if not all(map(math.isfinite, items)):
        raise UserError(f"{where}.metric: expected finite scores of {name}, got NaN or infinity; choose another metric")
    better = metrics[name]["better"]
    if better not in ("higher", "lower"):
        raise UserError(
            f"{where}.metric: expected a score that is better when higher or lower, got {name}, which is neither; "
            "choose another metric"
        )
    return [-value for value in items] if better == "lower" else items


def suite_key(suite: Path, asking: str) -> str:
    """Hash of what a suite asks and of the code that asks it.

    Args:
        asking: the module that asks, its `__name__`.

    Raises:
        UserError: a file or folder that it names is not there.
    """
    inputs = suite_inputs(load(suite, "eval")) | {"code": code_hash(EVALUATION)}
    return hash_value([hash_file(suite), inputs, code_hash(asking)])
