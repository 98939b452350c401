"""Stages of a recipe that were begun and not finished: whether the next start can go on with them."""

from collections.abc import Iterator
from pathlib import Path

from apo_soup.config.stage_file import StageFile
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError, first_line
from apo_soup.runs.manifest import begun_mark
from apo_soup.runs.outputs import output_folders
from apo_soup.runs.put_in_place import hidden_sibling


def begun_problems(recipe: StageFile) -> list[str]:
    """A sentence for each folder that the next start would refuse, and say nothing of until then. One of a stage that
    is finished is a note: only where that is to be made again does it refuse. So is one that goes on with as many
    processes as it was begun with, since the file leaves the global batch to their number.

    Raises:
        UserError: a member of an apo file is wrong.
    """
    problems = []
    any_number = isinstance(recipe, TrainingFile) and recipe.global_batch_size is not None
    for name, folder in _folders(recipe):
        try:
            mark = begun_mark(hidden_sibling(folder, "partial"))
        except UserError as error:
            told = f"{recipe.place('output_dir')}: {first_line(error)}"
            if folder.exists():
                recipe.notes.append(f"{told}, where {folder} is to be made again")
            else:
                problems.append(told)
            continue
        if mark and mark["processes"] > 1 and not any_number:
            recipe.notes.append(
                f"{recipe.place('output_dir')}: {name} was begun with {mark['processes']} processes, and goes on with "
                "as many"
            )
    return problems


def _folders(recipe: StageFile) -> Iterator[tuple[str, Path]]:
    """What a file makes; of an eval file, whose models may not be there yet, what was begun."""
    yield from output_folders(recipe).items()
    if recipe.kind == "eval":
        for partial in sorted(Path(recipe.output_dir).glob(".*.partial")):
            name = partial.name.removeprefix(".").removesuffix(".partial")
            yield f"evals/{name}", partial.with_name(name)
