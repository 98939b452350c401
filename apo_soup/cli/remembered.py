"""The arguments that folders of a run were made with, of the command line and beside their file.

A later stage leaves such a folder as it is: of the members of apo, those that were made with arguments stay, and those
that are stale without any are made again.
"""

import shlex
from collections.abc import Callable
from pathlib import Path

from apo_soup.cli.steps import STEPS, Step
from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import load
from apo_soup.config.places import run_folder_of
from apo_soup.config.stage_file import StageFile
from apo_soup.runs.arguments import arguments_of, arguments_told
from apo_soup.runs.manifest import read_manifest
from apo_soup.runs.members import member_of_folder
from apo_soup.runs.model_files import changed_file
from apo_soup.runs.state import FolderState
from apo_soup.stored_json import Form, OtherFormError, json_of_form


class ArgumentsByStage(Form):
    """What older releases kept: by stage, the words of its last command."""

    __pydantic_extra__: dict[str, list[str]]


def changed_parts(said: list[FolderState | str]) -> list[FolderState | str]:
    """What a step's program says of its folders, after the content of each that it takes for up to date was compared
    with the hashes in its manifest: one that is not as it was made is stale.

    Raises:
        UserError: a manifest is cut, empty or of another form.
    """
    return [_by_content(line) if isinstance(line, FolderState) and line.reason is None else line for line in said]


def _by_content(state: FolderState) -> FolderState:
    folder = Path(state.folder)
    manifest = read_manifest(folder)
    changed = changed_file(folder, manifest, by_content=True) if manifest else None
    return state.model_copy(update={"reason": f"{changed} since it was made"}) if changed else state


def parts_made_otherwise(
    recipe: Path,
    name: str,
    stale: list[FolderState],
    current: Callable[[list[str]], set[str]],
    by_content: bool = False,
) -> tuple[list[str], list[str]]:
    """A line, with the way out, for those stale folders of a step that stay as they are, since they are whole and were
    made with arguments of the command line; and the names of the others, which are due.

    Args:
        stale: the states of the folders.
        by_content: a folder is whole where every file has the content that its manifest says.
        current: the stages that are up to date with the words that an older release remembered.

    Raises:
        UserError: the step's file is wrong.
    """
    step = STEPS[name]
    file = load(recipe / step.file, stage_of_file(Path(step.file)) or "")
    reasons = {state.stage: state.reason for state in stale}
    made = {s.stage: arguments for s in stale if (arguments := _made_with(file, name, s, current, by_content))}
    # A member and the steps of it that are kept are made by one training.
    whole = {_training(part) for part in made} - {_training(part) for part in reasons if part not in made}
    kept = {part: arguments for part, arguments in made.items() if _training(part) in whole}
    alike: dict[tuple[str, str | None], list[str]] = {}
    for part, arguments in kept.items():
        alike.setdefault((arguments, reasons[part]), []).append(part)
    command = f"apo-soup run {name} {shlex.quote(str(recipe))}"
    lines = [
        f"{arguments_told(parts, arguments, recipe / step.file)} ({reason}); "
        f"`{command}` makes {'it' if len(parts) == 1 else 'them'} as the file says, or write the arguments into it"
        for (arguments, reason), parts in alike.items()
    ]
    return lines, [part for part in reasons if part not in kept]


def words_for_parts(step: Step, parts: list[str]) -> list[str]:
    """The options by which a step makes these of its folders alone; none where it makes but one."""
    if not step.part_flag:
        return []
    numbers = dict.fromkeys(member_of_folder(part.partition("/")[2]) for part in parts)
    return [word for number in numbers for word in (step.part_flag, str(number))]


def _training(part: str) -> str:
    step, _, folder = part.partition("/")
    return f"{step}/{member_of_folder(folder)}" if step == "apo" else part


def _made_with(
    file: StageFile, name: str, state: FolderState, current: Callable[[list[str]], set[str]], by_content: bool
) -> str | None:
    """The arguments that a folder was made with; None where there were none, or where it is not there, or not whole."""
    folder = Path(state.folder)
    manifest = read_manifest(folder)
    if manifest is None or changed_file(folder, manifest, by_content):
        return None
    if "arguments" in manifest:
        return arguments_of(manifest)
    # What an older release remembered may be of a run that came to no end, or of an older file.
    remembered = _remembered(run_folder_of(file) / "arguments.json", name)
    return shlex.join(remembered) if remembered and state.stage in current(remembered) else None


def _remembered(file: Path, name: str) -> list[str]:
    try:
        words: list[str] = json_of_form(file, ArgumentsByStage).get(name, [])
    except (OSError, OtherFormError):
        return []
    return words
