"""What the stages of a run left on disk, as the page reads it."""

import json
from pathlib import Path
from typing import Any

from apo_soup.runs.manifest import read_manifest
from apo_soup.runs.members import member_folders


def stage_manifests(run: Path) -> list[tuple[str, dict[str, Any]]]:
    """Name and manifest of every stage folder of a run, in pipeline order."""
    folders = [*(run / n for n in ("data", "mid", "sft", "pairs")), *member_folders(run), run / "soup", run / "merged"]
    return [(m["stage"], m) for m in map(read_manifest, folders) if m]


def trainer_logs(run: Path, names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The Trainer's log (a mapping a logged step) of those of the named stages that have one."""
    files = {name: run / name / "trainer_state.json" for name in names}
    return {n: json.loads(f.read_text())["log_history"] for n, f in files.items() if f.is_file()}
