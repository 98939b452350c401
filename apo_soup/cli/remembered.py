"""The overrides that a run's stages were made with: `arguments.json` in the run's folder."""

import json
from pathlib import Path

from apo_soup.cli.steps import Step
from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import load
from apo_soup.config.places import run_folder_of
from apo_soup.runs.manifest import write_json
from apo_soup.runs.secrets import groups_without_secrets


def arguments_file(recipe: Path, step: Step) -> Path:
    """Where a run remembers the overrides that its stages were made with."""
    return run_folder_of(load(recipe / step.file, stage_of_file(Path(step.file)) or "")) / "arguments.json"


def remembered(file: Path, name: str) -> list[str]:
    """The overrides a stage was last made with, so that a later stage does not make it again without them."""
    words: list[str] = json.loads(file.read_text()).get(name, []) if file.is_file() else []
    return words


def remember(file: Path, name: str, words: list[str]) -> None:
    """Keep a stage's overrides beside the run, without those that hold a secret."""
    known = json.loads(file.read_text()) if file.is_file() else {}
    words = groups_without_secrets(words)
    if known.get(name, []) != words:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {**known, name: words})
