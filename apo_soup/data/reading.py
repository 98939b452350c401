"""From the sources of a mixture to batches of rows to encode, in their order."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice, repeat

from apo_soup.config.training import TrainingFile
from apo_soup.data.checks.mask_check import CHARACTERS_PER_SOURCE, ROWS_PER_SOURCE
from apo_soup.data.conversations.formats import Format
from apo_soup.data.conversations.source_mode import ParseRow, sources_in_mode
from apo_soup.data.documents import RowToEncode
from apo_soup.data.options import Options
from apo_soup.data.sources.chunks import Chunk, chunk_rows
from apo_soup.data.sources.draw import Draw
from apo_soup.data.sources.mixture import MixtureSource, mixture_sources
from apo_soup.data.sources.read import SourceColumns
from apo_soup.data.sources.rows import SourceRow
from apo_soup.data.sources.source import Source

ROWS_A_BATCH = 1024
CHARACTERS_A_BATCH = 1_000_000


@dataclass
class RowBatch:
    """Rows of one source that are encoded together, and what was seen of the rows they were drawn from.

    `read` is how many these were, `not_drawn` those that are not taken, `nulls` those whose nulls were taken for
    missing keys; `missing` are columns that the recipe names and none of them has, None where there was no row.
    """

    source: Source
    rows: list[RowToEncode] = field(default_factory=list)
    read: int = 0
    not_drawn: int = 0
    nulls: int = 0
    missing: set[str] | None = None

    @property
    def place(self) -> str:
        """Where its first row is."""
        return self.rows[0].row.place if self.rows else self.source.name


@dataclass(frozen=True)
class Portion:
    """A chunk of a source that is still to be read, and how often its rows are taken: each, or all of them, or as drawn
    while they are read, for a chunk that is the whole source. `first` is whether it is among the source's first rows,
    which the mask check looks at.
    """

    source: Source
    format: Format
    where: str
    chunk: Chunk
    times: list[int] | int | Draw
    first: bool

    @property
    def place(self) -> str:
        """Where its rows are."""
        return self.chunk.place if self.chunk.file else self.source.name

    def batches(self) -> Iterator[RowBatch]:
        """Its rows in batches; there is one where there are no rows, too.

        Raises:
            UserError: a file is not what its suffix says, or no longer what it was when it was divided.
        """
        batch, columns = RowBatch(self.source), SourceColumns(self.source)
        size = checked = characters = 0
        for stored, times in self._drawn():
            row = columns.named(stored)
            batch.read += 1
            batch.nulls += row.nulls
            batch.missing = columns.missing
            if times == 0:
                batch.not_drawn += 1
                continue
            check = self.first and checked < ROWS_PER_SOURCE and characters < CHARACTERS_PER_SOURCE
            batch.rows.append(RowToEncode(self.source, row, self.format, times, check))
            checked += 1
            characters += row.size
            size += row.size
            if len(batch.rows) == ROWS_A_BATCH or size > CHARACTERS_A_BATCH:
                yield batch
                batch, columns, size = RowBatch(self.source), SourceColumns(self.source), 0
        yield batch

    def _drawn(self) -> Iterator[tuple[SourceRow, int]]:
        rows = chunk_rows(self.chunk, self.source, self.where)
        if isinstance(self.times, Draw):
            return self.times.drawn(rows)
        return zip(rows, repeat(self.times) if isinstance(self.times, int) else self.times, strict=False)


def source_portions(
    entry: MixtureSource, chunks: list[Chunk], where: str, seed: int, taken: Collection[int] | None = None
) -> Iterator[Portion]:
    """The portions of a source, in the order of its rows; those of the places `taken`, where they are given."""
    draw = Draw(entry.source.weight, seed, entry.number)
    drawn = draw.times_of(sum(chunk.rows or 0 for chunk in chunks))
    rows_before = size_before = 0
    for place, chunk in enumerate(chunks):
        first = rows_before < ROWS_PER_SOURCE and size_before < CHARACTERS_PER_SOURCE
        rows_before += ROWS_PER_SOURCE if chunk.rows is None else chunk.rows
        size_before += chunk.size
        times: list[int] | int | Draw = draw.whole
        if not draw.of_all:
            times = draw if chunk.rows is None else list(islice(drawn, chunk.rows))
        if taken is None or place in taken:
            yield Portion(entry.source, entry.format, where, chunk, times, first)


def mixture_portions(
    recipe: TrainingFile,
    chunks: list[list[Chunk]],
    parse: ParseRow | None,
    say: Callable[[str], None],
    taken: Collection[tuple[int, int]] | None = None,
) -> Iterator[Portion]:
    """The portions of every source of a mixture, one source after the other.

    Args:
        chunks: those of each source.
        parse: a row's fields as an item, where the chat template has modes, so that a source's rows are to be in one.
        taken: numbers of sources and places of their chunks, where not all are to be read.

    Raises:
        UserError: a source that cannot be read, or whose format or mode is not known.
    """
    options = Options.of(recipe)
    sources = range(len(chunks))
    places: dict[int, set[int] | None] = dict.fromkeys(sources)
    if taken is not None:
        places = {number: {place for source, place in taken if source == number} for number in sources}
    entries = mixture_sources(recipe, without=[number for number in sources if places[number] == set()])
    if parse:
        entries = sources_in_mode(entries, options.template_kwargs, parse, say)
    for entry in entries:
        where = recipe.place(f"dataset_mixture.datasets.{entry.number}.id")
        seed = recipe.dataset_mixture.seed
        yield from source_portions(entry, chunks[entry.number], where, seed, places[entry.number])
