"""What a run has on disk: the folder of each stage, since when, who is at work on it; and what its trackers wrote."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from apo_soup.config.kinds import STAGE_OF_FILE, stage_name, stage_of_file
from apo_soup.config.load import load
from apo_soup.config.places import run_folder_of
from apo_soup.config.stage_file import StageFile
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.progress import clock
from apo_soup.runs.lock import worker_of
from apo_soup.runs.manifest import MANIFEST, read_manifest
from apo_soup.runs.outputs import output_folders
from apo_soup.runs.put_in_place import hidden_sibling
from apo_soup.runs.sources import file_states

_EVENTS = "events.out.tfevents*"


@dataclass(frozen=True)
class StageFolder:
    """One folder of a run: the stage's name, the file that asks for it, whether it is there and when it was made, who
    is at work on it (empty: nobody), and what is wrong with it.
    """

    stage: str
    file: str
    folder: str
    made: str = ""
    worker: str = ""
    begun: bool = False
    problem: str = ""


def files_of_stages(recipe: Path) -> list[Path]:
    """The stage files of a recipe, in the order of the stages."""
    order = list(STAGE_OF_FILE)
    found = [file for file in sorted(recipe.glob("*.yaml")) if stage_of_file(file)]
    return sorted(found, key=lambda file: order.index(stage_name(file)))


def stage_folders(recipe: Path) -> Iterator[StageFolder]:
    """The folders that a recipe's files ask for, as they are now; a file that is wrong stands there with its fault."""
    for file in files_of_stages(recipe):
        try:
            loaded = load(file, stage_of_file(file) or "")
            folders = _folders(loaded)
        except UserError as error:
            yield StageFolder(file.stem, file.name, "", problem=str(error))
            continue
        for name, folder in folders.items():
            yield _folder_now(name, file, folder)


def _folders(loaded: StageFile) -> dict[str, Path]:
    return {"eval": Path(loaded.output_dir)} if loaded.kind == "eval" else output_folders(loaded)


def _folder_now(name: str, file: Path, folder: Path) -> StageFolder:
    try:
        made = _evaluated(folder) if name == "eval" else _made(folder)
        problem = ""
    except UserError as error:
        made, problem = "", str(error)
    begun = name != "eval" and hidden_sibling(folder, "partial").is_dir()
    worker = _evaluating(folder) if name == "eval" else worker_of(folder)
    return StageFolder(name, file.name, str(folder), made, worker or "", begun, problem)


def _evaluating(folder: Path) -> str | None:
    """Who evaluates: each model's results have a lock of their own."""
    results = (folder / lock.name.removeprefix(".").removesuffix(".lock") for lock in sorted(folder.glob(".*.lock")))
    return next(filter(None, map(worker_of, results)), None)


def _made(folder: Path) -> str:
    manifest = read_manifest(folder)
    if manifest is None:
        return ""
    took = manifest.get("seconds", 0.0)
    return f"{_moment(file_states([folder / MANIFEST], str(folder))[0].mtime_ns)}, took {clock(took)}"


def _evaluated(folder: Path) -> str:
    results = file_states(list(folder.glob("*/results.json")), str(folder))
    if not results:
        return ""
    count = len(results)
    return f"{_moment(max(one.mtime_ns for one in results))}, {count} checkpoint{'' if count == 1 else 's'}"


def _moment(mtime_ns: int) -> str:
    return datetime.fromtimestamp(mtime_ns / 1e9).astimezone().strftime("%Y-%m-%d %H:%M")


def run_of_recipe(recipe: Path) -> Path | None:
    """The folder of a recipe's run; None where no file of it can be read."""
    for file in files_of_stages(recipe):
        try:
            if stage_of_file(file) != "data":
                return run_folder_of(load(file, stage_of_file(file) or ""))
        except UserError:
            continue
    return None


def tracker_commands(recipe: Path) -> list[str]:
    """The commands that show what TensorBoard was told of a recipe's trainings; none where it was told nothing."""
    run = run_of_recipe(recipe)
    places = [] if run is None else [run / "logs"]
    for file in files_of_stages(recipe):
        try:
            loaded = load(file, stage_of_file(file) or "")
        except UserError:
            continue
        if isinstance(loaded, TrainingFile) and loaded.logging_dir:
            places.append(Path(loaded.logging_dir).expanduser())
    with_events = [place for place in dict.fromkeys(places) if next(place.rglob(_EVENTS), None)]
    return [f"tensorboard --logdir {shlex.quote(str(place))}" for place in with_events]
