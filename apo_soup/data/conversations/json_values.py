"""Values that templates write as JSON: numbers that JSON has no word for, and nesting that is too deep, are refused."""

import math
from typing import Any

from apo_soup.data.sources.rows import RowError

# Behind a row stand walks that call themselves for each level, the template's among them.
MOST_LEVELS = 100


def check_json(value: Any, place: str) -> None:
    """Look at every value inside lists and mappings.

    Raises:
        RowError: one is NaN or infinite, or they lie too deep.
    """
    level, levels = [value], 0
    while level:
        if levels > MOST_LEVELS:
            raise RowError(
                f"{place}: expected at most {MOST_LEVELS} lists and mappings in one another, got more; flatten them"
            )
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner += one.values()
            elif isinstance(one, list):
                inner += one
            elif isinstance(one, float) and not math.isfinite(one):
                raise RowError(f"{place}: expected JSON, got {one}, which JSON has no word for; correct it")
        level, levels = inner, levels + 1
