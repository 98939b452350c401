"""Rows of a source from any row on, without those before it being made: what a page of a large file needs.

A plain file of JSON lines is entered at a byte, a Parquet file at a row group. Of what cannot be entered in the middle
(compressed text, CSV, one JSON list, Arrow, the Hub) the rows before are read and left. Several threads may read pages.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from apo_soup.config.file_names import has_rows_by_line
from apo_soup.data.sources.json_rows import LineRange, json_line_rows
from apo_soup.data.sources.read import file_rows, stored_rows
from apo_soup.data.sources.row_bytes import opened_rows
from apo_soup.data.sources.rows import SourceRow
from apo_soup.data.sources.source import Source
from apo_soup.data.sources.table_rows import row_groups, table_rows
from apo_soup.runs.sources import FileState, file_states, row_files

# Places that are remembered, of all that were passed.
_REMEMBERED = 10_000


@dataclass(frozen=True)
class RowPlace:
    """A place between two rows: the file's number among the source's, how many of its rows (lines, in plain JSON lines)
    are before it, and its byte where the file is entered by bytes.
    """

    file: int = 0
    before: int = 0
    byte: int = 0


@dataclass
class RowPages:
    """The rows of a source by their number, counted from 0; in plain JSON lines a blank line has a number too.

    `where` is `FILE:LINE: KEY` of the source, for messages.
    """

    source: Source
    where: str
    # The files as they were, and places in them; replaced as a whole, so that no thread sees one without the other.
    _known: tuple[list[FileState], dict[int, RowPlace]] = field(default_factory=lambda: ([], {}))

    def rows(self, first: int, count: int) -> tuple[list[SourceRow], bool]:
        """At most `count` rows from the number `first` on, and whether there are more behind them.

        Raises:
            UserError: a file is not there or cannot be read, or the Hub does not give the dataset.
        """
        found = row_files(self.source.id, self.where)
        if found is None:
            taken = list(islice(stored_rows(self.source, self.where), first, first + count + 1))
            return taken[:count], len(taken) > count
        files, places = self._places_in(file_states(found, self.where))
        place, rows = self._at(first, files, places), list[SourceRow]()
        left = count
        while place is not None and left:
            passed, made, place = self._take(place, left, files)
            left -= passed
            rows += made
        if place is not None:
            _remember(places, first + count, place)
        return rows, place is not None

    def _places_in(self, files: list[FileState]) -> tuple[list[FileState], dict[int, RowPlace]]:
        known = self._known
        if known[0] != files:
            self._known = known = (files, {0: RowPlace()})
        return known

    def _at(self, number: int, files: list[FileState], places: dict[int, RowPlace]) -> RowPlace | None:
        """The place before a row; None where the source ends before it."""
        if all(has_rows_by_line(file.path) for file in files) and number > sum(file.bytes for file in files):
            return None  # a line has a byte at least
        known = max(each for each in list(places) if each <= number)
        place: RowPlace | None = _with_rows(places[known], files)
        passed = known
        while place is not None and passed < number:
            skipped, place = self._skip(place, number - passed, files)
            passed += skipped
        if place is not None:
            _remember(places, number, place)
        return place

    def _skip(self, place: RowPlace, count: int, files: list[FileState]) -> tuple[int, RowPlace | None]:
        """Pass at most `count` rows of the file of a place; how many they were, and the place behind them."""
        file = files[place.file].path
        if has_rows_by_line(file):
            lines, size = self._lines(file, place.byte, count)
            return lines, _with_rows(RowPlace(place.file, place.before + lines, place.byte + size), files)
        total = _table_length(file)
        if total is None:
            total = place.before + sum(1 for _ in islice(self._rows_from(file, place.before), count))
        skipped = min(count, max(0, total - place.before))
        return skipped, _behind(place, skipped, skipped < count, files)

    def _take(
        self, place: RowPlace, count: int, files: list[FileState]
    ) -> tuple[int, list[SourceRow], RowPlace | None]:
        """At most `count` rows of the file of a place: how many numbers they have, themselves, and the place behind."""
        file = files[place.file].path
        if has_rows_by_line(file):
            lines, size = self._lines(file, place.byte, count)
            part = LineRange(place.byte, place.byte + size, place.before + 1)
            rows = list(json_line_rows(file, self.where, self.source.keep_nulls, part))
            return lines, rows, _with_rows(RowPlace(place.file, place.before + lines, place.byte + size), files)
        rows = list(islice(self._rows_from(file, place.before), count + 1))
        ended = len(rows) <= count
        return min(len(rows), count), rows[:count], _behind(place, min(len(rows), count), ended, files)

    def _lines(self, file: Path, byte: int, count: int) -> tuple[int, int]:
        """How many lines begin at a byte, `count` at most, and their bytes."""
        lines = size = 0
        with opened_rows(file, self.where) as opened:
            opened.seek(byte)
            while lines < count and (line := opened.readline()):
                lines += 1
                size += len(line)
        return lines, size

    def _rows_from(self, file: Path, before: int) -> Iterator[SourceRow]:
        """The rows of a file that is not entered by bytes, but for the first `before`."""
        keep_nulls = self.source.keep_nulls
        groups = row_groups(file) if file.suffix.lower() == ".parquet" else None
        if not groups:
            yield from islice(file_rows(file, self.where, keep_nulls), before, None)
            return
        for group, rows in groups:
            if group.first_row + rows > before:
                yield from islice(
                    table_rows(file, self.where, keep_nulls, group), max(0, before - group.first_row), None
                )


def _remember(places: dict[int, RowPlace], number: int, place: RowPlace) -> None:
    if len(places) < _REMEMBERED:
        places[number] = place


def _table_length(file: Path) -> int | None:
    """How many rows a Parquet file has; None of any other, and of one that cannot be read."""
    groups = row_groups(file) if file.suffix.lower() == ".parquet" else None
    return None if groups is None else sum(rows for _, rows in groups)


def _behind(place: RowPlace, count: int, ended: bool, files: list[FileState]) -> RowPlace | None:
    """The place `count` rows behind another one; in the next file where this one has `ended`."""
    if not ended:
        return RowPlace(place.file, place.before + count)
    return _with_rows(RowPlace(place.file + 1), files) if place.file + 1 < len(files) else None


def _with_rows(place: RowPlace, files: list[FileState]) -> RowPlace | None:
    """A place where the file goes on, or else the beginning of the next one that has any bytes; None behind all."""
    if place.file < len(files) and not has_rows_by_line(files[place.file].path):
        return place
    while place.file < len(files):
        if place.byte < files[place.file].bytes:
            return place
        place = RowPlace(place.file + 1)
    return None
