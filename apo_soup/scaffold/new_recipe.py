"""`apo-soup new NAME`: a recipe of a person's model and rows, whole or not at all."""

import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast

from apo_soup.config.file_names import file_name_fault
from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import load
from apo_soup.config.places import expanded
from apo_soup.config.recipe_file import shared_keys
from apo_soup.config.slurm import JOB_FILE
from apo_soup.config.training import TrainingFile
from apo_soup.data.held_out import split_off
from apo_soup.data.sources.read import read_rows
from apo_soup.data.sources.rows import RowError
from apo_soup.data.sources.source import Source
from apo_soup.errors import UserError, told_by_disk, told_together
from apo_soup.resources import shipped_recipes
from apo_soup.scaffold.commented import commented_yaml
from apo_soup.scaffold.looked_at import RowReader, RowsLookedAt, heldout_row, written_row
from apo_soup.scaffold.model_seen import ModelSeen
from apo_soup.scaffold.sizes import machine_size
from apo_soup.scaffold.stages import Cut, RecipeAsked, WrittenFile, stage_files

# The share of rows that is held out, and the most and fewest of them.
_HELD_OUT, _MOST_HELD_OUT, _LEAST_ROWS = 0.1, 500, 10
SEED = 0
# The longest sequence where rows cannot be measured, in tokens.
GUESSED_LENGTH = 1024
# Prompts that are read for one with a right answer.
_PROMPTS_READ = 100


@dataclass(frozen=True)
class RecipeRequest:
    """What `apo-soup new` was asked for, word by word; empty where an option was not given."""

    folder: str
    model: str = ""
    data: str = ""
    pairs: str = ""
    prompts: str = ""
    size: str = "gpu"
    adapter: str = ""


def new_recipe(request: RecipeRequest, say: Callable[[str], None]) -> Path:
    """Write a recipe's folder, and say what was seen and chosen; returns the folder.

    Raises:
        UserError: the folder is there, or an option names what is not, or rows that cannot be used.
    """
    folder = free_folder(request.folder)
    machine = machine_size(request.size)
    if not request.model:
        raise UserError("--model: expected a model's folder or its id on the Hub, got none; name one")
    if not (request.data or request.pairs or request.prompts):
        raise UserError("new: expected rows, got none; give --data, --pairs or --prompts, or all of them")
    data, pairs = (
        RowsLookedAt.of(RowReader.of(file, option, option == "--pairs")) if file else None
        for file, option in ((request.data, "--data"), (request.pairs, "--pairs"))
    )
    answered = bool(request.prompts) and _answered(request.prompts)
    thinks = any(rows.thinks for rows in (data, pairs) if rows)
    model = ModelSeen.of(request.model, thinks, folder)
    asked = RecipeAsked(str(folder), model, machine, data, pairs, request.prompts, answered, request.adapter)
    for line in _seen(asked):
        say(line)
    with whole_folder(folder) as partial:
        cuts = {stage: Cut(GUESSED_LENGTH, _rows_of(stage, asked)) for stage in asked.trained}
        (partial / "data").mkdir()
        _write(partial, asked, cuts)
        lines: list[str] = []
        for stage in asked.trained if not model.unseen else ():
            try:
                cuts[stage], told = _measured(partial, stage, asked)
            except UserError as error:
                if str(partial) not in str(error):
                    raise
                # A person knows nothing of the folder that is being written.
                raise told_together([f"--model {model.name}: {str(error).replace(f'{partial}/', '')}"]) from error
            lines += told.splitlines()
        for rows, name, kept in ((data, "train", "heldout"), (pairs, "pairs", "heldout-pairs")):
            if rows:
                for line in rows.told_of_refused():
                    say(line)
                say(_split(rows, partial / "data", name, kept, model.knows_modes))
        for line in lines:
            say(line)
        _write(partial, asked, cuts)
        add_schemas(partial, folder)
    return folder


def next_command(request: RecipeRequest) -> str:
    """What to type behind a new recipe.

    Raises:
        UserError: there is no machine of the request's size.
    """
    machine, folder = machine_size(request.size), str(expanded(request.folder))
    if machine.nodes > 1:
        return f"apo-soup submit {shlex.quote(folder)}"
    return f"apo-soup run {shlex.quote(folder)}" + (f" --launch {machine.launch}" if machine.launch else "")


