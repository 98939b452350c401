"""What the stages of a run left on disk, read once for all that the page shows."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from apo_soup.runs.manifest import FileRecord, StageManifest, StageMetrics, read_manifest
from apo_soup.runs.members import member_folders
from apo_soup.runs.results import EvaluatedCheckpoint, evaluated_checkpoints, headline_titles, pipeline_order
from apo_soup.stored_json import Count, Form, read_json


class ReportedManifest(StageManifest):
    """A manifest with all that the page shows of a stage."""

    outputs: dict[str, FileRecord]
    metrics: StageMetrics
    seconds: float
    peak_memory_mb: Count
    command: str
    versions: dict[str, str]
    git_commit: str | None
    machine: str


class LoggedStep(Form):
    """What the Trainer logged at a step."""

    step: Count


class TrainerLog(Form):
    """What is read of trainer_state.json."""

    log_history: list[LoggedStep]


@dataclass(frozen=True)
class RunFiles:
    """A run's folder, its evaluated checkpoints and its stages' manifests by name, both in pipeline order."""

    folder: Path
    checkpoints: list[EvaluatedCheckpoint]
    manifests: dict[str, dict[str, Any]]

    @cached_property
    def by_name(self) -> dict[str, EvaluatedCheckpoint]:
        """The checkpoints by name."""
        return {checkpoint.name: checkpoint for checkpoint in self.checkpoints}

    @cached_property
    def titles(self) -> dict[str, str]:
        """A title for every headline metric, in the order of the suite."""
        return headline_titles(self.checkpoints)

    @cached_property
    def members(self) -> list[str]:
        """The soup members that have a manifest or were evaluated; kept steps of one are none."""
        names = {name for name in (*self.manifests, *self.by_name) if name.startswith("apo/") and "-at-" not in name}
        return sorted(names, key=pipeline_order)

    @cached_property
    def last(self) -> str | None:
        """The furthest model of the pipeline that was evaluated, else made."""
        for names in (self.by_name, self.manifests):
            made = [
                name for name in ("merged", "soup", *reversed(self.members), "sft", "mid", "extend") if name in names
            ]
            if made:
                return made[0]
        return None


def read_run(folder: Path) -> RunFiles:
    """Everything of a run but its logs and its sweep.

    Raises:
        UserError: results or a manifest cannot be read, are cut, empty or of another form.
    """
    return RunFiles(folder, evaluated_checkpoints(folder), dict(_stage_manifests(folder)))


def _stage_manifests(run: Path) -> list[tuple[str, dict[str, Any]]]:
    first = (run / name for name in ("data", "extend", "mid", "sft", "pairs"))
    folders = [*first, *member_folders(run), run / "soup", run / "merged"]
    manifests = (read_manifest(folder, ReportedManifest) for folder in folders)
    return [(m["stage"], m) for m in manifests if m]


def trainer_logs(run: Path, names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The Trainer's log (a mapping a logged step) of those of the named stages that have one.

    Raises:
        UserError: a log cannot be read, or is of another form.
    """
    files = {name: run / name / "trainer_state.json" for name in names}
    way = "remove the folder and run the stage again, or leave this file out"
    return {n: read_json(f, f.parent, way, TrainerLog)["log_history"] for n, f in files.items() if f.is_file()}
