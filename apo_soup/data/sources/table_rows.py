"""Rows of Parquet and Arrow files."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from apo_soup.data.sources.json_columns import Decoder, decoded_row, json_columns
from apo_soup.data.sources.rows import (
    ARBITRARY,
    ROWS_A_READ,
    Fields,
    SourceRow,
    text_length,
    without_nulls,
    without_row_nulls,
)
from apo_soup.errors import UserError, first_line


@dataclass(frozen=True)
class RowGroup:
    """A row group of a Parquet file: its number, that of its first row in the file, and its bytes, uncompressed."""

    number: int
    first_row: int
    size: int


def table_rows(file: Path, where: str, keep_nulls: bool = False, part: RowGroup | None = None) -> Iterator[SourceRow]:
    """Rows of a table file, or of one row group of it; a row that is damaged, or has text that is not UTF-8, is a row
    with a problem.

    Raises:
        UserError: the file is not what its suffix says.
    """
    number = part.first_row if part else 0
    for rows, decoders in _read_batches(file, where, part):
        for fields in rows:
            place = f"{file}:row {number}"
            if isinstance(fields, str):
                yield SourceRow(place, None, fields)
            elif decoders:
                yield _with_json(place, fields, decoders, keep_nulls)
            else:
                yield SourceRow(place, without_nulls(fields, ARBITRARY if keep_nulls else ()), size=text_length(fields))
            number += 1


def _with_json(place: str, fields: Fields, decoders: dict[str, Decoder], keep_nulls: bool) -> SourceRow:
    try:
        decoded, nulls = without_row_nulls(decoded_row(fields, decoders), keep_nulls)
    except (ValueError, RecursionError) as error:
        reason = first_line(error)
        return SourceRow(
            place, None, f"expected valid JSON in columns of JSON, got text that is not: {reason}; correct it"
        )
    return SourceRow(place, decoded, size=text_length(fields), nulls=nulls)


def row_groups(file: Path) -> list[tuple[RowGroup, int]] | None:
    """The row groups of a Parquet file with the number of rows in each, as its footer says; None where it cannot be
    read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(file)
        groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    except (pa.ArrowException, OSError):
        return None
    first_rows = accumulate((group.num_rows for group in groups), initial=0)
    return [
        (RowGroup(number, first, group.total_byte_size), group.num_rows)
        for number, (group, first) in enumerate(zip(groups, first_rows, strict=False))
    ]


def read_through(file: Path) -> None:
    """Read a table file as `table_rows` does, but for making rows of it; one thread, for a process that was forked.

    Raises:
        Exception: what the library says of a file that it cannot read.
    """
    batches = _parquet_batches(file, None, threads=False) if file.suffix.lower() == ".parquet" else _arrow_batches(file)
    for batch in batches:
        batch.validate(full=True)


def declared_columns(files: list[Path]) -> set[str]:
    """The columns that Parquet and Arrow files declare."""
    import pyarrow.parquet as pq

    names: set[str] = set()
    for file in files:
        if file.suffix.lower() == ".parquet":
            names |= set(pq.read_schema(file).names)
        elif file.suffix.lower() == ".arrow":
            names |= {name for batch in islice(_arrow_batches(file), 1) for name in batch.schema.names}
    return names


def _read_batches(
    file: Path, where: str, part: RowGroup | None
) -> Iterator[tuple[list[Fields | str], dict[str, Decoder]]]:
    """The rows of each batch, and what decodes their columns of JSON; an error of the library's is the file's."""
    import pyarrow as pa

    try:
        batches = _parquet_batches(file, part) if file.suffix.lower() == ".parquet" else _arrow_batches(file)
        for number, batch in enumerate(batches):
            if number == 0:
                _check_names(batch.schema, f"{where}: {file}")
            yield _batch_rows(batch), json_columns(batch.schema)
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        kind = file.suffix[1:].lower()
        raise UserError(
            f"{where}: {file}: expected a file of format {kind}, got one that cannot be read as {kind}: "
            f"{first_line(error)}; write it again"
        ) from error


def _check_names(fields: Any, place: str) -> None:
    """Raise UserError where a table, or a struct at whatever depth in it, has two fields of one name."""
    import pyarrow as pa

    names = [field.name for field in fields]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{place}: expected a name of its own for every column, got {twice!r} twice; rename one")
    for field in fields:
        kind = field.type
        while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            kind = kind.value_type
        if pa.types.is_struct(kind):
            _check_names(kind, place)


def _parquet_batches(file: Path, part: RowGroup | None, threads: bool = True) -> Iterator[Any]:
    import pyarrow.parquet as pq

    state = file.stat()
    footer = _footer(file, state.st_size, state.st_mtime_ns)
    opened = pq.ParquetFile(file, metadata=footer, page_checksum_verification=True)
    groups = None if part is None else [part.number]
    yield from opened.iter_batches(ROWS_A_READ, row_groups=groups, use_threads=threads)


@lru_cache(maxsize=2)
def _footer(file: Path, size: int, changed: int) -> Any:
    """The footer of a Parquet file of this size and time, parsed once for all row groups: it lists each of them."""
    import pyarrow.parquet as pq

    return pq.read_metadata(file)


def _batch_rows(batch: Any) -> list[Fields | str]:
    """The rows of a record batch; in place of a row that cannot be read, what is wrong with it.

    A batch whose offsets point outside of its buffers is read out of bounds, so it is validated before.
    """
    import pyarrow as pa

    try:
        batch.validate(full=True)
        rows: list[Fields | str] = batch.to_pylist(maps_as_pydicts="strict")
        return rows
    except (pa.ArrowInvalid, UnicodeDecodeError, KeyError):
        pass  # a row of the batch is at fault, and the others are to be kept
    return [_one_row(batch.slice(number, 1)) for number in range(batch.num_rows)]


def _one_row(batch: Any) -> Fields | str:
    """The one row of a batch, or what is wrong with it."""
    import pyarrow as pa

    try:
        batch.validate(full=True)
        row: Fields = batch.to_pylist(maps_as_pydicts="strict")[0]
    except KeyError as error:
        return f"expected each key of a map once, got one twice: {first_line(error)}; correct the row"
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        if isinstance(error, UnicodeDecodeError) or "UTF8" in str(error):
            return "expected UTF-8, got another encoding in one of the texts; convert texts before they are stored"
        return f"expected a row that can be read, got a damaged one: {first_line(error)}; write the file again"
    return row


def _arrow_batches(file: Path) -> Iterator[Any]:
    """Batches of an Arrow file in either layout: the stream that `datasets` writes, or the file that others write."""
    import pyarrow as pa

    with pa.OSFile(str(file)) as opened:
        try:
            batches = pa.ipc.open_stream(opened)
        except pa.ArrowInvalid:
            opened.seek(0)
            reader = pa.ipc.open_file(opened)
            batches = (reader.get_batch(n) for n in range(reader.num_record_batches))
        for batch in batches:
            for start in range(0, batch.num_rows, ROWS_A_READ):
                yield batch.slice(start, ROWS_A_READ)