def free_folder(name: str) -> Path:
    """The folder that a name stands for.

    Raises:
        UserError: something is there, no recipe can have the name, or no folder can be made there.
    """
    folder = expanded(name)
    fault = file_name_fault(name)
    if fault or not folder.name or folder.name.startswith((".", "-")):
        raise UserError(f"NAME: expected a name that a folder can have, got {name!r}; write one such as mine")
    if os.path.lexists(folder):
        raise UserError(f"{name}: expected a new folder, got one that is there; name another, or remove it")
    parent = next(one for one in folder.absolute().parents if one.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        told = f"{parent}, which {'may not be written to' if parent.is_dir() else 'is a file'}"
        raise UserError(
            f"{name}: expected a place where a folder can be made, got {told}; name another, or go elsewhere"
        )
    return folder


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder beside the wanted one, which takes its place when all is written, and else is removed.

    Raises:
        UserError: the disk refuses a file.
    """
    partial = folder.parent / f".{folder.name}.{os.getpid()}"
    made = [parent for parent in partial.parents if not parent.exists()]
    with told_by_disk(folder, partial):
        try:
            partial.mkdir(parents=True)
            yield partial
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            for parent in made:
                with suppress(OSError):  # another program may have written into it
                    parent.rmdir()
            raise


def _answered(file: str) -> bool:
    """Whether the first prompts of a file have right answers that are numbers.

    Raises:
        UserError: there is no such file, no row in it, or none with a prompt.
    """
    from apo.pairs.prompts import prompt_of
    from apo_soup.verify.numbers import only_number

    answers: list[bool] = []
    first = ""
    for row in islice(read_rows(Source(file), "--prompts"), _PROMPTS_READ):
        try:
            prompt = prompt_of(row, {}, "answer")
        except RowError as error:
            first = first or f"{row.place}: {error}"
            continue
        answers.append(prompt.reference is not None and only_number(prompt.reference) is not None)
    if not answers:
        told = f"expected rows with a prompt in {file}, got none"
        raise UserError(f"--prompts: {told}; {f'the first: {first}' if first else 'write its rows first'}")
    return all(answers)


def _seen(asked: RecipeAsked) -> Iterator[str]:
    """What was found, and what follows from it, a line each."""
    for rows in filter(None, (asked.data, asked.pairs)):
        yield from rows.told()
    if asked.prompts:
        answers = "with answers that a verifier judges" if asked.answered else "without answers that are numbers"
        yield f"{asked.prompts}: prompts {answers}"
    model = asked.model
    if model.unseen:
        yield f"{model.name}: its files cannot be seen here ({model.unseen})"
        yield "lengths, batches and memory are guesses; `apo-soup plan` tells them where the model is"
    else:
        size = "" if model.parameters is None else f"{model.parameters / 1e6:,.1f} M parameters, "
        template = "our chat template" if model.our_template else "its own chat template"
        modes = ", with think and no-think mode" if model.knows_modes else ""
        yield f"{model.name}: {size}rendered with {template}{modes}"
    if model.missing:
        yield f"{model.name}: {', '.join(model.missing)} are added to its tokens"
    if "apo" not in asked.trained:
        yield "no --pairs and no --prompts: neither apo.yaml nor merge.yaml, for there is nothing to average"
    elif not asked.data:
        yield "no --data: no sft.yaml, preference training begins with the model as it is"


def _split(rows: RowsLookedAt, folder: Path, name: str, kept: str, knows_modes: bool) -> str:
    """Write the usable rows of a file into two: those that are trained on, as they are, and held-out prompts."""
    train, test = [number for number in range(rows.rows) if number not in rows.refused], list[int]()
    groups = [rows.groups[number] for number in train]
    too_few = len(set(groups)) < _LEAST_ROWS
    if too_few:
        test = train
    else:
        count = min(_MOST_HELD_OUT, max(1, round(_HELD_OUT * len(train))))
        of_train, of_test = split_off(range(len(train)), count, SEED, groups)
        train, test = [train[one] for one in of_train], [train[one] for one in of_test]
    held = set(test)
    refused = folder / f"{name}-rejects.jsonl"
    with (
        (folder / f"{name}.jsonl").open("w", encoding="utf-8") as trained,
        (folder / f"{kept}.jsonl").open("w", encoding="utf-8") as out,
        refused.open("w", encoding="utf-8") as rejects,
    ):
        number = 0
        for row, item, reason in rows.reader.rows():
            if item is None:
                rejects.write(written_row({"row": row.place, "reason": reason}))
                continue
            if number in rows.refused:
                rejects.write(written_row({"row": row.place, "reason": rows.refused[number]}))
            elif number in held:
                out.write(written_row(heldout_row(item, knows_modes)))
            if number not in rows.refused and (too_few or number not in held):
                trained.write(written_row(row.fields))
            number += 1
    if not (rows.unusable or rows.refused):
        refused.unlink()
    if too_few:
        return f"{rows.reader.source.id}: too few prompts to hold some out, so evaluations see what was trained on"
    return f"{rows.reader.source.id}: {len(train):,} to train on, {len(test):,} held out by prompt (seed {SEED})"


def _measured(partial: Path, stage: str, asked: RecipeAsked) -> tuple[Cut, str]:
    """How a stage's rows are cut, and what is to be said of it; its first rows are tried, and those that cannot be
    trained on are told to the rows.

    Raises:
        UserError: none of them can be.
    """
    from apo_soup.scaffold.fit import measured_cut

    file = partial / f"{stage}.yaml"
    rows = asked.data if stage == "sft" else asked.pairs
    places = _write_first(rows, partial / "data" / ("train.jsonl" if stage == "sft" else "pairs.jsonl")) if rows else []
    recipe = cast(TrainingFile, load(file, stage_of_file(file) or stage))
    measured = measured_cut(recipe, rows.rows if rows else 0, asked.model.window, asked.machine)
    if rows:
        rows.refuse(dict(measured.refused), places)
    return measured.cut, measured.told


def _write_first(rows: RowsLookedAt, file: Path) -> list[str]:
    """Write the first usable rows, which are measured, into a file; returns the places that they are from."""
    from apo_soup.scaffold.fit import MEASURED_ROWS

    places = []
    with file.open("w", encoding="utf-8") as out:
        for row, _, _ in islice((one for one in rows.reader.rows() if one[1] is not None), MEASURED_ROWS):
            out.write(written_row(row.fields))
            places.append(row.place)
    return places


def _rows_of(stage: str, asked: RecipeAsked) -> int | None:
    """The rows that a stage trains on, held-out ones among them; None where they are still to be made."""
    rows = asked.data if stage == "sft" else asked.pairs
    return rows.rows if rows else None


def _write(folder: Path, asked: RecipeAsked, cuts: dict[str, Cut]) -> None:
    for name, written in stage_files(asked, cuts):
        kind = stage_of_file(Path(name)) or Path(name).stem
        (folder / name).write_text(file_text(written, kind, Path(asked.folder)), encoding="utf-8")
    if asked.machine.nodes > 1:
        shutil.copyfile(shipped_recipes() / "slurm" / JOB_FILE, folder / JOB_FILE)
    assert shared_keys(folder) is not None


def file_text(written: WrittenFile, kind: str, folder: Path) -> str:
    """A file as it is written, with the schema that editors check it by."""
    lines = [f"# yaml-language-server: $schema={_schemas(folder)}/{kind}.json", *(f"# {one}" for one in written.about)]
    keys = commented_yaml(written.model, written.parts)
    for key, told in written.remarks.items():
        keys = keys.replace(f"\n{key}: ", f"\n# {told}.\n{key}: ", 1)
    return "\n".join(lines) + "\n\n" + keys


def _schemas(folder: Path) -> str:
    """Where the schemas lie, from a recipe's folder: beside it, as in a checkout, or in it."""
    return "../schema" if (folder.parent / "schema" / "sft.json").is_file() else "schema"


def add_schemas(partial: Path, folder: Path) -> None:
    """Copy the schemas of the files into the folder, where none lie beside it."""
    if _schemas(folder) != "schema":
        return
    (partial / "schema").mkdir()
    for file in sorted(partial.glob("*.yaml")):
        kind = stage_of_file(file) or file.stem
        shutil.copyfile(shipped_recipes() / "schema" / f"{kind}.json", partial / "schema" / f"{kind}.json")
