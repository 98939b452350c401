"""The opening of every stage's program: read the file, say what there is to do, do it."""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from apo_soup.config.command_line import STATE_FLAGS, AskedState, arguments
from apo_soup.config.load import load
from apo_soup.config.places import run_folder_of
from apo_soup.config.stage_file import StageFile
from apo_soup.errors import run_main, told_together, told_while_at_work
from apo_soup.progress import is_main, say, tell, warn
from apo_soup.runs.lock import at_work, worker_of
from apo_soup.runs.outputs import output_folders, output_problems
from apo_soup.runs.put_in_place import restore
from apo_soup.runs.ranks import main_decides
from apo_soup.runs.room import ANY_FILES, require_room
from apo_soup.runs.stage import Stage
from apo_soup.runs.state import FolderState
from apo_soup.runs.upstream import told_of_upstream
from apo_soup.streams import let_words_be_lost

File = TypeVar("File", bound=StageFile)
# Exit code of `--state` where something is stale.
STALE = 3


@contextlib.contextmanager
def alone_on(recipe: StageFile, folders: dict[str, Path], only_state: AskedState = "") -> Iterator[None]:
    """Be the only one at work on the folders of a file, and on nobody else's; before anything they are made of is read.

    Args:
        folders: what is to be made, by the stage's name.
        only_state: nothing is written: nobody is kept out.

    Raises:
        UserError: another process is at work there, or something else lies in their place, or the disk refuses.
    """
    if only_state:
        with told_while_at_work(recipe.path, run_folder_of(recipe)):  # what this account may not read
            yield
        return
    with contextlib.ExitStack() as held:

        def begin() -> None:
            problems = output_problems(recipe, folders)
            if problems:
                raise told_together(problems)
            held.enter_context(at_work(*folders.values()))

        main_decides(f"place of {', '.join(folders)}", begin)
        # Whatever else is written than what the stage itself looks after.
        with told_while_at_work(recipe.path, run_folder_of(recipe)):
            for folder in folders.values() if is_main() else ():
                restore(folder)
            yield


def report_state(
    recipe: StageFile, stages: list[Stage], only_state: AskedState, again: Callable[[], dict[str, str]] = dict
) -> tuple[list[Stage], int]:
    """Say for each stage of a file whether it is up to date; return those that are not, and the exit code of `--state`.

    `again` gives reasons, by name, for stages to run although their own folder is current.

    Raises:
        UserError: the disk has no room for any file of theirs.
    """
    names = ", ".join(stage.name for stage in stages)

    def look() -> dict[str, str | None]:
        more = again()
        return {stage.name: stage.stale() or more.get(stage.name) for stage in stages}

    reasons = main_decides(f"state of {names}", look)
    todo = []
    for stage in stages:
        reason = reasons[stage.name]
        if reason is not None:
            todo.append(stage)
        elif not only_state and is_main():
            stage.tidy()
        worker = worker_of(stage.folder) if only_state and reason is not None else None
        state = FolderState(stage=stage.name, folder=str(stage.folder), reason=reason, worker=worker)
        told = state.sentence() if only_state else state.sentence(due="running")
        (tell if only_state else say)(state.model_dump_json() if only_state == "json" else told)
    whole = [] if only_state or not is_main() else [stage for stage in stages if reasons[stage.name] is None]
    for note in filter(None, (stage.processes_note() for stage in whole)):
        say(f"note: {note}")
    if todo and not only_state:
        for line in told_of_upstream(read for stage in todo for read in stage.reads) if is_main() else ():
            warn(line)
        place = recipe.place("output_dir")
        tight = main_decides(f"room of {names}", lambda: require_room(ANY_FILES, todo[0].folder, place))
        if tight:
            say(tight)
    return todo, STALE if todo and only_state else 0


def make_if_stale(
    recipe: File, only_state: AskedState, stage_of: Callable[[File], Stage], make: Callable[[File, Stage], None]
) -> int:
    """Make the one folder of a file where it is missing or stale; returns the exit code.

    Args:
        stage_of: the stage with its fingerprint; called when this process alone is at work on the folder.
        make: makes the folder and puts it into place.

    Raises:
        UserError: another process is at work there, something else lies there, or what `make` raises.
    """
    with alone_on(recipe, output_folders(recipe), only_state):
        stage = stage_of(recipe)
        todo, code = report_state(recipe, [stage], only_state)
        if todo and not only_state:
            make(recipe, stage)
        return code


def stage_program(
    module: str,
    file: type[File],
    description: str,
    work: Callable[[File, argparse.Namespace], int],
    *flags: tuple[str, dict[str, Any]],
) -> None:
    """Run `python -m MODULE`: `work` gets the checked stage file and the flags, and returns the exit code.

    Args:
        file: the kind of stage file, as a class.
        flags: flags of the program's own, as argparse takes them.

    How `--state`, which every stage knows, is asked for stands in the flags as `state`; `--debug` is `run_main`'s.
    """

    def program() -> int:
        options, overrides, names = arguments(module, description, *flags, *STATE_FLAGS)
        if not options.state:
            let_words_be_lost()
        recipe = load(options.config, file.kind, overrides, names)
        assert isinstance(recipe, file)
        return work(recipe, options)

    run_main(program)
