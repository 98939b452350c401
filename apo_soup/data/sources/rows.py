"""One raw row, and what is wrong with one.

A row that cannot be read is a `SourceRow` with a problem, never an exception, so that it can be counted and listed.
"""

from dataclasses import dataclass
from typing import Any

Fields = dict[str, Any]
# Rows that are taken from a table or the Hub at a time.
ROWS_A_READ = 256
# Below these keys a null may be the author's.
ARBITRARY = ("arguments", "input", "tools", "xml_tools", "python_tools", "parameters")


class RowError(ValueError):
    """A row that cannot be used: `field Z: expected A, got B; do C`. Whoever catches it names source and row."""


@dataclass(slots=True)  # one a row, and a frozen one takes four times as long to make
class SourceRow:
    """A raw row: its fields, or the reason it could not be read; `place` is file:line or source:row.

    `size` is about how many characters it has; `nulls` says that nulls inside its calls or tools were taken for missing
    keys.
    """

    place: str
    content: Fields | None
    problem: str | None = None
    size: int = 0
    nulls: bool = False

    @property
    def fields(self) -> Fields:
        """The row's fields.

        Raises:
            RowError: with the reason if it could not be read.
        """
        if self.content is None:
            raise RowError(self.problem)
        return self.content


def described(value: Any) -> str:
    """A value for an error message: its type and its beginning."""
    try:
        text = repr(value)
    except RecursionError:
        return f"{type(value).__name__} nested too deeply to show"
    return f"{type(value).__name__} {text[:40]}{'...' if len(text) > 40 else ''}"


def without_nulls(value: Any, keep: tuple[str, ...] = ()) -> Any:
    """Drop keys whose value is None, at every depth but below the keys `keep`.

    Table formats add nulls to rows that never had them, and a null field of a JSON row means as little.
    """
    if isinstance(value, dict):
        return {k: v if k in keep else without_nulls(v, keep) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_nulls(v, keep) for v in value]
    return value


def without_row_nulls(fields: Any, keep_nulls: bool) -> tuple[Any, bool]:
    """A JSON row without its nulls, and whether some stood inside calls or tools, where `keep_nulls` keeps them.

    There a null may be the author's. But libraries that write rows of one schema as JSON give every call the arguments
    of all others, as nulls.
    """
    kept = without_nulls(fields, ARBITRARY)
    if keep_nulls:
        return kept, False
    bare = without_nulls(kept)
    return bare, bare != kept


def text_length(value: Any) -> int:
    """The length of all text in a value, in characters."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(text_length, value.values()))
    return sum(map(text_length, value)) if isinstance(value, list) else 0


def row_number(place: str) -> str:
    """Which row of its source a place is.

    >>> row_number("/home/me/rows.jsonl:12"), row_number("rows.parquet:row 0")
    ('row 12', 'row 0')
    """
    return f"row {place.rpartition(':')[2].removeprefix('row ')}"
