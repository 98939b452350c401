"""The results that an evaluation left in a run's folder, by checkpoint and metric, and the closing table of a run."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from apo_soup.config.load import load
from apo_soup.config.places import run_folder_of
from apo_soup.errors import UserError
from apo_soup.runs.manifest import model_manifest
from apo_soup.runs.members import member_order
from apo_soup.stored_json import Count, Form, read_json
from apo_soup.tables import text_table

PIPELINE = ("base", "extend", "mid", "sft", "apo", "soup", "merged")


class StoredScore(Form):
    """A metric in results.json."""

    value: float | None
    low: float | None
    high: float | None
    n: Count
    better: Literal["higher", "lower"] | None
    headline: bool
    items: list[float] | None = None


class TaskRecord(Form):
    """A task in results.json."""

    kind: str
    rows: str
    metrics: list[str]
    notes: list[str] | None = None


class Sample(Form):
    """A question with its answer in results.json."""

    task: str
    mode: str
    question: str
    answer: str
    right: bool | None


class StoredResults(Form):
    """What is read of results.json; docs/results.schema.json tells all of it."""

    name: str
    model: str
    model_hash: str
    suite_hash: str
    engine: dict[str, str]
    tasks: dict[str, TaskRecord]
    metrics: dict[str, StoredScore]
    samples: list[Sample]


@dataclass(frozen=True)
class Cell:
    """A score with its 95 % interval, or nothing where it was not measured."""

    value: float | None = None
    low: float | None = None
    high: float | None = None

    def text(self) -> str:
        """`0.75 [0.60, 0.86]`, or `-`.

        >>> Cell(0.75, 0.6, 0.86).text()
        '0.75 [0.60, 0.86]'
        """
        if self.value is None:
            return "-"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]" if self.low is not None else f"{self.value:.2f}"


@dataclass(frozen=True)
class EvaluatedCheckpoint:
    """One evaluated checkpoint: its results.json and its manifest (None for a base that no stage here made)."""

    name: str
    results: dict[str, Any]
    manifest: dict[str, Any] | None


def run_folder(recipe: Path) -> Path:
    """The run's folder, from the eval file's `output_dir` (`runs/NAME/evals`).

    Raises:
        UserError: the eval file is wrong.
    """
    return run_folder_of(load(recipe / "eval.yaml", "eval"))


def evaluated_checkpoints(run: Path) -> list[EvaluatedCheckpoint]:
    """Evaluated checkpoints of a run in pipeline order; none where nothing was evaluated.

    Raises:
        UserError: results cannot be read, are cut, empty or none.
    """
    checkpoints = []
    for file in (run / "evals").glob("*/results.json"):
        results = evaluation_results(file)
        checkpoints.append(EvaluatedCheckpoint(results["name"], results, model_manifest(Path(results["model"]))))
    return sorted(checkpoints, key=lambda c: pipeline_order(c.name))


def evaluation_results(file: Path) -> dict[str, Any]:
    """What an evaluation left.

    Raises:
        UserError: the file cannot be read, is cut, empty or no results.
    """
    way = f"remove {file.parent} and run the evaluation again"
    results = read_json(file, file.parent, way, StoredResults)
    lacking = [name for task in results["tasks"].values() for name in task["metrics"] if name not in results["metrics"]]
    if lacking:
        raise UserError(f"{file.parent}: {file}: expected a score {lacking[0]}, got none; {way}")
    return results


def pipeline_order(name: str) -> tuple[int, tuple[float, float, str]]:
    """Sort key: base, extend, mid, sft, members, soup, merged, then anything else by name.

    >>> sorted(["soup", "apo/10", "apo/2", "base"], key=pipeline_order)
    ['base', 'apo/2', 'apo/10', 'soup']
    """
    first, _, rest = name.partition("/")
    return (PIPELINE.index(first) if first in PIPELINE else len(PIPELINE), member_order(rest or name))


def parent_checkpoint(name: str, evaluated: list[str]) -> str | None:
    """The evaluated checkpoint that a stage was made from: a member and the soup from sft, the merge from the soup."""
    before_sft = ("mid", "extend", "base")
    parents = {"extend": before_sft[2:], "mid": before_sft[1:], "sft": before_sft}
    parents |= {"apo": ("sft",), "soup": ("sft",), "merged": ("soup",)}
    return next((p for p in parents.get(name.partition("/")[0], ()) if p in evaluated), None)


def headline_metrics(checkpoints: list[EvaluatedCheckpoint]) -> list[str]:
    """Metric names worth a column, in the order of the suite."""
    names: dict[str, None] = {}
    for checkpoint in checkpoints:
        for name, metric in checkpoint.results["metrics"].items():
            if metric["headline"]:
                names.setdefault(name)
    return list(names)


def score_cell(checkpoint: EvaluatedCheckpoint, metric: str) -> Cell:
    """A checkpoint's score of a metric; an empty cell where it was not measured."""
    score = checkpoint.results["metrics"].get(metric)
    return Cell(score["value"], score["low"], score["high"]) if score else Cell()


