"""`apo-soup new` and `apo-soup check`: a recipe written, and looked through."""

import shlex
import signal
import sys
from pathlib import Path

from apo_soup.cli.shadowed import require_our_module
from apo_soup.config.sweep import SweepFile
from apo_soup.errors import UserError, told_together
from apo_soup.resources import launch_file
from apo_soup.scaffold.new_recipe import RecipeRequest, new_recipe, next_command
from apo_soup.scaffold.sizes import machine_size
from apo_soup.stops import StopAsked


def make_recipe(request: RecipeRequest) -> None:
    """Write a recipe, check it, and say what to type next.

    Raises:
        UserError: as `new_recipe` does, or with everything that check finds.
    """
    from apo_soup.models.libraries import quiet_libraries

    quiet_libraries()
    try:
        folder = new_recipe(request, print)
    except (KeyboardInterrupt, StopAsked) as stop:
        print("stopped; nothing is written, and the same command begins anew", file=sys.stderr)
        raise StopAsked(stop.number if isinstance(stop, StopAsked) else signal.SIGINT, None) from stop
    launch = machine_size(request.size).launch
    print(f"\n{folder}: written, its data in {folder / 'data'}; look at its files, and change what you like\n")
    print_check(folder, launch_file(launch) if launch else None)
    print(f"next: {next_command(request)}")


def convert(name: str, file: str, beside: list[str]) -> None:
    """Write a recipe of another project's configuration, check it, and say what to type next.

    Args:
        beside: what else was asked for, which the file says itself.

    Raises:
        UserError: as `convert_recipe` does, or with everything that check finds.
    """
    from apo_soup.scaffold.converted import convert_recipe

    if not file:
        raise UserError("--from: expected a configuration file, got no name; write one, or leave --from out")
    if beside:
        told = f"expected it alone, since the file names model and rows, got {beside[0]} too"
        raise UserError(f"--from {file}: {told}; leave that out, and change the written recipe")
    written = convert_recipe(name, file, print)
    folder = written.parent
    print(f"\n{folder}: written; look at its files, and change what you like\n")
    print_check(folder, None)
    print(f"next: apo-soup run {written.stem} {shlex.quote(str(folder))}")


def print_check(recipe: Path, launch: Path | None, alone: bool = False) -> None:
    """Print the notes and the table of a recipe that is right.

    Args:
        alone: as `check_recipe` takes it.

    Raises:
        UserError: with everything that is wrong with it.
    """
    from apo_soup.plan.check import check_recipe, training_table

    for stage in ("apo", "merge"):  # which the check asks what they read
        require_our_module(stage)
    recipes, problems = check_recipe(recipe, launch, alone=alone)
    for one in recipes:
        for note in one.notes:
            print(f"note: {note}")
    if problems:
        raise told_together(problems)
    print(training_table(recipes))
    for one in recipes:
        if isinstance(one, SweepFile):
            print(f"{one.path}: {one.count} points, each a training by {one.stage}.yaml with other keys")
    print(f"{recipe}: {len(recipes)} files checked, no error")
