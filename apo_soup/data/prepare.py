"""Rows to a folder of training sequences that `datasets.load_from_disk` opens.

    apo-soup prepare --config FILE [--KEY VALUE ...]

Read every source, draw its share, render, tokenise, mask, check the mask, pack, write. It departs from TRL's own
preparation in that it is done once, on CPU, before the model is loaded, and in what it checks and counts. The folder is
named by content (rows, options, template, tokenizer, this code and the libraries that render), so unchanged content is
found again and changed content never is. Rows that cannot be used go to `rejects.jsonl` with the reason; `stats.json`
counts everything that was read.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datasets import DatasetDict, load_from_disk
from filelock import FileLock, Timeout
from transformers import PreTrainedTokenizerBase

from apo_soup.config.file_names import TEXT_KINDS
from apo_soup.config.training import TrainingFile
from apo_soup.data.preparation import prepare_into
from apo_soup.data.statistics import check_share, check_unread
from apo_soup.data.statistics_table import statistics_table
from apo_soup.data.stored_statistics import STATISTICS, read_statistics
from apo_soup.errors import UserError, disk_refusal, first_line
from apo_soup.hashing import hash_value
from apo_soup.models.recipe_tokenizer import recipe_tokenizer
from apo_soup.models.tokenizer import tokenizer_text
from apo_soup.progress import warning
from apo_soup.runs.code_hash import code_hash
from apo_soup.runs.durable import files_below, sync_tree
from apo_soup.runs.known_hashes import content_hash
from apo_soup.runs.lock import lock_file, waited_for
from apo_soup.runs.manifest import write_json
from apo_soup.runs.put_in_place import replace_folder
from apo_soup.runs.room import Room, require_room
from apo_soup.runs.sources import file_states, row_files, rows_hash
from apo_soup.runs.suite_inputs import eval_rows_hash
from apo_soup.stored_json import Form, OtherFormError, json_of_form

# The hashes of the files of prepared rows.
CONTENT = "content.json"
# Of rows as text, and of tables and compressed text, for which this is a guess.
PREPARED_BYTES_A_BYTE, PREPARED_BYTES_A_PACKED_BYTE = 2.0, 8.0
LIBRARIES = ("transformers", "tokenizers", "jinja2")


def prepared_folder(
    recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Any] | None = None
) -> Path:
    """Where the prepared data of this recipe lies: beside the run's stages, named by content.

    Args:
        rows: what stands for the sources' rows; their hashes where it is not given.

    Raises:
        UserError: a source is not there, or cannot be read.
    """
    mixture = recipe.dataset_mixture
    sources, near = mixture.datasets, mixture.deduplicate == "near"
    if rows is None:
        rows = [
            rows_hash(s.id, recipe.place(f"dataset_mixture.datasets.{n}.id"), s.revision, recipe.path.parent)
            for n, s in enumerate(sources)
        ]
    content = {
        "rows": rows,
        "names": [s.written_id for s in sources],
        "mixture": mixture.model_dump(exclude={"datasets": {"__all__": {"id"}}}),
        "evals": eval_rows_hash(recipe),
        "options": recipe.values_with("rows"),
        "template": tokenizer.get_chat_template(),
        "tokenizer": tokenizer_text(tokenizer),
        "pairs": recipe.kind == "apo",
        "code": code_hash(__name__),
        "libraries": {name: version(name) for name in (*LIBRARIES, *(("datasketch",) if near else ()))},
    }
    output = Path(recipe.output_dir)
    if recipe.member is not None:
        output = output.parent
    return output.parent / "prepared" / f"{output.name}-{hash_value(content)[:16]}"


def prepare_mixture(
    recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase, say: Callable[[str], None] = print
) -> Path:
    """The prepared folder of a recipe, made now if its content is not there yet.

    Raises:
        UserError: too many rejected rows, a source that fails the mask check, or nothing left to train on.
    """
    state = rows_state(recipe)
    folder = prepared_folder(recipe, tokenizer)
    make_folder(folder.parent, recipe)
    made_once(recipe, state, folder, say, lambda partial: prepare_into(partial, folder, recipe, tokenizer, say))
    return folder


def make_folder(folder: Path, recipe: TrainingFile) -> None:
    """Make the folder that prepared rows lie in.

    Raises:
        UserError: that cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{recipe.place('output_dir')}: expected a folder that can be made, got {folder}: {error.strerror}; name "
            "another one, or run from a folder that may be written to"
        ) from error


