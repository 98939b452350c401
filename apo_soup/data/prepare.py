"""Rows to a folder of training sequences that `datasets.load_from_disk` opens.

Read every source, draw its share, render, tokenise, mask, pass the gate, pack, write. The folder is keyed by content
(rows, options, template, tokenizer, this code and the libraries that render), so unchanged content is found again and
changed content never is. Rows that cannot be used go to `rejects.jsonl` with the reason; `stats.json` counts
everything that was read.
"""

import contextlib
import gc
import json
import random
import shutil
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict, load_from_disk
from filelock import FileLock, Timeout
from transformers import PreTrainedTokenizerBase

from apo_soup.config.recipe import Recipe
from apo_soup.data.clean import Cleaner, Duplicates, eval_prompts, eval_sources
from apo_soup.data.encode import (
    IGNORED,
    PAIR_COLUMNS,
    SEQUENCE_COLUMNS,
    Batch,
    Document,
    Encoder,
    Options,
    Refused,
    Task,
    encoded,
)
from apo_soup.data.formats import Format, formats_of, recognise
from apo_soup.data.mask_check import CHARACTERS_PER_SOURCE, ROWS_PER_SOURCE
from apo_soup.data.packing import Piece, plan
from apo_soup.data.rows import Row, Source, count, drawn, read
from apo_soup.data.statistics import Tally, check_share, show
from apo_soup.data.writer import Spool, write_split
from apo_soup.errors import UserError
from apo_soup.hashing import hash_value
from apo_soup.models.tokenizer import recipe_tokenizer, tokenizer_text
from apo_soup.progress import Progress, is_main
from apo_soup.runs.code_hash import code_hash
from apo_soup.runs.manifest import peak_memory_mb, write_json
from apo_soup.runs.sources import row_files, rows_hash
from apo_soup.runs.stage import replace_folder
from apo_soup.runs.suite_inputs import eval_rows_hash

ROWS_A_BATCH = 1024
BATCHES_A_COLLECTION = 64
CHARACTERS_A_BATCH = 1_000_000
PEEKED = 100
REJECT_SHARE = 0.01
# Keys beside the mixture that decide what is written.
OPTIONS = ("max_length", "overflow", "packing", "packing_strategy", "assistant_only_loss", "completion_only_loss")
OPTIONS += ("chat_template_kwargs", "eos_token")
LIBRARIES = ("transformers", "tokenizers", "jinja2")


