"""All rows of a source in their stored order, from files or the Hub, each with a place to point at.

Nothing is kept in memory: a source of any size passes through in batches.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from apo_soup.config.file_names import row_kind
from apo_soup.data.conversations.turn_fields import EMPTY
from apo_soup.data.sources.csv_rows import csv_rows
from apo_soup.data.sources.hub_rows import hub_rows
from apo_soup.data.sources.json_rows import json_file_rows, json_line_rows
from apo_soup.data.sources.rows import Fields, RowError, SourceRow
from apo_soup.data.sources.source import Source
from apo_soup.data.sources.table_rows import declared_columns, table_rows
from apo_soup.errors import UserError
from apo_soup.runs.sources import row_files


@dataclass
class SourceColumns:
    """The columns of a source's rows: which are kept, and under which names.

    `missing` are those that the recipe names and no row had so far; None where there was no row at all.
    """

    source: Source
    missing: set[str] | None = None

    def named(self, row: SourceRow) -> SourceRow:
        """A row with just its columns, under the names the formats know."""
        columns, rename = self.source.columns, dict(self.source.rename)
        if self.missing is None:
            self.missing = set(columns or ()) | rename.keys()
        if row.content is None or (columns is None and not rename):
            return row
        self.missing -= row.content.keys()
        kept = {k: v for k, v in row.content.items() if columns is None or k in columns or k in rename}
        try:
            renamed = _renamed(kept, rename)
        except RowError as error:
            return SourceRow(row.place, None, str(error))
        # A column that is renamed takes the place of one that already has its name.
        kept = {k: v for k, v in kept.items() if k not in rename}
        return SourceRow(row.place, kept | renamed, size=row.size, nulls=row.nulls)

    def check(self, where: str) -> None:
        """Raise UserError where a column or renamed field is in no row, and no file declares it."""
        if self.missing:
            # A column of nothing but nulls is there, though no row shows it.
            self.missing -= declared_columns(row_files(self.source.id, where) or [])
        if self.missing:
            names = ", ".join(sorted(self.missing))
            raise UserError(
                f"{where}: source {self.source.name}: columns, rename: expected columns that the rows have, got "
                f"{names}, which no row has; correct the names"
            )


def _renamed(fields: Fields, rename: dict[str, str]) -> Fields:
    """The renamed columns of a row. Several may have one new name, where each row has one of them.

    Raises:
        RowError: two of them say something.
    """
    renamed: Fields = {}
    for column, name in rename.items():
        if column in fields and fields[column] not in EMPTY and renamed.get(name) not in EMPTY:
            both = " and ".join(other for other in rename if rename[other] == name and other in fields)
            raise RowError(
                f"rename: expected one column of a row to become {name}, got {both}; rename the one that is meant"
            )
        if column in fields and (name not in renamed or fields[column] not in EMPTY):
            renamed[name] = fields[column]
    return renamed


def read_rows(source: Source, where: str) -> Iterator[SourceRow]:
    """All rows of a source in their stored order, with just its columns, under the names the formats know.

    Raises:
        UserError: a file that is not what its suffix says, a dataset the Hub does not give, or a column or renamed
            field that no row has.
    """
    columns = SourceColumns(source)
    yield from map(columns.named, stored_rows(source, where))
    columns.check(where)


def stored_rows(source: Source, where: str) -> Iterator[SourceRow]:
    """All rows of a source as they are stored.

    Raises:
        UserError: as `read_rows`, but for columns that no row has.
    """
    files = row_files(source.id, where)
    if files is None:
        yield from hub_rows(source, where)
        return
    for file in files:
        yield from file_rows(file, where, source.keep_nulls)


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


def file_rows(file: Path, where: str, keep_nulls: bool) -> Iterator[SourceRow]:
    """All rows of a file.

    Raises:
        UserError: it is not what its suffix says; told when its rows are taken.
    """
    kind = row_kind(file)
    if kind == ".jsonl":
        return json_line_rows(file, where, keep_nulls)
    if kind == ".json":
        return json_file_rows(file, where, keep_nulls)
    if kind in (".csv", ".tsv"):
        return csv_rows(file, where, "," if kind == ".csv" else "\t", keep_nulls)
    return table_rows(file, where, keep_nulls)
