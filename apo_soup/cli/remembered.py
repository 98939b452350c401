"""The arguments that folders of a run were made with, of the command line and beside their file.

A later stage leaves such a folder as it is: of the members of apo, those that were made with arguments stay, and those
that are stale without any are made again.
"""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

from apo_soup.cli.steps import STEPS, Step
from apo_soup.config.eval import EvalFile
from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import load
from apo_soup.config.places import run_folder_of
from apo_soup.config.stage_file import StageFile
from apo_soup.runs.arguments import arguments_of, arguments_told
from apo_soup.runs.manifest import read_manifest
from apo_soup.runs.members import member_of_folder
from apo_soup.runs.model_files import changed_file
from apo_soup.runs.outputs import output_folders
from apo_soup.stored_json import Form, OtherFormError, json_of_form


class ArgumentsByStage(Form):
    """What older releases kept: by stage, the words of its last command."""

    __pydantic_extra__: dict[str, list[str]]


_CURRENT_LINE = re.compile(r"(?P<part>.+?): up to date, ")
_STALE_LINE = re.compile(r"(?P<part>.+?): stale, because (?P<reason>.*)")


def stale_parts(state: str) -> dict[str, str]:
    r"""The folders that a program's `--state` says are stale, by the stage's name, each with why.

    >>> stale_parts("apo/1: up to date, skipped\napo/2: stale, because beta was 0.1 and is 0.2")
    {'apo/2': 'beta was 0.1 and is 0.2'}
    """
    found = (_STALE_LINE.fullmatch(line) for line in state.splitlines())
    return {match["part"]: match["reason"] for match in found if match}


def changed_parts(recipe: Path, name: str, state: str) -> str:
    """What a step's program says with `--state`, after the content of every folder that it takes for up to date was
    compared with the hashes in its manifest: one that is not as it was made is stale.
    """
    step = STEPS[name]
    file = load(recipe / step.file, stage_of_file(Path(step.file)) or "")
    lines = []
    for line in state.splitlines():
        part = _CURRENT_LINE.match(line)
        folder = _folder(file, part["part"]) if part else None
        manifest = read_manifest(folder) if folder else None
        changed = changed_file(folder, manifest, by_content=True) if folder and manifest else None
        lines.append(f"{part['part']}: stale, because {changed} since it was made" if part and changed else line)
    return "".join(f"{line}\n" for line in lines)


def parts_made_otherwise(
    recipe: Path, name: str, stale: dict[str, str], current: Callable[[str], str], by_content: bool = False
) -> tuple[list[str], list[str]]:
    """A line, with the way out, for those stale folders of a step that stay as they are, since they are whole and were
    made with arguments of the command line; and the names of the others, which are due.

    Args:
        stale: the folders by the stage's name, each with why.
        by_content: a folder is whole where every file has the content that its manifest says.
        current: what the step's program says of its folders with the words that an older release remembered.
    """
    step = STEPS[name]
    file = load(recipe / step.file, stage_of_file(Path(step.file)) or "")
    made = {part: arguments for part in stale if (arguments := _made_with(file, name, part, current, by_content))}
    # A member and the steps of it that are kept are made by one training.
    whole = {_training(part) for part in made} - {_training(part) for part in stale if part not in made}
    kept = {part: arguments for part, arguments in made.items() if _training(part) in whole}
    alike: dict[tuple[str, str], list[str]] = {}
    for part, arguments in kept.items():
        alike.setdefault((arguments, stale[part]), []).append(part)
    way = f"`make {name} RECIPE={recipe}` makes {{}} as the file says, or write the arguments into the file"
    lines = [
        f"{arguments_told(parts, arguments, recipe / step.file)} ({reason}); "
        + way.format("it" if len(parts) == 1 else "them")
        for (arguments, reason), parts in alike.items()
    ]
    return lines, [part for part in stale if part not in kept]


def words_for_parts(step: Step, parts: list[str]) -> list[str]:
    """The options by which a step makes these of its folders alone; none where it makes but one."""
    if not step.part_flag:
        return []
    numbers = dict.fromkeys(member_of_folder(part.partition("/")[2]) for part in parts)
    return [word for number in numbers for word in (step.part_flag, str(number))]


def _training(part: str) -> str:
    step, _, folder = part.partition("/")
    return f"{step}/{member_of_folder(folder)}" if step == "apo" else part


def _made_with(file: StageFile, name: str, part: str, current: Callable[[str], str], by_content: bool) -> str | None:
    """The arguments that a folder was made with; None where there were none, or where it is not there, or not whole."""
    folder = _folder(file, part)
    manifest = read_manifest(folder) if folder else None
    if folder is None or manifest is None or changed_file(folder, manifest, by_content):
        return None
    if "arguments" in manifest:
        return arguments_of(manifest)
    # What an older release remembered may be of a run that came to no end, or of an older file.
    remembered = shlex.join(_remembered(run_folder_of(file) / "arguments.json", name))
    return remembered if remembered and f"{part}: up to date" in current(remembered) else None


def _folder(file: StageFile, part: str) -> Path | None:
    if not isinstance(file, EvalFile):
        return output_folders(file).get(part)
    from apo_soup.evals.models_to_evaluate import models_of_suite
    from apo_soup.evals.results_folder import results_folders

    names = list(models_of_suite(file))
    return results_folders(Path(file.output_dir), names).get(part.removeprefix("evals/"))


def _remembered(file: Path, name: str) -> list[str]:
    try:
        words: list[str] = json_of_form(file, ArgumentsByStage).get(name, [])
    except (OSError, OtherFormError):
        return []
    return words
