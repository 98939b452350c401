"""Files of rows that are too short for a batch, or for what is held out of them, as far as `check` can tell without
reading them all.
"""

from collections.abc import Iterator
from itertools import islice
from math import ceil
from pathlib import Path

from apo_soup.config.file_names import has_rows_by_line
from apo_soup.config.sft import SftFile
from apo_soup.config.stage_file import StageFile
from apo_soup.config.training import TrainingFile

# Optimiser steps of a training that are hardly any.
FEW_STEPS_IN_ALL = 10


def few_rows_problems(recipes: list[StageFile]) -> Iterator[str]:
    """A sentence for each training file that holds out all rows, or that drops the rows of a batch that is not full and
    has no full one.
    """
    for recipe in recipes:
        if not isinstance(recipe, TrainingFile):
            continue
        # A conversation that is unrolled becomes several rows.
        unrolled = isinstance(recipe, SftFile) and recipe.train_on == "unroll"
        held = 0 if unrolled else recipe.dataset_mixture.test_split_size or 0
        read = rows_read(recipe, int(held)) if held >= 1 else None
        if read is not None and read <= held:
            yield (
                f"{recipe.place('dataset_mixture.test_split_size')}: expected a size that leaves a row to train on, "
                f"got {held:g} of at most {read:,} rows; take a smaller one, or leave the key out"
            )
        if recipe.dataloader_drop_last:
            most, needed = most_rows(recipe), smallest_step(recipe)
            if most is not None and most < needed:
                yield (
                    f"{recipe.place('dataloader_drop_last')}: expected at least {needed:,} sequences or pairs, a "
                    f"batch, got at most {most:,}, which would all be dropped; leave the key out, or lower "
                    f"{'global_batch_size' if recipe.global_batch_size else 'per_device_train_batch_size'}"
                )


def smallest_step(recipe: TrainingFile) -> int:
    """The rows that are not dropped with a step that is not full: of a global batch all, else a batch a device."""
    return recipe.global_batch_size or recipe.per_device_train_batch_size


def most_rows(recipe: TrainingFile) -> int | None:
    """How many sequences or pairs a file can have at most, up to a batch; None where that takes more than counting the
    lines of its JSONL files.
    """
    # A long row may become several sequences.
    if isinstance(recipe, SftFile) and (recipe.packing or recipe.overflow == "split" or recipe.train_on == "unroll"):
        return None
    return rows_read(recipe, smallest_step(recipe))


def rows_read(recipe: TrainingFile, needed: int) -> int | None:
    """How many rows a file's sources have at most, counted up to somewhat more than `needed`; None where that takes
    more than counting the lines of its JSONL files.
    """
    total = 0
    for source in recipe.dataset_mixture.datasets:
        file = Path(source.id).expanduser()
        if source.token_share is not None or not has_rows_by_line(file) or not file.is_file():
            return None
        enough = ceil(needed / source.weight) + 1
        with file.open("rb") as lines:
            total += ceil(sum(1 for line in islice(lines, enough) if line.strip()) * source.weight)
    return total


def few_steps_told(file: Path, steps: int, packing: bool) -> list[str]:
    """A line where a training has hardly any optimiser steps.

    >>> few_steps_told(Path("sft.yaml"), 3, packing=False)
    ['sft.yaml: 3 optimiser steps in all; a smaller global_batch_size or more num_train_epochs give more']
    >>> few_steps_told(Path("sft.yaml"), 10, packing=True)
    []
    """
    if steps >= FEW_STEPS_IN_ALL:
        return []
    keys = f"{'packing: false, ' if packing else ''}a smaller global_batch_size or more num_train_epochs"
    return [f"{file}: {steps} optimiser step{'' if steps == 1 else 's'} in all; {keys} give more"]
