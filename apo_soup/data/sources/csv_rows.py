"""Rows of CSV and TSV files: the first line names the columns, quoted texts may hold line breaks."""

import csv
import io
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from apo_soup.data.conversations.dialects import holds_turns, written_value
from apo_soup.data.sources.row_bytes import NOT_UTF8, opened_rows
from apo_soup.data.sources.rows import SourceRow, without_row_nulls
from apo_soup.errors import UserError

# The longest text of one cell; Python's own limit of 131 072 characters is below a long reasoning.
LONGEST_CELL = 2**31 - 1
_WRITTEN_INSTEAD = (";", "\t")
OTHER_SEPARATORS = (*_WRITTEN_INSTEAD, "|", ",")
# The line that Excel reads, and some programs write, before the names.
SEPARATOR_LINE = re.compile(r"\"?sep=([^\w\s\"]|\t)\"?[\r\n]*", re.IGNORECASE)
# What pandas writes for a value that is not there, where it is asked for text.
NO_VALUE = ("nan", "NaN", "<NA>")
# A name of a column is shorter, and no sentence.
LONGEST_NAME = 60


def csv_rows(file: Path, where: str, separator: str, keep_nulls: bool = False) -> Iterator[SourceRow]:
    """Rows of a file of separated values; a record that is at fault is a row with a problem, placed at its first line.
    Where the first line has one name, but several with semicolons or tabs between them, those separate its columns;
    a line `sep=;` before it says what does.

    A cell that holds a list of turns as JSON, or as Python writes it, becomes that list; `nan` is no value.

    Raises:
        UserError: the first line does not name columns, or the file ends inside a quoted text.
    """
    csv.field_size_limit(LONGEST_CELL)
    with opened_rows(file, where) as opened:
        text = io.TextIOWrapper(opened, encoding="utf-8-sig", errors="surrogateescape", newline="")
        first = text.readline()
        told = SEPARATOR_LINE.fullmatch(first)
        first = text.readline() if told else first
        separator = told[1] if told else _separator_of(first, separator)
        records = csv.reader(chain([first], text), delimiter=separator, strict=True)
        names: list[str] | None = None
        while True:
            place = f"{file}:{records.line_num + (2 if told else 1)}"
            try:
                cells = next(records)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end of data" in str(error):
                    raise UserError(
                        f"{where}: {place}: expected a closing quote, got the end of the file inside a text of this "
                        "record; close the quote, or double the quotes inside of texts"
                    ) from None
                yield SourceRow(
                    place, None, f"expected valid CSV, got what is none ({error}); double the quotes inside of texts"
                )
                continue
            if not cells:
                continue
            if names is None:
                names = column_names(cells, f"{where}: {place}", separator)
            else:
                yield _row(place, names, cells, keep_nulls)


def _separator_of(line: str, usual: str) -> str:
    """What separates the names of the first line: programs of many countries write CSV with semicolons."""
    for separator in (usual, *_WRITTEN_INSTEAD):
        try:
            if len(next(csv.reader([line], delimiter=separator, strict=True), [])) > 1:
                return separator
        except csv.Error:  # a quoted name over several lines, or quotes that end before another separator
            continue
    return usual


def column_names(cells: list[str], place: str, separator: str) -> list[str]:
    """The names in the first line. A first column without one holds the row's number, as pandas writes it.

    Raises:
        UserError: a name is missing or there twice, or the columns are separated by something else.
    """
    names = [cell.strip() for cell in cells]
    if len(names) == 1:
        other = next((s for s in OTHER_SEPARATORS if s != separator and s in names[0]), None)
        if other:
            raise UserError(
                f"{place}: expected columns separated by {separator!r}, got one column {names[0]!r} with {other!r} in "
                "it; separate them by commas in .csv files and by tabs in .tsv files"
            )
    names[0] = names[0] or "index"
    for number, name in enumerate(names):
        if len(name) > LONGEST_NAME or name.endswith((".", "?", "!")):
            raise UserError(
                f"{place}: expected the names of the columns in the first line, got the text {name[:40]!r}; write them "
                f"above it, such as prompt{separator}completion"
            )
        if not name:
            raise UserError(f"{place}: expected a name for every column, got none for column {number + 1}; name it")
        if name in names[:number]:
            raise UserError(f"{place}: expected a name of its own for every column, got {name!r} twice; rename one")
    return names


def _row(place: str, names: list[str], cells: list[str], keep_nulls: bool) -> SourceRow:
    if len(cells) != len(names):
        return SourceRow(
            place,
            None,
            f"expected {len(names)} fields, got {len(cells)}; quote texts that hold separators or line breaks",
        )
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return SourceRow(place, None, f"expected UTF-8, got another encoding in this record; {NOT_UTF8}")
    fields, nulls = without_row_nulls(dict(zip(names, map(_cell, cells), strict=True)), keep_nulls)
    return SourceRow(place, fields, size=sum(map(len, cells)), nulls=nulls)


def _cell(text: str) -> object:
    """A cell's text, or the turns that it holds; None where it is the word that tables have for nothing."""
    if text[:1] not in ("[", "{"):
        return None if text in NO_VALUE else text
    value = written_value(text)
    return value if holds_turns(value) or holds_turns([value]) else text
