"""`apo-soup clean RECIPE [--yes] [--all]`: what a run's folder holds beside its stages, and its removal.

Without `--yes` it lists. Nothing goes that somebody is at work with, and without `--all` nothing that a stage of the
recipe would go on with, and no finished model.
"""

import shlex
import sys
from pathlib import Path

from apo_soup.cli.ask_state import ask_state
from apo_soup.cli.steps import STEPS
from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import load
from apo_soup.config.stage_file import StageFile
from apo_soup.errors import UserError
from apo_soup.runs.leftovers import AGAIN, FREE, GOES_ON, UNNAMED, Leftover, leftovers
from apo_soup.runs.lock import worker_of
from apo_soup.tables import size_text, text_table

_TITLES = {
    FREE: "nothing needs",
    AGAIN: "made again where it is needed again",
    GOES_ON: "a stage that is not up to date goes on with (removed with --all)",
    UNNAMED: "no file of the recipe makes (removed with --all)",
}


def clean_run(recipe: Path, remove: bool, everything: bool) -> int:
    """List what lies beside the stages of a recipe's run, or remove it; returns the exit code, 2 where something stays
    that was to go.

    Args:
        remove: whether it is removed.
        everything: whether what a stage would go on with is, too, and models that no file makes any more.

    Raises:
        UserError: the recipe's files are wrong, or it has none.
    """
    files = _stage_files(recipe)
    found = leftovers(list(files.values()), _current(recipe, files))
    if not found:
        print(f"{recipe}: nothing to remove")
        return 0
    chosen = [one for one in found if everything or one.need in (FREE, AGAIN)]
    if not remove:
        for need, title in _TITLES.items():
            group = [one for one in found if one.need == need]
            if group:
                rows = [[size_text(one.bytes), _place(one), one.told + _in_use(one)] for one in group]
                print(text_table(["size", title, ""], rows) + "\n")
        command = f"apo-soup clean {shlex.quote(str(recipe))} --yes{' --all' if everything else ''}"
        print(f"{size_text(sum(one.bytes for one in chosen))}: `{command}` removes them")
        return 0
    code, removed = 0, 0
    for one in chosen:
        size = one.bytes
        try:
            one.remove()
        except UserError as error:
            print(f"kept: {_place(one)}: {error}", file=sys.stderr)
            code = 2
            continue
        removed += size
        print(f"removed: {_place(one)}, {size_text(size)}: {one.told}")
    print(f"{size_text(removed)} removed")
    return code


def _stage_files(recipe: Path) -> dict[str, StageFile]:
    """The files of a recipe, by name; raises UserError where it has none."""
    names = dict.fromkeys(step.file for step in STEPS.values() if (recipe / step.file).is_file())
    if not names:
        raise UserError(f"{recipe}: expected a recipe's folder, got one without a stage file; name another one")
    return {name: load(recipe / name, stage_of_file(Path(name)) or "") for name in names}


def _current(recipe: Path, files: dict[str, StageFile]) -> set[Path]:
    """The output folders that are up to date, as each stage's own program says."""
    current: set[Path] = set()
    for step in (step for step in STEPS.values() if step.file in files):
        answer = ask_state(step, recipe, [])
        if not answer.refused:
            current |= {Path(state.folder) for state in answer.states if state.reason is None}
    return current


def _place(one: Leftover) -> str:
    more = f" and {len(one.paths) - 1} more" if len(one.paths) > 1 else ""
    return f"{one.paths[0]}{more}"


def _in_use(one: Leftover) -> str:
    workers = dict.fromkeys(filter(None, map(worker_of, one.users)))
    return f"; in use by {', '.join(workers)}" if workers else ""
