"""Columns of scores of a pair's two answers: of which more is better, whatever their names."""

import contextlib
from typing import Any

from apo_soup.data.conversations.turn_fields import name_words
from apo_soup.data.sources.rows import Fields, RowError

MORE_IS_BETTER = frozenset("score scores rating ratings reward rewards grade".split())
# Words of such names that do not say what was scored: a score of harm is the better the lower it is.
SAYS_NOTHING_ELSE = frozenset("chosen avg average mean overall total final model".split())


def score_columns(fields: Fields) -> list[tuple[str, str]]:
    """The names of the columns, that of the chosen answer first, such as `score_chosen` and `score_rejected`.

    >>> score_columns({"chosen": "a", "rejected": "b", "chosen-rating": 4, "rejected-rating": 1})
    [('chosen-rating', 'rejected-rating')]
    """
    pairs = ((name, name.replace("chosen", "rejected")) for name in fields if "chosen" in name)
    return [(better, worse) for better, worse in pairs if worse in fields and _is_plain_score(name_words(better))]


def _is_plain_score(words: list[str]) -> bool:
    return not MORE_IS_BETTER.isdisjoint(words) and set(words) <= MORE_IS_BETTER | SAYS_NOTHING_ELSE


def check_scores(fields: Fields) -> None:
    """Compare the scores beside the two answers; they may be written as text, as in CSV.

    Raises:
        RowError: they say that the rejected answer is the better.
    """
    for chosen, rejected in score_columns(fields):
        better, worse = _number(fields[chosen]), _number(fields[rejected])
        if better is not None and worse is not None and better < worse:
            raise RowError(
                f"fields {chosen}, {rejected}: expected the chosen answer to score no less than the rejected one, "
                f"got {better:g} and {worse:g}; swap the answers, or leave the scores out with columns"
            )


def _number(value: Any) -> float | None:
    with contextlib.suppress(ValueError):
        return float(value) if isinstance(value, int | float | str) else None
    return None
