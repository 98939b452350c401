"""Rows of `.jsonl` files and of `.json` files, in the layouts that people write."""

import codecs
import contextlib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from apo_soup.data.sources.json_text import RepeatedKeyError, json_value
from apo_soup.data.sources.row_bytes import NOT_UTF8, opened_rows
from apo_soup.data.sources.rows import Fields, SourceRow, text_length, without_row_nulls
from apo_soup.errors import UserError, first_line

WRAPPERS = ("data", "rows", "examples", "train")


@dataclass(frozen=True)
class LineRange:
    """Whole lines of a plain file: its bytes `[start, end)`, and the number of the first line, counted from 1."""

    start: int
    end: int
    first_line: int


def json_line_rows(
    file: Path, where: str, keep_nulls: bool = False, part: LineRange | None = None
) -> Iterator[SourceRow]:
    """Rows of a file, or of a part of it, with one JSON object a line; a line that is not one is a row with a problem.

    Raises:
        UserError: the file cannot be read, or is no text in UTF-8.
    """
    with opened_rows(file, where) as opened:
        lines: Iterable[bytes] = opened
        if part is not None:
            opened.seek(part.start)
            lines = io.BytesIO(opened.read(part.end - part.start))
        for number, line in enumerate(lines, part.first_line if part else 1):
            place = f"{file}:{number}"
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if not line.strip():
                continue
            try:
                fields = json_value(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                yield SourceRow(
                    place, None, f"expected UTF-8, got another encoding at byte {error.start} of the line; {NOT_UTF8}"
                )
                continue
            except json.JSONDecodeError as error:
                yield SourceRow(
                    place,
                    None,
                    "expected a JSON object, got a line that is not valid JSON at column "
                    f"{error.colno}: {_found(error)}; write one object a line",
                )
                continue
            except (ValueError, RecursionError) as error:
                yield SourceRow(place, None, _unreadable(error))
                continue
            nulls = False
            if b"null" in line:
                try:
                    fields, nulls = without_row_nulls(fields, keep_nulls)
                except RecursionError as error:  # nested less deeply than the parser allows
                    yield SourceRow(place, None, _unreadable(error))
                    continue
            # The way of most rows, without a call more.
            yield (
                SourceRow(place, fields, None, len(line), nulls) if type(fields) is dict else _no_object(place, fields)
            )


def json_file_rows(file: Path, where: str, keep_nulls: bool = False) -> Iterator[SourceRow]:
    """Rows of a `.json` file: a list of objects, a mapping with such a list as `data`, or one object a line.

    Raises:
        UserError: the file is not JSON, or has no list of rows.
    """
    if _has_json_lines(file, where):
        yield from json_line_rows(file, where, keep_nulls)
        return
    try:
        with opened_rows(file, where) as opened:
            content = json_value(opened.read().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: {file}: expected UTF-8, got another encoding at byte {error.start}; {NOT_UTF8}"
        ) from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{where}: {file}:{error.lineno}: expected rows as JSON, got text that is not valid JSON at column "
            f"{error.colno}: {_found(error)}; correct the file"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: {file}: {_unreadable(error)}") from None
    if isinstance(content, dict):
        content = _wrapped_rows(content, f"{where}: {file}")
    if not isinstance(content, list):
        raise UserError(
            f"{where}: {file}: expected a JSON list of objects, or one object a line, got {type(content).__name__}; "
            "write the rows as a list"
        )
    for number, fields in enumerate(content):
        place = f"{file}:row {number}"
        try:
            fields, nulls = without_row_nulls(fields, keep_nulls)
            size = text_length(fields)
        except RecursionError as error:  # nested less deeply than the parser allows
            yield SourceRow(place, None, _unreadable(error))
            continue
        yield SourceRow(place, fields, None, size, nulls) if isinstance(fields, dict) else _no_object(place, fields)


def _wrapped_rows(content: Fields, place: str) -> list[Any]:
    """The rows of a mapping: those of the list that it holds them in, or itself as one; raises UserError where it has
    two such lists, or columns in place of rows.
    """
    columns = [content, *(value for value in content.values() if isinstance(value, dict))]
    if "columns" in content or any(column and all(map(str.isdigit, column)) for column in columns):
        raise UserError(
            f"{place}: expected a list of rows, got them by column or by number, as pandas writes them; write them "
            'with to_json(..., orient="records", lines=True)'
        )
    held = [name for name in WRAPPERS if isinstance(content.get(name), list)]
    if len(held) > 1:
        raise UserError(f"{place}: expected one list of rows, got {' and '.join(held)}; leave the one that is meant")
    return content[held[0]] if held else [content]


def _unreadable(error: Exception) -> str:
    """What is wrong with JSON that the standard allows and Python does not read."""
    if isinstance(error, RepeatedKeyError):
        return str(error)
    if isinstance(error, RecursionError):
        return "expected JSON that can be read, got values nested too deeply; flatten them"
    reason = first_line(error).partition(";")[0]  # what follows is advice to programmers
    return f"expected JSON that can be read, got {reason}; write long numbers as text"


def _no_object(place: str, value: Any) -> SourceRow:
    return SourceRow(place, None, f"expected a JSON object, got {type(value).__name__}; write one object a row")


def _has_json_lines(file: Path, where: str) -> bool:
    """Whether a `.json` file is JSON lines by another name: two of its first lines are objects each. A bad line
    among them is then one bad row.
    """
    with opened_rows(file, where) as opened:
        lines = [line for line in islice(opened, 20) if line.strip()]
    objects = 0
    for number, line in enumerate(lines):
        with contextlib.suppress(ValueError, RecursionError):
            objects += isinstance(json.loads(line.decode("utf-8-sig" if number == 0 else "utf-8")), dict)
    return objects >= 2


def _found(error: json.JSONDecodeError) -> str:
    """What a parser found wrong; a comma that nothing follows is told as one, which its words do not say."""
    before, after = error.doc[: error.pos].rstrip(), error.doc[error.pos :].strip()
    too_many = after == "," or (before.endswith(",") and after[:1] in ("", "]", "}"))
    return "a comma that nothing follows" if too_many else error.msg
