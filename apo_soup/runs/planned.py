"""The plan that was made of a run, kept beside its stages until each has run and takes its figures along."""

from pathlib import Path
from typing import Any

from apo_soup.config.places import run_folder_of
from apo_soup.config.training import TrainingFile
from apo_soup.hashing import hash_value
from apo_soup.runs.manifest import write_json
from apo_soup.stored_json import Form, OtherFormError, json_of_form

PLAN = "plan.json"
# The figures of a training that a plan foretells.
FIGURES = (
    "rows", "tokens", "trained_tokens", "sequences", "steps", "warmup_steps", "global_batch", "peak_memory_bytes",
    "disk_bytes", "seconds",
)  # fmt: skip


class PlannedStage(Form):
    """A training's figures, and the hash of the keys they are of."""

    keys: str
    rows: int | None
    tokens: int | None
    trained_tokens: int | None
    sequences: int | None
    steps: int | None
    warmup_steps: int | None
    global_batch: int | None
    peak_memory_bytes: int | None
    disk_bytes: int | None
    seconds: float | None


class StoredPlan(Form):
    """What is read of plan.json."""

    stages: dict[str, PlannedStage]


def keys_hash(recipe: TrainingFile) -> str:
    """The hash of the keys of a training that decide on its result."""
    return hash_value(recipe.deciding_values())


def run_of(recipe: TrainingFile) -> str:
    """The folder of the run that a training, or a soup member's, works in."""
    folder = run_folder_of(recipe)
    return str(folder if recipe.member is None else folder.parent)


def keep_plan(run: Path, stages: dict[str, dict[str, Any]]) -> None:
    """Write the figures of a run's trainings, with their `keys`, into its folder."""
    run.mkdir(parents=True, exist_ok=True)
    write_json(run / PLAN, {"stages": stages})


def planned(recipe: TrainingFile, name: str) -> dict[str, Any] | None:
    """The figures that were planned for a training with these keys; None where no plan was made, or of other keys. A
    plan that cannot be read is as good as none.
    """
    try:
        stages: dict[str, dict[str, Any]] = json_of_form(Path(run_of(recipe)) / PLAN, StoredPlan)["stages"]
    except (OSError, OtherFormError):
        return None
    found = stages.get(name)
    if found is None or found["keys"] != keys_hash(recipe):
        return None
    return {figure: found[figure] for figure in FIGURES}
