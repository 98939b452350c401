"""The stage table: one row a checkpoint, for the terminal and the report."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apo_soup.runs.members import member_order
from apo_soup.runs.stage import read_manifest
from apo_soup.tables import text_table


@dataclass(frozen=True)
class Cell:
    """A score with its interval, or nothing where it was not measured."""

    value: float | None = None
    low: float | None = None
    high: float | None = None

    def text(self) -> str:
        if self.value is None:
            return "-"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]" if self.low is not None else f"{self.value:.2f}"


@dataclass(frozen=True)
class Stage:
    """One evaluated checkpoint: its results and its manifest (None for a base that no stage here made)."""

    name: str
    results: dict[str, Any]
    manifest: dict[str, Any] | None


def run_folder(recipe: Path) -> Path:
    """The run's folder, from the eval file's `output_dir` (`runs/NAME/evals`)."""
    from apo_soup.config.recipe import load

    return Path(load(recipe / "eval.yaml", "eval").need("output_dir")).parent


def evaluated(run: Path) -> list[Stage]:
    """Evaluated checkpoints in pipeline order."""
    stages = []
    for folder in (run / "evals").glob("*"):
        file = folder / "results.json"
        if file.is_file():
            results = json.loads(file.read_text())
            stages.append(Stage(results["name"], results, read_manifest(Path(results["model"]))))
    return sorted(stages, key=lambda s: place(s.name))


def place(name: str) -> tuple[int, tuple[float, float, str]]:
    """Sort key: base, mid, sft, members, soup, merged, then anything else by name."""
    known = ["base", "mid", "sft", "apo", "soup", "merged"]
    first, _, rest = name.partition("/")
    return (known.index(first) if first in known else len(known), member_order(rest or name))


def parent_of(name: str, known: list[str]) -> str | None:
    """The evaluated checkpoint that a stage was made from: a member and the soup from sft, the merge from the soup."""
    parents = {"mid": ("base",), "sft": ("mid", "base"), "apo": ("sft",), "soup": ("sft",), "merged": ("soup",)}
    return next((p for p in parents.get(name.partition("/")[0], ()) if p in known), None)


def columns(stages: list[Stage]) -> list[str]:
    """Metric names worth a column, in the order of the suite."""
    names: dict[str, None] = {}
    for stage in stages:
        for name, metric in stage.results["metrics"].items():
            if metric["headline"]:
                names.setdefault(name)
    return list(names)


def cell(stage: Stage, column: str) -> Cell:
    metric = stage.results["metrics"].get(column)
    return Cell(metric["value"], metric["low"], metric["high"]) if metric else Cell()


def short(metric: str) -> str:
    """`problems/no_think` as `no think`; the task's name is left out where the rest says enough."""
    task, _, rest = metric.partition("/")
    if rest.isdigit() or rest.endswith("/valid"):
        return f"{task} {rest.rpartition('/')[2]}"
    return (rest or task).replace("_", " ")


def summary(run: Path) -> str:
    """The closing table of a run."""
    stages = evaluated(run)
    names = columns(stages)
    header = ["stage", *map(short, names), "seconds", "peak MB"]
    rows = []
    for stage in stages:
        made = stage.manifest or {}
        cost = [str(round(made["seconds"])) if made else "-", str(made.get("peak_memory_mb", "-"))]
        rows.append([stage.name, *[cell(stage, n).text() for n in names], *cost])
    return text_table(header, rows)
