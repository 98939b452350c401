"""Chunks: consecutive rows of a source that one process reads, wherever it runs.

A plain file of JSON lines is divided by byte ranges, a Parquet file by row groups, without a row being read. What
cannot be divided so (compressed text, CSV, one JSON list, Arrow, the Hub) is a chunk as it is. Where chunks begin
depends on the files alone, so that every number of processes, and every task of a cluster, makes the same rows of them.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from apo_soup.config.file_names import has_rows_by_line
from apo_soup.data.sources.json_rows import LineRange, json_line_rows
from apo_soup.data.sources.read import file_rows, stored_rows
from apo_soup.data.sources.row_bytes import opened_rows
from apo_soup.data.sources.rows import SourceRow
from apo_soup.data.sources.source import Source
from apo_soup.data.sources.table_rows import RowGroup, row_groups, table_rows
from apo_soup.errors import UserError
from apo_soup.runs.sources import row_files

BYTES_A_CHUNK = 2**20
# Row groups of more bytes, uncompressed, are too much for one answer between processes.
LARGEST_ROW_GROUP = 2**26
# Lines without a row, which have no number among the rows.
BLANK_LINE = re.compile(rb"^[ \t\r\x0b\x0c]*\n", re.MULTILINE)


@dataclass(frozen=True)
class Chunk:
    """Rows of a source that are read together.

    `part` is what is read of `file`, None for all of it; `file` is None for the whole source. `rows` is how many they
    are, None where that is not known before they are read, and `size` about how many bytes they are where they are
    stored.
    """

    file: Path | None = None
    part: LineRange | RowGroup | None = None
    rows: int | None = None
    size: int = 0

    @property
    def place(self) -> str:
        """Where its rows are."""
        if isinstance(self.part, LineRange):
            return f"{self.file}, from line {self.part.first_line} on"
        return f"{self.file}, from row {self.part.first_row} on" if self.part else str(self.file)

    @property
    def divided(self) -> bool:
        """Whether any process may read it quickly, and the answer is not too large to be sent."""
        return isinstance(self.part, LineRange) or (self.part is not None and self.part.size <= LARGEST_ROW_GROUP)


def source_chunks(source: Source, where: str) -> list[Chunk]:
    """The chunks of a source, in the order of its rows.

    A source of which a part of the rows is drawn is one chunk where its rows cannot be counted without being read.

    Raises:
        UserError: a file that is not there, or that cannot be read.
    """
    files = row_files(source.id, where)
    if files is None:
        return [Chunk()]
    chunks = [chunk for file in files for chunk in _file_chunks(file, where)]
    if source.weight % 1 and any(chunk.rows is None for chunk in chunks):
        return [Chunk()]
    return chunks


def _file_chunks(file: Path, where: str) -> Iterator[Chunk]:
    if has_rows_by_line(file):
        with opened_rows(file, where) as opened:
            for part, rows in line_ranges(opened, BYTES_A_CHUNK):
                yield Chunk(file, part, rows, size=part.end - part.start)
    elif file.suffix.lower() == ".parquet":
        groups = row_groups(file)
        if groups is None:
            yield Chunk(file)  # reading it says what is wrong with it
            return
        for group, rows in groups:
            yield Chunk(file, group, rows, size=group.size)
    else:
        yield Chunk(file, size=file.stat().st_size)


def line_ranges(opened: BinaryIO, size: int) -> Iterator[tuple[LineRange, int]]:
    """Byte ranges of whole lines, each of about `size` bytes, with the number of rows in each."""
    start, line = 0, 1
    while data := opened.read(size):
        if not data.endswith(b"\n"):
            data += opened.readline()
        yield LineRange(start, start + len(data), line), _row_count(data.removeprefix(BOM_UTF8) if start == 0 else data)
        start += len(data)
        line += data.count(b"\n")


def _row_count(data: bytes) -> int:
    """How many lines are not blank."""
    ended = data.count(b"\n")
    last = data[data.rfind(b"\n") + 1 :]
    objects = data.startswith(b"{") + data.count(b"\n{")
    if objects == ended + bool(last):  # every line is one, as in most files
        return objects
    return ended - sum(1 for _ in BLANK_LINE.finditer(data)) + bool(last.strip())


def chunk_rows(chunk: Chunk, source: Source, where: str) -> Iterator[SourceRow]:
    """The rows of a chunk as they are stored.

    Raises:
        UserError: a file that is not what its suffix says, or that is no longer what it was when it was divided.
    """
    if chunk.file is None:
        yield from stored_rows(source, where)
        return
    if isinstance(chunk.part, LineRange):
        rows = json_line_rows(chunk.file, where, source.keep_nulls, chunk.part)
    elif isinstance(chunk.part, RowGroup):
        rows = table_rows(chunk.file, where, source.keep_nulls, chunk.part)
    else:
        rows = file_rows(chunk.file, where, source.keep_nulls)
    if chunk.rows is None:
        yield from rows
        return
    count = 0
    for row in islice(rows, chunk.rows):
        count += 1
        yield row
    if count < chunk.rows or next(rows, None):
        raise UserError(
            f"{where}: {chunk.file}: expected a file that stays, got one that changed while it was read; run again"
        )


def row_count(chunks: Iterable[Chunk]) -> int | None:
    """How many rows some chunks hold, where that is known without reading them; None elsewhere."""
    counts = [chunk.rows for chunk in chunks]
    return None if None in counts else sum(count or 0 for count in counts)


def count_rows(source: Source, where: str) -> int | None:
    """How many rows a source has, where that is known without reading them; None elsewhere.

    Raises:
        UserError: a file is not there, or cannot be read.
    """
    return row_count(source_chunks(source, where))