def prepared_folder(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Where the prepared data of this recipe lies: beside the run's stages, named by content."""
    values = recipe.values
    mixture = values["dataset_mixture"]
    near = mixture.get("deduplicate") == "near"
    rows = [
        rows_hash(s["id"], recipe.where(f"dataset_mixture.datasets.{n}.id"), s.get("revision"))
        for n, s in enumerate(mixture["datasets"])
    ]
    content = {
        "rows": rows,
        "names": [s["id"] for s in mixture["datasets"]],
        "mixture": {**mixture, "datasets": [{k: v for k, v in s.items() if k != "id"} for s in mixture["datasets"]]},
        "evals": eval_rows_hash(recipe),
        "options": {k: values.get(k) for k in OPTIONS},
        "template": tokenizer.get_chat_template(),
        "tokenizer": tokenizer_text(tokenizer),
        "pairs": recipe.stage == "apo",
        "code": hash_value([code_hash("apo_soup/data"), code_hash("apo_soup/models")]),
        "libraries": {name: version(name) for name in (*LIBRARIES, *(("datasketch",) if near else ()))},
    }
    output = Path(recipe.need("output_dir"))
    if recipe.member is not None:
        output = output.parent
    return output.parent / "prepared" / f"{output.name}-{hash_value(content)[:16]}"


def prepare(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, say: Callable[[str], None] = print) -> Path:
    """The prepared folder of a recipe, made now if its content is not there yet; safe for many processes at once.

    One process makes it while the others wait for its lock, outside any collective, so none of them times out.

    Raises:
        UserError: too many rejected rows, a source that fails the gate, or nothing left to train on.
    """
    state = rows_state(recipe)
    folder = prepared_folder(recipe, tokenizer)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{recipe.where('output_dir')}: {folder.parent} cannot be made: {error.strerror}") from error
    with FileLock(_lock(folder)):
        if (folder / "stats.json").is_file():
            say(f"prepared rows found in {folder}; they passed the gate when they were made")
            check_found(folder, recipe)
            return folder
        remove_abandoned(folder)
        partial = _partial(folder)
        partial.mkdir()
        try:
            Preparation(recipe, tokenizer, partial, say).run(folder)
            if rows_state(recipe) != state:
                raise UserError(f"{recipe.path}: a file of rows was written to while it was read; run again")
            replace_folder(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _lock(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.lock"


def _partial(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.partial"


def rows_state(recipe: Recipe) -> list[tuple[str, int, int]]:
    """Path, size and time of every local file of rows: what they were when their content was hashed."""
    found = []
    for number, source in enumerate(recipe.values["dataset_mixture"]["datasets"]):
        for file in row_files(source["id"], recipe.where(f"dataset_mixture.datasets.{number}.id")) or ():
            found.append((str(file), file.stat().st_size, file.stat().st_mtime_ns))
    return found


def check_found(folder: Path, recipe: Recipe) -> None:
    """Hold a folder that was made earlier to this recipe's `max_reject_share`."""
    rejects = folder / "rejects.jsonl"
    first = json.loads(rejects.open().readline()) if rejects.is_file() else {"row": "", "reason": ""}
    total = json.loads((folder / "stats.json").read_text())["total"]
    share = recipe.values.get("max_reject_share", REJECT_SHARE)
    check_share(total, share, str(recipe.path), f"{first['row']}: {first['reason']}")


def remove_abandoned(folder: Path) -> None:
    """Remove what killed preparations of the same stage left behind, unless somebody is at work there."""
    for partial in folder.parent.glob(f".{folder.name.rpartition('-')[0]}-*.partial"):
        made = partial.with_name(partial.name.removeprefix(".").removesuffix(".partial"))
        if made == folder:
            shutil.rmtree(partial)
            continue
        with contextlib.suppress(Timeout), FileLock(_lock(made), timeout=0):
            shutil.rmtree(partial)


@dataclass(frozen=True)
class TrainingRows:
    """What a training stage needs of its rows: tokenizer with the template on it, splits, counts by source."""

    tokenizer: PreTrainedTokenizerBase
    folder: Path
    splits: DatasetDict
    sources: list[dict[str, Any]]
    packed: dict[str, Any]


def training_rows(recipe: Recipe, say: Callable[[str], None] = print) -> TrainingRows:
    """Load the recipe's tokenizer, prepare its rows if they are not there yet, and open them memory-mapped."""
    tokenizer = recipe_tokenizer(recipe)
    folder = prepare(recipe, tokenizer, say)
    stats = json.loads((folder / "stats.json").read_text())
    say(show(stats))
    return TrainingRows(tokenizer, folder, load_from_disk(str(folder)), stats["sources"], stats["packed"])


class Preparation:
    """One preparation at work in its own folder."""

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerBase, folder: Path, say: Callable[[str], None]):
        self.recipe, self.folder, self.say = recipe, folder, say
        self.pairs = recipe.stage == "apo"
        mixture = recipe.values["dataset_mixture"]
        self.seed = mixture.get("seed", 0)
        self.options = Options.of(recipe.values, self.pairs)
        duplicates = mixture.get("deduplicate")
        evals = eval_prompts(eval_sources(recipe), mixture.get("decontaminate_ngram", 13))
        self.encoder = Encoder(tokenizer, self.options, Cleaner(duplicates, evals))
        threshold = mixture.get("deduplicate_threshold", 0.8)
        self.duplicates = Duplicates(duplicates == "near", threshold, folder) if duplicates else None
        self.tally = Tally(folder)
        self.spool = Spool(folder / "spool.bin", 3 if self.pairs else 2)
        # For each kept row: its first document in the spool, how many it is in, and how often it is taken.
        self.first, self.pieces, self.times = array("q"), array("i"), array("i")
        self.progress = Progress("prepare", "rows", self._rows(), quiet=not is_main())

    def run(self, folder: Path) -> None:
        """Write splits, counts and lists of refused rows. A list of rejects stays beside `folder` if this fails."""
        started = time.monotonic()
        beside = folder.parent / f"{folder.name.rpartition('-')[0]}-rejects.jsonl"
        beside.unlink(missing_ok=True)
        arguments: set[str] = set()
        # The collector would walk the libraries' many objects again and again, and then every row's. What is left in
        # cycles here is little, and is looked for now and then.
        gc.freeze()
        gc.disable()
        try:
            processes = self.recipe.values.get("dataset_num_proc") or 1
            for number, batch in enumerate(encoded(self._batches(), self.encoder, processes), 1):
                arguments |= batch.arguments
                self._collect(batch)
                if number % BATCHES_A_COLLECTION == 0:
                    gc.collect()
            self.tally.check(self.recipe.values.get("max_reject_share", REJECT_SHARE), str(self.recipe.path))
        finally:
            gc.enable()
            gc.unfreeze()
            self.progress.end()
            rejects = self.tally.close().get("rejects")
            if rejects:
                shutil.copy(rejects, beside)
                self.say(f"{self.tally.sum('rejected')} rejected rows, with reasons, in {beside}")
        unread = self.encoder.renderer.unread(arguments)
        if unread:
            self.say(f"note: the chat template does not read the template arguments {', '.join(sorted(unread))}")
        if self.duplicates:
            self.duplicates.close()
        packed = self._write_splits()
        seconds = time.monotonic() - started
        stats = {
            "seconds": round(seconds, 2),
            "tokens_per_second": round(self.tally.sum("tokens") / seconds),
            "peak_memory_mb": peak_memory_mb(),
            "sources": self.tally.rows(),
            "total": self.tally.total(),
            "packed": packed,
        }
        write_json(self.folder / "stats.json", stats)

    def _rows(self) -> int | None:
        """How many rows there are to read, where every source can say it quickly."""
        entries = self.recipe.values["dataset_mixture"]["datasets"]
        where = self.recipe.where("dataset_mixture.datasets")
        counts = [count(Source.from_entry(entry), where) for entry in entries]
        return None if None in counts else sum(counts)

    def _batches(self) -> Iterator[list[Task]]:
        """The drawn rows in batches of bounded size, source by source."""
        held: list[Task] = []
        size = 0
        for task in self._tasks():
            held.append(task)
            size += task.row.size
            if len(held) == ROWS_A_BATCH or size > CHARACTERS_A_BATCH:
                yield held
                held, size = [], 0
        if held:
            yield held

    def _tasks(self) -> Iterator[Task]:
        for number, source, rows, shape in shaped_sources(self.recipe):
            gated = looked_at = 0
            self.tally.of(source.name)
            for row, times in drawn(rows, source.weight, self.seed, number):
                self.tally.seen[source.name] += 1
                if times == 0:
                    self.tally.skip(source.name)
                    continue
                yield Task(source, row, shape, times, gated < ROWS_PER_SOURCE and looked_at < CHARACTERS_PER_SOURCE)
                gated += 1
                looked_at += row.size

    def _collect(self, batch: Batch) -> None:
        for task, result in zip(batch.tasks, batch.results, strict=True):
            if isinstance(result, Document) and self.duplicates and result.fingerprint:
                reason = self.duplicates.seen(result.fingerprint, task.row.place)
                result = Refused("duplicate", reason) if reason else result
            if isinstance(result, Refused):
                self.tally.refuse(task, result)
                continue
            self.tally.keep(task, result)
            self.first.append(len(self.spool))
            self.pieces.append(len(result.parts))
            self.times.append(task.times)
            for parts in result.parts:
                self.spool.append(parts)
        self.progress.at(self.tally.sum("read"), f"{self.tally.sum('tokens'):,} tokens")

    def _write_splits(self) -> dict[str, Any]:
        """Hold out the test share, pack each split and write it; returns what packing made of the training split."""
        self.spool.flush()
        share = self.recipe.values["dataset_mixture"].get("test_split_size")
        train, test = split_off(len(self.first), share, self.seed)
        if not train:
            raise UserError(f"{self.recipe.path}: test_split_size {share} leaves no row to train on")
        splits = {"train": with_copies(train, self.times, self.seed)} | ({"test": test} if test else {})
        packed: dict[str, Any] = {}
        for name, rows in splits.items():
            documents = [self.first[r] + k for r in rows for k in range(self.pieces[r])]
            if self.pairs:
                write_split(self.folder / name, PAIR_COLUMNS, (self.spool.read(d) for d in documents))
                continue
            lengths = [self.spool.lengths[2 * d] for d in documents]
            sequences = plan(lengths, self.options.max_length, self.options.strategy)
            packs = Packs()
            built = (self._sequence(s, documents) for s in sequences)
            written = write_split(self.folder / name, SEQUENCE_COLUMNS, packs.trained_only(built))
            if not written:
                raise UserError(f"{self.recipe.path}: no sequence of the {name} split holds a trained token")
            packed |= packs.counts(self.options.max_length) if name == "train" else {"held_out": vars(packs)}
        self.spool.close()
        (self.folder / "spool.bin").unlink()
        write_json(self.folder / "dataset_dict.json", {"splits": list(splits)})
        return packed

    def _sequence(self, pieces: list[Piece], documents: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids, labels and document lengths of one packed sequence; no label crosses the start of a piece."""
        ids, labels = [], []
        for number, start, end in pieces:
            document_ids, document_labels = self.spool.read(documents[number])
            if start:
                document_labels = document_labels.copy()
                document_labels[start] = IGNORED
            if end - start < len(document_ids):
                document_ids, document_labels = document_ids[start:end], document_labels[start:end]
            ids.append(document_ids)
            labels.append(document_labels)
        lengths = np.array([end - start for _, start, end in pieces], dtype=np.int32)
        return np.concatenate(ids), np.concatenate(labels), lengths


@dataclass
class Packs:
    """Counts packed sequences on their way to disk, and keeps back those without a single trained token.

    Wrapped packing cuts long prompts into such sequences, and the mean loss over none of a batch's tokens is no number.
    """

    sequences: int = 0
    tokens: int = 0
    trained: int = 0
    untrained: int = 0

    def trained_only(self, sequences: Iterable[tuple[np.ndarray, ...]]) -> Iterator[tuple[np.ndarray, ...]]:
        for ids, labels, lengths in sequences:
            trained = int(np.count_nonzero(labels != IGNORED))
            if not trained:
                self.untrained += len(ids)
                continue
            self.sequences += 1
            self.tokens += len(ids)
            self.trained += trained
            yield ids, labels, lengths

    def counts(self, capacity: int) -> dict[str, Any]:
        """What packing made; `untrained` are the tokens of the sequences that were kept back."""
        return {**vars(self), "filled": round(self.tokens / (self.sequences * capacity), 4)}


def shaped_sources(recipe: Recipe) -> Iterator[tuple[int, Source, Iterator[Row], Format]]:
    """Every source with its rows and their format, found from the first rows where the recipe names none.

    Raises:
        UserError: a format nobody knows, or none that fits the first rows.
    """
    formats = formats_of(recipe.stage)
    listed: Counter[str] = Counter()
    for number, entry in enumerate(recipe.values["dataset_mixture"]["datasets"]):
        source = Source.from_entry(entry)
        listed[source.name] += 1
        source = replace(source, listing=listed[source.name])
        place = f"dataset_mixture.datasets.{number}"
        rows = read(source, recipe.where(f"{place}.id"))
        names = ", ".join(f.name for f in formats)
        if source.format:
            shape = next((f for f in formats if f.name == source.format), None)
            if shape is None:
                raise UserError(
                    f"{recipe.where(f'{place}.format')}: no format of this stage is called {source.format}; "
                    f"known: {names}"
                )
        else:
            peeked = list(islice(rows, PEEKED))
            rows = chain(peeked, rows)
            readable = [row.content for row in peeked if row.content is not None]
            shape = next((f for f in (recognise(c, formats) for c in readable) if f), None)
            if shape is None and readable:
                have = ", ".join(sorted(readable[0])) or "no fields"
                raise UserError(
                    f"{recipe.where(f'{place}.id')}: the rows of {source.name} have {have}; they fit none of the "
                    f"formats {names}. Map their columns with rename, such as rename: {{question: prompt}}"
                )
            shape = shape or formats[0]
        yield number, source, rows, shape


def split_off(count: int, share: float | None, seed: int) -> tuple[list[int], list[int]]:
    """Seeded train and test indices; `share` of the rows, at least one, goes to test when it is given."""
    order = list(range(count))
    random.Random(f"{seed} order").shuffle(order)
    held = max(1, round(share * count)) if share else 0
    return order[held:], order[:held]


def with_copies(rows: list[int], times: array, seed: int) -> list[int]:
    """`rows` with those that are taken more than once repeated, and then shuffled anew; held-out rows never are."""
    copies = [row for row in rows for _ in range(times[row] - 1)]
    if not copies:
        return rows
    order = rows + copies
    random.Random(f"{seed} copies").shuffle(order)
    return order