def made_once(
    recipe: TrainingFile,
    state: list[tuple[str, int, int]],
    folder: Path,
    say: Callable[[str], None],
    make: Callable[[Path], None],
) -> None:
    """Let `make` write the prepared folder, if it is not there yet; safe for many processes at once.

    One process makes it while the others wait for its lock, outside any collective, so none of them times out.

    Args:
        state: what `rows_state` said before the content of the rows was hashed.

    Raises:
        UserError: as `make` does; or the rows changed while it was at work.
    """
    with waited_for(lock_file(folder), "prepared rows", say):
        fault = _fault(folder) if folder.is_dir() else None
        if fault:
            say(warning(f"prepared rows in {folder} are made again: {fault}"))
            shutil.rmtree(folder)
        if folder.is_dir():
            say(f"prepared rows found in {folder}; they passed the mask check when they were made")
            check_found(folder, recipe)
            return
        remove_abandoned(folder)
        tight = require_room(rows_room(state), folder, recipe.place("output_dir"))
        if tight:
            say(tight)
        partial = _partial_folder(folder)
        partial.mkdir()
        try:
            make(partial)
            check_unchanged(recipe, state)
            write_content_hashes(partial)
            sync_tree(partial)
            replace_folder(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def rows_room(state: list[tuple[str, int, int]]) -> Room:
    """The room that prepared rows of these files may need: four bytes a token, of about two letters where the
    vocabulary is small. How far compressed files unfold nobody knows before they are read.

    Args:
        state: what `rows_state` said.
    """
    most = 0.0
    for name, size, _ in state:
        text = Path(name).suffix.lower() in TEXT_KINDS
        most += size * (PREPARED_BYTES_A_BYTE if text else PREPARED_BYTES_A_PACKED_BYTE)
    return Room(0, most, "prepared rows", "name an output_dir on another disk")


def _partial_folder(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.partial"


def rows_state(recipe: TrainingFile) -> list[tuple[str, int, int]]:
    """Path, size and time of every local file of rows: what they were when their content was hashed; of a dataset on
    the Hub its commit.

    Raises:
        UserError: a file is not there, or is of a kind that is not read.
    """
    states = []
    for number, source in enumerate(recipe.dataset_mixture.datasets):
        where = recipe.place(f"dataset_mixture.datasets.{number}.id")
        files = row_files(source.id, where, recipe.path.parent)
        if files is None:
            states.append((rows_hash(source.id, where, source.revision), 0, 0))
        states += [(str(file), size, time) for file, size, time in file_states(files or [], where)]
    return states


def check_unchanged(recipe: TrainingFile, state: list[tuple[str, int, int]]) -> None:
    """Raise UserError where the rows are no longer what `rows_state` said of them."""
    if rows_state(recipe) != state:
        raise UserError(f"{recipe.path}: expected rows that stay, got a file that changed while it was read; run again")


def _fault(folder: Path) -> str | None:
    """Why prepared rows that were put into place as a whole can no longer be used, in words, or None."""
    reading = STATISTICS
    try:
        read_statistics(folder)
        reading = CONTENT
        changed = _changed(folder)
    except OtherFormError as error:
        return f"{reading}: {error}"
    except OSError as error:
        return _unreadable(error)
    if changed:
        return changed
    try:
        load_from_disk(str(folder))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return _unreadable(error)
    return None


def write_content_hashes(folder: Path) -> None:
    """Write the hash of every file of prepared rows but that of the counts, by its path, beside them."""
    files = (file for file in files_below(folder) if file.name not in (CONTENT, STATISTICS))
    write_json(folder / CONTENT, {file.relative_to(folder).as_posix(): content_hash(file) for file in files})


def _changed(folder: Path) -> str | None:
    """What of prepared rows is not as it was written, as after a power cut; large files are read once."""
    recorded = json_of_form(folder / CONTENT, Form)
    if "dataset_dict.json" not in recorded:
        return f"{CONTENT} has no record of them"
    for name, digest in recorded.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if content_hash(folder / name) != digest:
            return f"{name} has changed"
    return None


def _unreadable(error: Exception) -> str:
    """That a file cannot be read, in words; what the disk refuses is raised, for the rows may be sound."""
    if disk_refusal(error):
        raise error
    return f"a file of them cannot be read ({first_line(error)})"


def check_found(folder: Path, recipe: TrainingFile) -> None:
    """Hold a folder that was made earlier to this recipe's `max_reject_share` and `unknown_fields`.

    Raises:
        UserError: the recipe allows less.
    """
    rejects = folder / "rejects.jsonl"
    first = {"row": "", "reason": ""}
    if rejects.is_file():
        with rejects.open("rb") as lines, contextlib.suppress(ValueError, TypeError, RecursionError):
            first |= json.loads(lines.readline())  # damaged: it is for a sentence alone
    stats = read_statistics(folder)
    told = f"{first['row']}: {first['reason']}"
    by_tokens = any("token_share" in source for source in stats["shares"])
    check_share(stats["total"], recipe.max_reject_share, str(recipe.path), told, by_tokens)
    check_unread(stats["unread_fields"], recipe.unknown_fields == "refuse", str(recipe.path))


def remove_abandoned(folder: Path) -> None:
    """Remove what killed preparations of the same stage left behind, unless somebody is at work there."""
    for partial in folder.parent.glob(f".{folder.name.rpartition('-')[0]}-*.partial"):
        finished = partial.with_name(partial.name.removeprefix(".").removesuffix(".partial"))
        if finished == folder:
            shutil.rmtree(partial)
            continue
        with contextlib.suppress(Timeout), FileLock(lock_file(finished), timeout=0):
            shutil.rmtree(partial)


@dataclass(frozen=True)
class TrainingRows:
    """What a training stage needs of its rows: tokenizer with the template on it, splits, counts by source."""

    tokenizer: PreTrainedTokenizerBase
    folder: Path
    splits: DatasetDict
    sources: list[dict[str, Any]]
    packed: dict[str, Any]


def training_rows(recipe: TrainingFile, say: Callable[[str], None] = print) -> TrainingRows:
    """Load the recipe's tokenizer, prepare its rows if they are not there yet, and open them memory-mapped.

    Raises:
        UserError: as `recipe_tokenizer` and `prepare_mixture` do.
    """
    tokenizer = recipe_tokenizer(recipe, say)
    folder = prepare_mixture(recipe, tokenizer, say)
    stats = read_statistics(folder)
    say(statistics_table(stats))
    return TrainingRows(tokenizer, folder, load_from_disk(str(folder)), stats["sources"], stats["packed"])
