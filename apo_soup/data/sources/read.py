"""All rows of a source in their stored order, from files or the Hub, each with a place to point at.

Nothing is kept in memory: a source of any size passes through in batches.
"""

from collections.abc import Iterator
from pathlib import Path

from apo_soup.data.sources.csv_rows import csv_rows
from apo_soup.data.sources.hub_rows import hub_rows
from apo_soup.data.sources.json_rows import json_file_rows, json_line_rows
from apo_soup.data.sources.rows import SourceRow
from apo_soup.data.sources.source import Source
from apo_soup.data.sources.table_rows import declared_columns, parquet_row_count, table_rows
from apo_soup.errors import UserError
from apo_soup.runs.sources import row_files, row_kind


def read_rows(source: Source, where: str) -> Iterator[SourceRow]:
    """All rows of a source in their stored order, with just its columns, under the names the formats know.

    Raises:
        UserError: a file that is not what its suffix says, a dataset the Hub does not give, or a column or renamed
            field that no row has.
    """
    files = row_files(source.id, where)
    rows = (
        hub_rows(source, where)
        if files is None
        else (row for file in files for row in _file_rows(file, where, source.keep_nulls))
    )
    columns, rename = source.columns, dict(source.rename)
    missing = set(columns or ()) | rename.keys()
    some = False
    for row in rows:
        some = True
        if row.content is None or (columns is None and not rename):
            yield row
            continue
        missing -= row.content.keys()
        kept = {k: v for k, v in row.content.items() if columns is None or k in columns or k in rename}
        # A column that is renamed takes the place of one that already has its name.
        renamed = {rename[k]: kept.pop(k) for k in rename if k in kept}
        yield SourceRow(row.place, kept | renamed, size=row.size, nulls=row.nulls)
    if some and missing:
        missing -= declared_columns(files or [])  # a column of nothing but nulls is there, though no row shows it
    if some and missing:
        names = ", ".join(sorted(missing))
        raise UserError(
            f"{where}: source {source.name}: columns, rename: expected columns that the rows have, got {names}, which "
            "no row has; correct the names"
        )


def count_rows(source: Source, where: str) -> int | None:
    """About how many rows a source has, where that is quick to know; None elsewhere."""
    files = row_files(source.id, where)
    if files is None or any(file.suffix.lower() not in (".jsonl", ".parquet") for file in files):
        return None
    total = 0
    for file in files:
        count = parquet_row_count(file) if file.suffix.lower() == ".parquet" else _line_count(file)
        if count is None:
            return None  # `read_rows` says what is wrong with the file
        total += count
    return total


def read_all_rows(file: str, where: str) -> list[SourceRow]:
    """All rows of a local file.

    Raises:
        UserError: the file has no row, or one that cannot be read, with the place of the first.
    """
    rows = list(read_rows(Source(file), where))
    for row in rows:
        if row.content is None:
            raise UserError(f"{row.place}: {row.problem}")
    if not rows:
        raise UserError(f"{where}: {file}: expected at least one row, got an empty file; write its rows first")
    return rows


def _file_rows(file: Path, where: str, keep_nulls: bool) -> Iterator[SourceRow]:
    kind = row_kind(file)
    if kind == ".jsonl":
        return json_line_rows(file, where, keep_nulls)
    if kind == ".json":
        return json_file_rows(file, where, keep_nulls)
    if kind in (".csv", ".tsv"):
        return csv_rows(file, where, "," if kind == ".csv" else "\t", keep_nulls)
    return table_rows(file, where, keep_nulls)


def _line_count(file: Path) -> int:
    with file.open("rb") as opened:
        return sum(piece.count(b"\n") for piece in iter(lambda: opened.read(2**20), b""))