# Titles of scores whose names say another word.
_TITLES = {"obedience": "mode kept"}


def short_name(metric: str, kind: str = "") -> str:
    """A metric's name as a column's title; the task is left out where the rest, or the task's kind, says enough.

    >>> [short_name(m) for m in ("problems/no_think", "needle/1536", "preference", "turns/think/kept")]
    ['no think', 'needle 1536', 'preference', 'turns think']
    >>> short_name("needle/1536", "recall")
    'recall 1536'
    >>> short_name("requests/no_think/declined", "safety")
    'declined, no think'
    """
    task, _, rest = metric.partition("/")
    if kind == "recall" and rest:
        return f"recall {rest}".replace("_", " ")
    if kind == "safety" and rest:
        mode, _, what = rest.partition("/")
        return f"{what}, {mode}".replace("_", " ")
    if rest.isdigit() or rest.endswith("/valid"):
        return f"{task} {rest.rpartition('/')[2]}"
    if rest.endswith("/kept"):
        return f"{task} {rest.removesuffix('/kept')}".replace("_", " ")
    return _TITLES.get(rest, (rest or task).replace("_", " "))


def headline_titles(checkpoints: list[EvaluatedCheckpoint]) -> dict[str, str]:
    """A title of its own for every headline metric, in the order of the suite."""
    tasks = [task for checkpoint in checkpoints for task in checkpoint.results["tasks"].values()]
    return column_titles(headline_metrics(checkpoints), {name: t["kind"] for t in tasks for name in t["metrics"]})


def column_titles(metrics: list[str], kinds: Mapping[str, str] | None = None) -> dict[str, str]:
    """A title of its own for every metric of a table, as short as that allows: where two tasks of a kind would share
    one, their names stand before it.

    >>> column_titles(["easy/think", "hard/think", "easy/obedience"])
    {'easy/think': 'easy think', 'hard/think': 'hard think', 'easy/obedience': 'mode kept'}

    Args:
        kinds: the kinds of the metrics' tasks, as far as they are known.
    """
    titles = {metric: short_name(metric, (kinds or {}).get(metric, "")) for metric in metrics}
    for title in (lambda metric: " ".join(metric.replace("_", " ").split("/", 1)), str):
        shared = {short for short, times in Counter(titles.values()).items() if times > 1}
        titles = {metric: title(metric) if short in shared else short for metric, short in titles.items()}
    return titles


def summary(checkpoints: list[EvaluatedCheckpoint]) -> str:
    """The closing table of a run in plain text: a row a checkpoint with scores, seconds and peak memory."""
    titles = headline_titles(checkpoints)
    header = ["stage", *titles.values(), "seconds", "peak MB"]
    rows = []
    for checkpoint in checkpoints:
        manifest = checkpoint.manifest
        cost = [str(round(manifest["seconds"])), str(manifest.get("peak_memory_mb", "-"))] if manifest else ["-", "-"]
        rows.append([checkpoint.name, *[score_cell(checkpoint, n).text() for n in titles], *cost])
    return text_table(header, rows)
