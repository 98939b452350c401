"""What the stages of a recipe read of each other: a stage waits for nothing else, and nothing else is made for it."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apo_soup.cli.steps import STEPS, keys_of_file, order
from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import load
from apo_soup.config.merge import MergeFile, SoupKeys, SweepKeys
from apo_soup.config.mixture import is_suite
from apo_soup.config.places import resolved, run_folder_of
from apo_soup.config.stage_file import StageFile
from apo_soup.config.sweep import SweepFile
from apo_soup.config.swept_points import swept_points
from apo_soup.config.training import TrainingFile
from apo_soup.runs.members import FOLDER
from apo_soup.runs.outputs import output_folders

# The folders of a merge file that its steps make.
_MADE = {"soup": "soup", "merge": "merged", "sweep": "sweep"}


def steps_needed(recipe: Path, stage: str, words: list[str]) -> set[str]:
    """The steps of a recipe that `stage` needs, and itself: those that it reads, those that these read, and so on. An
    evaluation comes behind all that leads to the last model, whatever its suite names.

    Args:
        words: laid over the stage's own file.

    Raises:
        UserError: a file of the recipe is wrong.
    """
    needed = {stage}
    for name in reversed(order(stage)):
        if name in needed and (recipe / STEPS[name].file).is_file():
            needed |= steps_read(recipe, name, words if name == stage else [])
            needed |= {*STEPS[name].needs} if name == "eval" else set()
    return needed


def steps_read(recipe: Path, name: str, words: list[str]) -> set[str]:
    """The steps that must come before one of these names and whose folders its file names.

    Args:
        words: laid over its file.

    Raises:
        UserError: a file of the recipe is wrong.
    """
    file = _file(recipe, name, words)
    return _makers(recipe, name, file, {part for text in _texts(file, name) for part in (text, *text.split("+"))})


def makers_of(recipe: Path, name: str, path: str) -> set[str]:
    """The steps that must come before one of these names, and that make a folder of this path, or what is in it.

    Raises:
        UserError: a file of the recipe is wrong.
    """
    return _makers(recipe, name, _file(recipe, name, []), {path})


def _makers(recipe: Path, name: str, file: StageFile, texts: set[str]) -> set[str]:
    before = [each for each in order(name) if each != name and (recipe / STEPS[each].file).is_file()]
    return {
        each
        for each in before
        for folder in _folders(_file(recipe, each, []), each)
        if any(_leads_into(text, base, folder) for text in texts for base in _bases(file))
    }


def _file(recipe: Path, name: str, words: list[str]) -> StageFile:
    file = STEPS[name].file
    return load(recipe / file, stage_of_file(Path(file)) or "", keys_of_file(STEPS[name], words))


def _folders(file: StageFile, name: str) -> list[Path]:
    """The folders that a step makes."""
    if isinstance(file, MergeFile):
        return [Path(file.output_dir) / _MADE[name]]
    return [*output_folders(file).values(), Path(file.output_dir)]


def _texts(file: StageFile, name: str) -> Iterator[str]:
    """Every text of a file that may name what a step reads."""
    suite = file.path.parent / "eval.yaml"
    if isinstance(file, MergeFile):
        soup, sweep = file.soup or SoupKeys(), file.sweep or SweepKeys()
        if name == "soup" or (name == "merge" and file.one_pass):
            members = soup.members if isinstance(soup.members, list) else ["1"]
            yield from (f"apo/{member}" if FOLDER.fullmatch(member) else member for member in members)
        suites = {"soup": soup.eval or suite if soup.members == "greedy" else None, "sweep": sweep.eval or suite}
        yield from _suite_texts(suites.get(name))
        part = file.soup if name == "soup" else file.merge
        yield from sweep.models if name == "sweep" else _all_texts(part.given_values() if part else None)
        return
    if isinstance(file, SweepFile):
        yield from filter(None, [file.against])
        yield from _suite_texts(file.eval or suite)
        for point in swept_points(file):
            for training in point.trainings:
                yield from _texts(training, file.stage)
        return
    yield from _all_texts(file.given_values())
    for entry in (file.dataset_mixture.decontaminate or []) if isinstance(file, TrainingFile) else ():
        if is_suite(entry):
            yield from _suite_texts(str(entry))


def _suite_texts(suite: str | Path | None) -> Iterator[str]:
    """The texts of an eval file that say which rows its tasks read."""
    if suite is not None and Path(suite).is_file():
        yield from _all_texts([task.given_values() for task in load(suite, "eval").tasks])


def _all_texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, (list, dict)):
        for each in node.values() if isinstance(node, dict) else node:
            yield from _all_texts(each)


def _bases(file: StageFile) -> list[Path]:
    """Where a name of a file may begin: in a merge with the name of a stage."""
    return [Path(), run_folder_of(file)] if file.kind == "merge" else [Path()]


def _leads_into(text: str, base: Path, folder: Path) -> bool:
    """Whether a text is a path of a folder, or of something in it; or a pattern that may find one."""
    if not text or "\n" in text or "{" in text:
        return False
    parts = Path(os.path.expanduser(text)).parts
    fixed = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    place, made = resolved(base.joinpath(*parts[:fixed])), resolved(folder)
    return place == made or made in place.parents or (fixed < len(parts) and place in made.parents)
