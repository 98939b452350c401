"""Which rows of the recipe a step takes: batches bring the numbers of kept rows along, prepared rows have their places.

A packed row holds several documents, so one number a document, of which several may be of one row.
"""

import json
from collections.abc import Callable, Iterable, MutableMapping
from itertools import islice
from pathlib import Path
from typing import Any

from apo_soup.data.documents import PLACES_FILE, ROWS_COLUMN

# Places that a sentence names.
NAMED = 8


class CollatorWithRows:
    """A collator whose batches also have the kept rows of their documents, where the rows that it is given do.

    Batches are mappings; under `rows` they have a list of numbers, which is no input of a model and is to be taken out
    before one sees it.
    """

    def __init__(self, collator: Callable[[list[Any]], dict[str, Any]]):
        self.collator = collator

    def __call__(self, rows: list[Any]) -> dict[str, Any]:
        """The collator's batch of some rows, with their numbers."""
        numbers = [int(number) for row in rows for number in row.get(ROWS_COLUMN, ())]
        return self.collator(rows) | ({ROWS_COLUMN: numbers} if numbers else {})


def taken_from(batch: Any) -> list[int]:
    """The kept rows that a batch brought along, which has them no more."""
    return list(batch.pop(ROWS_COLUMN, ())) if isinstance(batch, MutableMapping) else []


def places_told(folder: Path, numbers: Iterable[int]) -> str:
    """Where some kept rows of prepared rows are, in words: the first few, each once, by their place in the recipe.

    Args:
        folder: of the prepared rows.
    """
    rows = list(dict.fromkeys(numbers))
    if not rows:
        return "rows that are not known"
    more = f" and {len(rows) - NAMED:,} more" if len(rows) > NAMED else ""
    try:
        return ", ".join(_places(folder / PLACES_FILE, rows[:NAMED])) + more
    except (OSError, ValueError, IndexError, RecursionError):
        return (
            f"the kept rows {', '.join(map(str, rows[:NAMED]))}{more} of {folder}, whose {PLACES_FILE} cannot be read"
        )


def _places(file: Path, rows: list[int]) -> list[str]:
    """Lines of a file, which may have millions, in the order they are asked for."""
    found: dict[int, str] = {}
    with file.open(encoding="utf-8") as lines:
        before = 0
        for row in sorted(rows):
            line = next(islice(lines, row - before, None), "")
            found[row], before = str(json.loads(line)), row + 1
    return [found[row] for row in rows]
