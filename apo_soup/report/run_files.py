"""What the stages of a run left on disk, as the page reads it."""

from pathlib import Path
from typing import Any

from apo_soup.runs.manifest import FileRecord, StageManifest, StageMetrics, read_manifest
from apo_soup.runs.members import member_folders
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


def stage_manifests(run: Path) -> list[tuple[str, dict[str, Any]]]:
    """Name and manifest of every stage folder of a run, in pipeline order.

    Raises:
        UserError: a manifest is cut, empty or of another form.
    """
    folders = [*(run / n for n in ("data", "mid", "sft", "pairs")), *member_folders(run), run / "soup", run / "merged"]
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
