"""`python -m apo --config FILE [--member K ...]`: see apo/train.py."""

import argparse
from typing import Any

from apo_soup.config.apo import ApoFile
from apo_soup.config.command_line import AskedState
from apo_soup.config.library_values import computes_with_bitsandbytes
from apo_soup.config.members import member_recipes
from apo_soup.errors import UserError
from apo_soup.models.libraries import keep_freed_memory, quiet_libraries, spare_collector, spare_compiler
from apo_soup.runs.entry import alone_on, report_state, stage_program
from apo_soup.runs.members import kept_checkpoints
from apo_soup.runs.outputs import output_folders
from apo_soup.training.entry import require_batch, training_stage

MEMBER_FLAG: tuple[str, dict[str, Any]] = (
    "--member",
    {
        "type": int,
        "action": "append",
        "metavar": "K",
        "help": "train only this soup member, counted from 1; may be given again",
    },
)


def run_members(recipe: ApoFile, options: argparse.Namespace) -> int:
    """Train the members whose folders are not up to date, one after the other; returns the exit code.

    Raises:
        UserError: `--member` names none of the file's members; or as `alone_on` and the training do.
    """
    members = member_recipes(recipe)
    asked: list[int] = options.member or [*range(1, len(members) + 1)]
    strange = [number for number in asked if not 1 <= number <= len(members)]
    if strange:
        raise UserError(
            f"--member: expected 1 to {len(members)}, a member of {recipe.path}, got {strange[0]}; correct it"
        )
    chosen = [member for member in members if member.member in asked]
    numbers = {str(member.member) for member in chosen}
    made = output_folders(recipe)
    folders = {name: made[name] for name in made if made[name].name.partition("-")[0] in numbers}
    with alone_on(recipe, folders, options.state):
        return _train_stale(recipe, chosen, options.state)


def _train_stale(recipe: ApoFile, chosen: list[ApoFile], only_state: AskedState) -> int:
    """Train those of the chosen members that are not up to date; returns the exit code."""
    planned = []
    for member in chosen:
        stage = training_stage(member)
        planned.append((member, stage, kept_checkpoints(member, stage)))

    def again() -> dict[str, str]:
        missing = {stage.name: [str(k.at) for k in kept if k.stage.stale()] for _, stage, kept in planned}
        told = "its checkpoint {} is not there or not current"
        return {name: told.format(", ".join(steps)) for name, steps in missing.items() if steps}

    stages = [each for _, stage, kept in planned for each in (*(k.stage for k in kept), stage)]
    todo, code = report_state(recipe, stages, only_state, again)
    if todo and not only_state:
        for member, stage, _ in planned:
            if stage in todo:
                require_batch(member, stage.name)
        quiet_libraries()
        if not any(computes_with_bitsandbytes(member) for member in chosen):
            spare_compiler()
        from apo.train import train_member
        from apo_soup.progress import say
        from apo_soup.training.run import leave

        spare_collector()
        keep_freed_memory()
        for note in recipe.notes:
            say(note)
        for member, stage, kept in planned:
            if stage in todo:
                train_member(member, stage, kept)
        leave()
    return code


if __name__ == "__main__":
    stage_program("apo", ApoFile, "Train the members of a soup, one model folder each.", run_members, MEMBER_FLAG)
