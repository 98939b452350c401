"""Scores of weighted averages, asked of `apo-soup eval` and read from what it leaves on disk."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apo_soup.config.recipe import Recipe, load
from apo_soup.errors import UserError
from apo_soup.hashing import hash_file, hash_value
from apo_soup.runs.inputs import code_hash, suite_inputs, suite_tasks

Metrics = dict[str, dict[str, Any]]


def suite_of(recipe: Recipe, part: str) -> Path:
    """The eval file that a part of a merge file names, or the one beside it; raises UserError where none is."""
    named = (recipe.values.get(part) or {}).get("eval")
    file = Path(named) if named else recipe.path.parent / "eval.yaml"
    if not file.is_file():
        raise UserError(f"{recipe.where(f'{part}.eval')}: {part} needs an eval file, and {file} is none")
    suite_tasks(load(file, "eval"))
    return file


def scores(
    suite: Path, mixes: dict[str, dict[Path, float]], output: Path, tasks: Sequence[str] = ()
) -> dict[str, Metrics]:
    """Metrics of every mix by name; what was measured before, with the same models and suite, is not measured again.

    Args:
        tasks: the suite's tasks to run; all of them when it is empty.

    Raises:
        UserError: the evaluation stopped; its own words are on the terminal.
    """
    words = [sys.executable, "-m", "apo_soup", "eval", "--config", str(suite), "--output_dir", str(output)]
    for task in tasks:
        words += ["--task", task]
    for name, parts in mixes.items():
        words += ["--mix", f"{name}:" + ",".join(f"{folder}={weight!r}" for folder, weight in parts.items())]
    code = subprocess.run(words, env=os.environ | {"PYTHONPATH": _with_project()}).returncode
    if code:
        raise UserError(f"the evaluation of {len(mixes)} averages with {suite} stopped with exit code {code}")
    return {name: json.loads((output / name / "results.json").read_text())["metrics"] for name in mixes}


def _with_project() -> str:
    root = str(Path(__file__).parent.parent)
    before = os.environ.get("PYTHONPATH")
    return f"{root}{os.pathsep}{before}" if before else root


def gains(metrics: Metrics, name: str, where: str) -> list[float]:
    """The outcomes of a metric, item by item, so turned that more is better.

    Raises:
        UserError: the suite has no such metric with items, or nobody knows which way it is better.
    """
    found = metrics.get(name, {}).get("items")
    if found is None:
        known = ", ".join(n for n, m in metrics.items() if m.get("items") is not None)
        raise UserError(f"{where}: the suite has no metric {name} with single items; it has {known}")
    if not all(map(math.isfinite, found)):
        raise UserError(f"{where}: metric {name} has items that are not finite")
    better = metrics[name]["better"]
    if better not in ("higher", "lower"):
        raise UserError(f"{where}: {name} is better neither when higher nor when lower, so nothing is chosen by it")
    return [-value for value in found] if better == "lower" else found


def suite_key(suite: Path) -> str:
    """Hash of what a suite asks and of the code that asks it."""
    return hash_value([hash_file(suite), suite_inputs(load(suite, "eval")), code_hash("merge")])
