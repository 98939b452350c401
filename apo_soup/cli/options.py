"""Words that several commands take alike, as typer reads them, and what `--version` prints."""

from pathlib import Path
from typing import Annotated

import typer

from apo_soup.resources import recipe_folder

# What is left of the command line are `--key value` words that are laid over the file.
OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}
Config = Annotated[Path, typer.Option("--config", metavar="FILE", help="stage file, such as recipes/tiny/sft.yaml")]
RecipeFolder = Annotated[
    Path,
    typer.Argument(parser=recipe_folder, metavar="RECIPE", help="recipe folder, or the name of a shipped one: tiny"),
]
Launch = Annotated[str, typer.Option(metavar="FILE", help="accelerate configuration, or a shipped one: fsdp2.yaml")]
StageArguments = Annotated[str, typer.Option(metavar="'--key value'", help="overrides for this stage")]


def print_versions(asked: bool) -> None:
    """Print this program's version and those of what decides its results, and end.

    Raises:
        Exit: they were asked for.
    """
    if asked:
        from apo_soup.runs.manifest import PACKAGES, versions

        for package, version in versions(("apo-soup", *PACKAGES)).items():
            print(package, version)
        raise typer.Exit()


Version = Annotated[
    bool,
    typer.Option(
        "--version",
        callback=print_versions,
        is_eager=True,
        help="print the versions of this program and of what it stands on",
    ),
]
