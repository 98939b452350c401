"""Trackers that a training file names: which there are, which are installed, and where what they write is kept."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

from apo_soup.config.kinds import stage_of_file
from apo_soup.config.places import resolved, run_folder_of
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.runs.makers import STAGES_OF_A_RUN, outputs_of_files
from apo_soup.runs.stage import Stage

# The package of a tracker that is not named like it; either of two is enough.
_PACKAGES = {
    "azure_ml": ("azureml",),
    "tensorboard": ("tensorboard", "tensorboardX"),
    "flyte": ("flytekit",),
}
# Variables that were set here, and so may be set again for the next member; a person's own stay.
_SET: set[str] = set()


def named_trackers(recipe: TrainingFile) -> list[str]:
    """The trackers that a file names; none for `none`."""
    named = recipe.report_to or "none"
    return [name for name in ([named] if isinstance(named, str) else named) if name != "none"]


def missing_trackers(recipe: TrainingFile) -> list[str]:
    """Those of the named trackers that are not installed here."""
    return [name for name in named_trackers(recipe) if name != "all" and not _is_installed(name)]


def missing_note(recipe: TrainingFile) -> str | None:
    """A sentence about the named trackers that are not installed here; None where all are."""
    missing = missing_trackers(recipe)
    if not missing:
        return None
    packages = " ".join(_PACKAGES.get(name, (name,))[0] for name in missing)
    are = "is" if len(missing) == 1 else "are"
    return (
        f"report_to: {', '.join(missing)} {are} not installed, metrics stay in the run folder (pip install {packages})"
    )


def _is_installed(tracker: str) -> bool:
    return any(find_spec(package) is not None for package in _PACKAGES.get(tracker, (tracker,)))


def tracker_folder(recipe: TrainingFile, stage: Stage) -> Path:
    """Where trackers write: `logging_dir`, or `logs/STAGE` of the run; never a folder that goes when the stage ends, or
    that files in it would keep a stage from making.
    """
    if recipe.logging_dir and not _is_in_the_way(recipe):
        return Path(os.path.expanduser(recipe.logging_dir))
    return _run_folder(recipe) / "logs" / stage.name


def logging_note(recipe: TrainingFile) -> str | None:
    """A sentence where trackers cannot write to the `logging_dir` that a file names; None where they do, or where it
    names no tracker.
    """
    if not named_trackers(recipe) or not recipe.logging_dir or not _is_in_the_way(recipe):
        return None
    return (
        f"logging_dir: {recipe.logging_dir} is, holds or lies in a stage's folder, which is absent or whole; trackers "
        f"write to {_run_folder(recipe) / 'logs'}/STAGE"
    )


def _is_in_the_way(recipe: TrainingFile) -> bool:
    """Whether `logging_dir` is, holds or lies in the stage's own folder, or lies in that of another stage of the recipe
    or of the run, links followed; what a stage has not finished lies beside its folder, under a hidden name.
    """
    folder = Path(os.path.expanduser(recipe.logging_dir or "")).resolve()
    run, own = _run_folder(recipe).resolve(), Path(recipe.output_dir)
    own = resolved(own if recipe.member is None else own.parent)
    files = (output for file, output in outputs_of_files(recipe.path.parent) if stage_of_file(file) != "merge")
    stages = {own, *files, *(run / name for name in STAGES_OF_A_RUN)}
    hidden = any(parent.parent == run and parent.name.startswith(".") for parent in (folder, *folder.parents))
    return hidden or own.is_relative_to(folder) or any(folder.is_relative_to(stage) for stage in stages)


def _run_folder(recipe: TrainingFile) -> Path:
    """The run's folder, of a soup member's recipe too."""
    folder = run_folder_of(recipe)
    return folder if recipe.member is None else folder.parent


def run_name(recipe: TrainingFile, stage: Stage) -> str:
    """The name of a training in a tracker: `run_name`, or recipe, stage and what tells this training from an earlier
    one; the same when it goes on after a kill.
    """
    own = stage.name.replace("/", "-")
    if recipe.run_name:
        return recipe.run_name if recipe.member is None else f"{recipe.run_name}-{own}"
    return f"{recipe.path.absolute().parent.name}-{own}-{stage.begun_as}"


def _identity(recipe: TrainingFile, stage: Stage) -> str:
    """A training's id in wandb, which takes no path and no signs of an address."""
    name = run_name(recipe, stage).removesuffix(f"-{stage.begun_as}")
    return re.sub(r"[^\w.-]+", "-", f"{name}-{stage.begun_as}")


def keep_what_trackers_write(recipe: TrainingFile, stage: Stage) -> None:
    """Tell trackers by their variables where to write, and that a training goes on in the run that it began; those that
    a person has set stay.

    Raises:
        UserError: `logging_dir` is a file, or lies in one.
    """
    folder = tracker_folder(recipe, stage)
    trackers = set(named_trackers(recipe)).difference(missing_trackers(recipe))
    if not trackers:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(
            f"{recipe.place('logging_dir')}: expected a folder, got {folder}, which is or lies in a file; name another "
            "one"
        ) from error
    places = {
        "TENSORBOARD_LOGGING_DIR": str((folder / run_name(recipe, stage)).absolute()),
        "TRACKIO_DIR": str(folder.absolute()),
        "WANDB_DIR": str(folder.absolute()),
        "WANDB_RUN_ID": _identity(recipe, stage),
        "WANDB_RESUME": "allow",
        "WANDB_PROJECT": recipe.path.absolute().parent.name,
    }
    for name, value in places.items():
        if name in _SET or name not in os.environ:
            os.environ[name] = value
            _SET.add(name)
