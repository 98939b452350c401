"""A mixture by tokens: which rows of each source are taken, so that sources have given shares of the trained tokens.

Nothing is repeated: the source that has least for its share is taken whole, the others give as much as goes with it.
What a row has is known once it is encoded, so all rows are encoded, and then whole rows are drawn in a seeded order.
"""

import random
from dataclasses import dataclass, field

import numpy as np

from apo_soup.data.encoded import KeptRows

# To fill the gap that the draw leaves: how many rows are looked at, how many of those taken may give way, how often.
LOOKED_AT, GIVEN_UP, EXCHANGES = 4096, 64, 8
# How far from its share of the tokens a source may end up, as a part of the share.
SHARE_TOLERANCE = 0.01
# Where whole rows miss that, a mixture smaller by this part of its tokens is tried, and so on, down to half.
SMALLER, TRIED = 0.005, 101


@dataclass
class UndrawnRows:
    """Rows that are encoded and not drawn yet: batches of them with their sources, in the order they were kept."""

    batches: list[tuple[str, KeptRows]] = field(default_factory=list)
    rows: int = 0
    tokens: int = 0

    def append(self, source: str, kept: KeptRows) -> None:
        """Note the kept rows of a batch; of their documents nothing is needed here."""
        self.batches.append((source, kept.counted()))
        self.rows += len(kept)
        self.tokens += int(kept.count("tokens").sum())

    def trained(self, source: str) -> dict[int, int]:
        """The trained tokens of each row of a source, by the row's number among all."""
        trained: dict[int, int] = {}
        start = 0
        for name, kept in self.batches:
            if name == source:
                trained |= enumerate(kept.count("trained").tolist(), start)
            start += len(kept)
        return trained


def drawn_by_tokens(trained: list[dict[int, int]], shares: list[float], seed: int) -> set[int]:
    """The rows that are taken so that each source has its share of the trained tokens: the largest mixture that meets
    all within 1 %; where none does, that of the most tokens.

    Args:
        trained: of each source, in the order of the mixture, the trained tokens of its rows by their numbers.
        shares: of each source; they sum to 1.
        seed: of the order in which a source's rows are taken; the draw depends on it, the sources' places in the
            mixture and their rows alone.
    """
    rows: list[list[int]] = []
    sizes: list[list[int]] = []
    for number, of_source in enumerate(trained):
        order = list(of_source)
        random.Random(f"{seed} {number} tokens").shuffle(order)
        rows.append(order)
        sizes.append([of_source[row] for row in order])
    most = min(sum(of_source) / share for of_source, share in zip(sizes, shares, strict=True))
    drawn = (_mixture_of(most * (1 - step * SMALLER), sizes, shares) for step in range(TRIED))
    first = next(drawn)
    taken = first if _met(first, sizes, shares) else next((d for d in drawn if _met(d, sizes, shares)), first)
    return {rows[number][place] for number, places in enumerate(taken) for place in places}


def _mixture_of(tokens: float, sizes: list[list[int]], shares: list[float]) -> list[list[int]]:
    """For each source the places of the rows that give its share of so many tokens."""
    return [_within_budget(of_source, share * tokens) for of_source, share in zip(sizes, shares, strict=True)]


def _met(taken: list[list[int]], sizes: list[list[int]], shares: list[float]) -> bool:
    """Whether each source has its share of what is taken, within 1 % of it."""
    sums = [sum(of_source[place] for place in places) for places, of_source in zip(taken, sizes, strict=True)]
    total = sum(sums)
    return total > 0 and all(
        abs(n / total / share - 1) <= SHARE_TOLERANCE for n, share in zip(sums, shares, strict=True)
    )


def _within_budget(sizes: list[int], budget: float) -> list[int]:
    """Places of the sizes that come nearest to a budget: all up to the first that goes beyond it; then rows of the rest
    are added, or put in place of the last ones taken, one after the other, as long as that comes nearer.

    >>> _within_budget([4, 4, 9, 2], 10)
    [0, 1, 3]
    >>> _within_budget([4, 3, 5], 8)
    [1, 2]
    """
    sums = np.cumsum(sizes)
    count = int(np.searchsorted(sums, budget, side="right"))
    gap = budget - (float(sums[count - 1]) if count else 0.0)
    # No row, of no tokens, stands first: for a row that is added in place of none, and for one that gives way to none.
    last = [-1, *range(max(0, count - GIVEN_UP), count)]
    rest = [-1, *range(count, min(len(sizes), count + LOOKED_AT))]
    for _ in range(EXCHANGES):
        given, added = ([0 if place < 0 else sizes[place] for place in places] for places in (last, rest))
        left = gap + np.array(given)[:, None] - np.array(added)[None, :]
        row, column = np.unravel_index(int(np.abs(left).argmin()), left.shape)
        if abs(left[row, column]) >= abs(gap):
            break
        gap = float(left[row, column])
        one, other = last.pop(row) if row else -1, rest.pop(column) if column else -1
        last, rest = last + [other] * (other >= 0), rest + [one] * (one >= 0)
    return sorted([*range(max(0, count - GIVEN_UP)), *last[1:]])
