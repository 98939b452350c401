"""What the stages of a run left on disk, as the page reads it."""

from pathlib import Path
from typing import Any

from apo_soup.errors import read_json
from apo_soup.runs.manifest import read_manifest
from apo_soup.runs.members import member_folders


def stage_manifests(run: Path) -> list[tuple[str, dict[str, Any]]]:
    """Name and manifest of every stage folder of a run, in pipeline order."""
    folders = [*(run / n for n in ("data", "mid", "sft", "pairs")), *member_folders(run), run / "soup", run / "merged"]
    return [(m["stage"], m) for m in map(read_manifest, folders) if m]


def trainer_logs(run: Path, names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The Trainer's log (a mapping a logged step) of those of the named stages that have one."""
    files = {name: run / name / "trainer_state.json" for name in names}
    way = "remove the folder and run the stage again, or leave this file out"
    return {n: read_json(f, f.parent, way).get("log_history", []) for n, f in files.items() if f.is_file()}
