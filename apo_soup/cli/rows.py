"""`apo-soup prepare --config F` and `apo-soup preview --config F`: see apo_soup/data/prepare.py and preview.py."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apo_soup.cli.order import run_stages
from apo_soup.cli.prepare_tasks import prepare_on
from apo_soup.cli.steps import STEPS
from apo_soup.config.given import Given
from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import check_keys, load
from apo_soup.config.pairs import PairsFile
from apo_soup.config.places import run_folder_of
from apo_soup.config.sides import LocalSide
from apo_soup.config.traces import TracesFile
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError, told_while_at_work
from apo_soup.models.libraries import quiet_libraries, spare_collector
from apo_soup.runs.inputs import rows_inputs
from apo_soup.runs.makers import missing_sources


def reader_of_made(recipe: PairsFile | TracesFile) -> TrainingFile:
    """A training file that reads the rows that a pairs or a traces file has made, with the tokenizer of a side: an apo
    file, or an sft file that trains on what the assistant says.

    Raises:
        UserError: none are made yet, or all sides are endpoints, which give no tokenizer.
    """
    kind, reader = ("pairs", "apo") if isinstance(recipe, PairsFile) else ("traces", "sft")
    files = sorted(Path(recipe.output_dir).glob("train.*"))
    if not files:
        raise UserError(
            f"{recipe.path}: expected {kind} in {recipe.output_dir}, got none; "
            f"make them: `apo-soup run {kind} {shlex.quote(str(recipe.path.parent))}`"
        )
    sides = recipe.sides().values()
    side = next((side for side in sides if isinstance(side, LocalSide)), None)
    if side is None:
        got = "endpoints on both" if len(sides) > 1 else "an endpoint"
        raise UserError(
            f"{recipe.path}: expected a side with a tokenizer, got {got}; preview an {reader} file that reads "
            f"{files[0]}"
        )
    keys: dict[str, Any] = {"output_dir": recipe.output_dir}
    keys |= {"dataset_mixture": {"datasets": [{"id": str(files[0].absolute())}]}}
    keys |= {"model_name_or_path": side.model} | ({"assistant_only_loss": True} if reader == "sft" else {})
    keys |= {"chat_template": side.chat_template} if side.chat_template is not None else {}
    file, problems = check_keys(reader, Given(recipe.path, keys))
    assert isinstance(file, TrainingFile), problems
    return file


@dataclass(frozen=True)
class WayToPrepare:
    """How rows are prepared: as one whole, or in shards. `shard` is K and N, of K/N, counted from 1; `on` is where
    tasks run that make and join the shards.
    """

    shard: tuple[int, int] | None
    join: bool
    on: str
    tasks: int
    workers: int
    slurm: list[str]

    @classmethod
    def of(cls, shard: str, join: bool, on: str, tasks: int, workers: int, slurm: list[str]) -> "WayToPrepare":
        """From the words of the command line.

        Raises:
            UserError: one of them is wrong, or they do not go together.
        """
        parts = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", shard)
        if shard and (not parts or int(parts[1]) > int(parts[2])):
            raise UserError(f"--shard: expected K/N with K from 1 to N, got {shard}; write it so, such as 3/16")
        if on not in ("", "local", "slurm"):
            raise UserError(f"--on: expected one of local, slurm, got {on}; correct it")
        given = [name for name, value in (("--shard", shard), ("--join", join), ("--on", on)) if value]
        if len(given) > 1:
            raise UserError(
                f"prepare: expected one of --shard, --join, --on, got {', '.join(given)}; leave one of them"
            )
        if slurm and on != "slurm":
            raise UserError(f"--slurm: expected --on slurm beside it, got {on or 'none'}; add it, or leave --slurm out")
        return cls((int(parts[1]), int(parts[2])) if parts else None, join, on, tasks, workers, slurm)


def prepare_rows(config: Path, overrides: list[str], way: WayToPrepare, options: Sequence[str] = ()) -> None:
    """Write the training sequences of a mid, sft or apo file, and print the table of what is in them.

    Raises:
        UserError: the file or a row is at fault, or a stage that makes rows has not run.
    """
    recipe = opened_recipe(config, overrides, options)
    make_generated_rows(recipe)
    for number, maker in missing_sources(recipe).items():
        raise UserError(f"{_not_made(recipe, number, maker)}; make them: {_command(recipe, maker)}")
    if not (way.shard or way.join or way.on):
        rows_inputs(recipe)
    _print_notes(recipe)
    quiet_libraries()
    from apo_soup.data.prepare import prepare_mixture
    from apo_soup.data.shards import join_shards, prepare_shard
    from apo_soup.data.statistics_table import statistics_table
    from apo_soup.data.stored_statistics import read_statistics
    from apo_soup.models.recipe_tokenizer import recipe_tokenizer

    spare_collector()
    with told_while_at_work(recipe.path, run_folder_of(recipe)):
        if way.on:
            prepare_on(way.on, recipe, overrides, way.tasks, way.workers, way.slurm)
            return
        tokenizer = recipe_tokenizer(recipe, print)
        if way.shard:
            prepare_shard(recipe, tokenizer, *way.shard)
            return
        folder = join_shards(recipe, tokenizer) if way.join else prepare_mixture(recipe, tokenizer)
    print(statistics_table(read_statistics(folder)))
    print(folder)


def preview_rows(
    config: Path, rows: int, overrides: list[str], options: Sequence[str] = (), page: Path | None = None
) -> None:
    """Print rows as the model will see them, trained tokens coloured; of a pairs or traces file, what it made. Sources
    that a later stage of the recipe makes are passed over with a line.

    Args:
        page: a file that they are written to as a page, in place of the terminal.

    Raises:
        UserError: the file or a row is at fault, no source's rows are made yet, or the page's file is somebody's.
    """
    recipe = opened_recipe(config, overrides, options)
    make_generated_rows(recipe)
    missing = missing_sources(recipe)
    if len(missing) == len(recipe.dataset_mixture.datasets):
        number, maker = next(iter(missing.items()))
        raise UserError(f"{_not_made(recipe, number, maker)}; make them: {_command(recipe, maker)}")
    rows_inputs(recipe, without=missing)
    _print_notes(recipe)
    for number, maker in missing.items():
        print(f"{_not_made(recipe, number, maker)}, so this source is not shown; make it: {_command(recipe, maker)}")
    quiet_libraries()
    from apo_soup.data.preview import preview_mixture
    from apo_soup.data.preview_page import write_preview_page
    from apo_soup.models.recipe_tokenizer import recipe_tokenizer

    tokenizer = recipe_tokenizer(recipe, print)
    if page is None:
        preview_mixture(recipe, tokenizer, rows, missing)
    else:
        write_preview_page(page, recipe, tokenizer, rows, missing)


def opened_recipe(config: Path, overrides: list[str], options: Sequence[str] = ()) -> TrainingFile:
    """The checked file; of a pairs or a traces file, one that reads what it made.

    Raises:
        UserError: the file is wrong, or it is no file of rows.
    """
    loaded = load(config, stage_of_file(config) or "sft", overrides, options)
    recipe = reader_of_made(loaded) if isinstance(loaded, (PairsFile, TracesFile)) else loaded
    if not isinstance(recipe, TrainingFile):
        raise UserError(
            f"{config}: expected a mid, sft, apo, pairs or traces file, got one of kind {recipe.kind}; name another"
        )
    return recipe


def make_generated_rows(recipe: TrainingFile) -> None:
    """Generate the embedded recipe's rows where they are missing, as a run would; it takes seconds.

    Raises:
        UserError: they cannot be made.
    """
    folder, file = recipe.path.parent, STEPS["data"].file
    if not any(maker.name == file for maker in missing_sources(recipe).values()):
        return
    if run_stages("data", folder, None, []):
        raise UserError(f"{folder / file}: expected rows, got a failure, told above; mend it and run again")


def _print_notes(recipe: TrainingFile) -> None:
    for note in recipe.notes:
        print(note)


def _not_made(recipe: TrainingFile, number: int, maker: Path) -> str:
    key = f"dataset_mixture.datasets.{number}.id"
    rows = recipe.dataset_mixture.datasets[number].written_id
    return f"{recipe.place(key)}: expected rows, got {rows}, which {maker.name} has not made yet"


def _command(recipe: TrainingFile, maker: Path) -> str:
    stage = next((name for name, step in STEPS.items() if step.file == maker.name), maker.stem)
    return f"`apo-soup run {stage} {shlex.quote(str(recipe.path.parent))}`"
