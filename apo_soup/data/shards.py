"""Preparation in shards: part K of N of a mixture's rows a task, and one task that joins the parts.

    apo-soup prepare --config FILE --shard K/N     # N of these, anywhere that sees the same files
    apo-soup prepare --config FILE --join          # what `apo-soup prepare` makes alone, byte for byte

What is to be done is planned once, by whichever task is first: the content of the rows is hashed and the files are
divided into chunks. A shard encodes its chunks into a file that is there when it is whole; a task that is run again
finds it. Duplicates, splits and packing need all rows and are the joining task's.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import uuid4

from filelock import FileLock
from pydantic import ConfigDict, Discriminator, Field, Tag
from transformers import PreTrainedTokenizerBase

from apo_soup.config.training import TrainingFile
from apo_soup.data.encode import encoded_batches
from apo_soup.data.encoded import EncodedBatch
from apo_soup.data.preparation import collect_into, recipe_chunks, recipe_encoder
from apo_soup.data.prepare import check_unchanged, made_once, make_folder, prepared_folder, rows_state
from apo_soup.data.reading import mixture_portions
from apo_soup.data.shard_file import read_shard, write_shard
from apo_soup.data.sources.chunks import Chunk, row_count
from apo_soup.data.sources.json_rows import LineRange
from apo_soup.data.sources.table_rows import RowGroup
from apo_soup.data.table_readers import require_living_readers
from apo_soup.errors import UserError
from apo_soup.progress import Progress
from apo_soup.runs.manifest import write_json
from apo_soup.stored_json import Count, Form, OtherFormError, json_of_form

SHARD_NAME = re.compile(r"(\d+)-of-(\d+)\.rows")


class ShardPart(Form):
    """What of a file a chunk takes, as a plan has it: these keys and no others, for a part is made of them."""

    model_config = ConfigDict(extra="forbid")


class ShardLines(ShardPart):
    """A `LineRange`."""

    start: Count
    end: Count
    first_line: Count


class ShardGroup(ShardPart):
    """A `RowGroup`."""

    number: Count
    first_row: Count
    size: Count


def _kind_of(written: Any) -> str:
    return "group" if isinstance(written, list) and written[1:2] == ["group"] else "lines"


# A chunk of a source: its file, the kind of its part, the part, its rows and characters. JSON knows lists only.
LinesChunk = tuple[str | None, Literal["lines"], ShardLines | None, Count | None, Count]
GroupChunk = tuple[str | None, Literal["group"], ShardGroup | None, Count | None, Count]
WrittenChunk = Annotated[
    Annotated[LinesChunk, Field(strict=False), Tag("lines")] | Annotated[GroupChunk, Field(strict=False), Tag("group")],
    Discriminator(_kind_of),
]


class WrittenPlan(Form):
    """A plan as its file has it."""

    folder: str
    chunks: list[list[WrittenChunk]]


@dataclass(frozen=True)
class ShardPlan:
    """Which folder all shards make, and the chunks of each source; `file` is where that is written down."""

    file: Path
    folder: Path
    chunks: list[list[Chunk]]

    @property
    def shards(self) -> Path:
        """Where the shards lie until they are joined."""
        return self.folder.parent / f".{self.folder.name}.shards"

    def shard(self, number: int, count: int) -> Path:
        """The file of shard `number` of `count`, counted from 1."""
        return self.shards / f"{number:05}-of-{count:05}.rows"


def shard_plan(recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase) -> ShardPlan:
    """The plan of a recipe's shards, made now if no other task has made it.

    Raises:
        UserError: rows that are not there or cannot be read, or that changed while they were hashed and divided.
    """
    state = rows_state(recipe)
    file = plan_file(recipe, tokenizer)
    make_folder(file.parent, recipe)
    with FileLock(file.with_suffix(".lock")):
        plan = kept_plan(file)
        if plan is None:
            plan = ShardPlan(file, prepared_folder(recipe, tokenizer), recipe_chunks(recipe))
            check_unchanged(recipe, state)
            chunks = [[_written(chunk) for chunk in of_source] for of_source in plan.chunks]
            write_json(file, {"folder": plan.folder.name, "chunks": chunks})
    return plan


def kept_plan(file: Path) -> ShardPlan | None:
    """The plan that an earlier task wrote into `plan_file`; None where there is none, or its shards are joined.

    Raises:
        UserError: the file holds something else.
    """
    if not file.is_file():
        return None
    try:
        plan = json_of_form(file, WrittenPlan)
    except OtherFormError as error:
        raise UserError(
            f"{file}: expected a plan of shards, got something else ({error}); remove this file and the folders "
            ".*.shards beside it, and prepare every shard again"
        ) from error
    chunks = [[_chunk(*written) for written in of_source] for of_source in plan["chunks"]]
    return ShardPlan(file, file.parent / plan["folder"], chunks)


def prepare_shard(
    recipe: TrainingFile,
    tokenizer: PreTrainedTokenizerBase,
    number: int,
    count: int,
    say: Callable[[str], None] = print,
) -> Path:
    """The file of shard `number` of `count`, made now if it is not there yet.

    Raises:
        UserError: as `prepare_mixture` does for a row or a source, and where the rows changed meanwhile.
    """
    state = rows_state(recipe)
    plan = shard_plan(recipe, tokenizer)
    file = plan.shard(number, count)
    if _joined(plan, say):
        return plan.folder
    if file.is_file():
        say(f"shard found: {file}")
        return file
    encoder = recipe_encoder(recipe, tokenizer)
    taken = shard_chunks(plan.chunks, number, count)
    own = [[chunk for place, chunk in enumerate(c) if (source, place) in taken] for source, c in enumerate(plan.chunks)]
    require_living_readers(recipe, own)
    portions = mixture_portions(recipe, plan.chunks, encoder.parser_of_modes, say, taken)
    batches = encoded_batches(portions, encoder, recipe.dataset_num_proc or 1)
    plan.shards.mkdir(exist_ok=True)
    # Two tasks may be at one shard, on machines whose processes have the same numbers.
    partial = file.with_name(f".{file.name}.{uuid4().hex}.partial")
    progress = Progress("prepare", "rows", row_count(plan.chunks[source][place] for source, place in taken))
    try:
        rows, tokens = write_shard(partial, _told(batches, progress))
        check_unchanged(recipe, state)  # else the shard would be joined when the rows are as they were again
        partial.rename(file)
    except FileNotFoundError:  # the shards went while this one was made
        if not _joined(plan, say):
            raise
        return plan.folder
    finally:
        progress.end()
        partial.unlink(missing_ok=True)
    say(f"shard {number} of {count}: {rows:,} rows, {tokens:,} tokens, in {progress.seconds:.0f} s, in {file}")
    return file


def join_shards(recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase, say: Callable[[str], None] = print) -> Path:
    """The prepared folder of a recipe, made of its shards.

    Raises:
        UserError: a shard is missing or damaged; or as `prepare_mixture` does for all rows together.
    """
    state = rows_state(recipe)
    plan = shard_plan(recipe, tokenizer)

    def make(partial: Path) -> None:
        batches = (batch for file in whole_shards(plan, recipe) for batch in read_shard(file))
        encoder = recipe_encoder(recipe, tokenizer)
        collect_into(partial, plan.folder, recipe, batches, row_count(chain.from_iterable(plan.chunks)), encoder, say)

    made_once(recipe, state, plan.folder, say, make)
    shutil.rmtree(plan.shards, ignore_errors=True)
    plan.file.unlink(missing_ok=True)
    return plan.folder


def whole_shards(plan: ShardPlan, recipe: TrainingFile) -> list[Path]:
    """The files of all shards, in their order.

    Raises:
        UserError: some are missing, whichever number of shards there was to be.
    """
    found = [SHARD_NAME.fullmatch(file.name) for file in plan.shards.glob("*.rows")] if plan.shards.is_dir() else []
    counts = {int(match[2]): 0 for match in found if match}
    for match in found:
        if match:
            counts[int(match[2])] += 1
    whole = next((count for count, there in counts.items() if count == there), None)
    if whole is not None:
        return [plan.shard(number, whole) for number in range(1, whole + 1)]
    if not counts:
        raise UserError(
            f"{recipe.path}: --join: expected shards in {plan.shards}, got none for these rows and options; make them "
            "first, with --shard K/N"
        )
    count = max(counts, key=lambda count: counts[count])
    missing = [f"{n}/{count}" for n in range(1, count + 1) if not plan.shard(n, count).is_file()]
    raise UserError(
        f"{recipe.path}: --join: expected {count} shards in {plan.shards}, got {counts[count]}; make "
        f"{', '.join(missing[:8])}{' ...' if len(missing) > 8 else ''}, with --shard"
    )


def shard_chunks(chunks: list[list[Chunk]], number: int, count: int) -> list[tuple[int, int]]:
    """The chunks of shard `number` of `count`, each as its source and its place there: consecutive ones, and about as
    many bytes as the others'.
    """
    places = [(source, place) for source, of_source in enumerate(chunks) for place in range(len(of_source))]
    sizes = [max(1, chunks[source][place].size) for source, place in places]
    total = sum(sizes) or 1
    middles = (end - size / 2 for end, size in zip(accumulate(sizes), sizes, strict=True))
    return [place for place, middle in zip(places, middles, strict=True) if int(count * middle / total) == number - 1]


def plan_file(recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Where the plan lies: named by all that decides it, but by sizes and times of the rows instead of their content,
    so that no task but the first reads all rows.

    Raises:
        UserError: a source is not there, or cannot be read.
    """
    folder = prepared_folder(recipe, tokenizer, rows_state(recipe))
    return folder.parent / f".{folder.name}.plan.json"


def _joined(plan: ShardPlan, say: Callable[[str], None]) -> bool:
    if not (plan.folder / "stats.json").is_file():
        return False
    say(f"prepared rows found in {plan.folder}; there is nothing to do for a shard")
    return True


def _told(batches: Iterator[EncodedBatch], progress: Progress) -> Iterator[EncodedBatch]:
    rows = 0
    for batch in batches:
        yield batch
        rows += batch.read
        progress.at(rows)


def _written(chunk: Chunk) -> list[Any]:
    kind = "lines" if isinstance(chunk.part, LineRange) else "group"
    part = asdict(chunk.part) if chunk.part else None
    return [str(chunk.file) if chunk.file else None, kind, part, chunk.rows, chunk.size]


def _chunk(file: str | None, kind: str, part: dict[str, int] | None, rows: int | None, size: int) -> Chunk:
    read = None if part is None else LineRange(**part) if kind == "lines" else RowGroup(**part)
    return Chunk(Path(file) if file else None, read, rows, size)
