"""The arguments that a stage of a run was made with, of the command line and beside its file."""

import json
import shlex
from pathlib import Path

from apo_soup.cli.steps import STEPS, Step
from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import load
from apo_soup.config.places import run_folder_of
from apo_soup.config.stage_file import StageFile
from apo_soup.runs.arguments import arguments_of
from apo_soup.runs.manifest import read_manifest
from apo_soup.runs.model_files import changed_file
from apo_soup.runs.outputs import output_folders

# The folder of a step of a merge file.
_MERGE_FOLDERS = {"soup": "soup", "merge": "merged", "sweep": "sweep"}


def arguments_made_with(recipe: Path, name: str) -> tuple[str, bool] | None:
    """The arguments that the folders of a step were made with, and whether their manifests say so; else the file did in
    which releases before remembered them. None where there were none, or where a folder is not there, or not whole.
    """
    step = STEPS[name]
    file = _stage_file(recipe, step)
    folders = output_folders(file)
    if file.kind == "merge":
        folders = {n: f for n, f in folders.items() if n == _MERGE_FOLDERS.get(name)}
    manifests = {folder: read_manifest(folder) for folder in folders.values()}
    whole = [m for folder, m in manifests.items() if m is not None and not changed_file(folder, m)]
    if not whole or len(whole) < len(manifests):
        return None
    if any("arguments" not in manifest for manifest in whole):
        words = _remembered(run_folder_of(file) / "arguments.json", name)
        return (shlex.join(words), False) if words else None
    told = list(dict.fromkeys(filter(None, map(arguments_of, whole))))
    return ("; ".join(told), True) if told else None


def _stage_file(recipe: Path, step: Step) -> StageFile:
    return load(recipe / step.file, stage_of_file(Path(step.file)) or "")


def _remembered(file: Path, name: str) -> list[str]:
    try:
        words = json.loads(file.read_text()).get(name, [])
    except (OSError, ValueError, AttributeError):
        return []
    return [str(word) for word in words] if isinstance(words, list) else []
