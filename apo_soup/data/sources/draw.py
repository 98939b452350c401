"""How often each row of a source is taken."""

import random
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from apo_soup.data.sources.rows import SourceRow

T = TypeVar("T")
DRAWN_TOGETHER = 1024


class Draw:
    """How often the rows of a source are taken: a seeded share `weight` of the rows in all.

    Above 1, every row is taken that many whole times and a share of them once more. The share is drawn without
    replacement inside blocks of rows, so a stream of unknown length can be drawn from; of n rows, round(share * n) are
    taken. The draw depends on the seed and the source's number in the mixture alone: the same rows on every machine,
    under every path and with every process count.
    """

    def __init__(self, weight: float, seed: int, number: int):
        whole, self._part = divmod(weight, 1.0)
        self.whole = int(whole)
        self._rng = random.Random(f"{seed} {number}")
        self._passed = self._taken = 0

    @property
    def of_all(self) -> bool:
        """Whether every row is taken equally often."""
        return not self._part

    def times(self, count: int) -> list[int]:
        """How often each row of the next block is taken; all blocks but the last have `DRAWN_TOGETHER` rows."""
        self._passed += count
        share = round(self._part * self._passed) - self._taken
        self._taken += share
        once_more = set(self._rng.sample(range(count), share))
        return [self.whole + (index in once_more) for index in range(count)]

    def drawn(self, rows: Iterable[SourceRow]) -> Iterator[tuple[SourceRow, int]]:
        """Every row of a source with how often it is taken."""
        for block in batched(rows, DRAWN_TOGETHER):
            yield from zip(block, self.times(len(block)), strict=True)

    def times_of(self, count: int) -> Iterator[int]:
        """How often each of `count` rows is taken, which are all that the source has."""
        for start in range(0, count, DRAWN_TOGETHER):
            yield from self.times(min(DRAWN_TOGETHER, count - start))


def weighted_draw(rows: Iterable[SourceRow], weight: float, seed: int, number: int) -> Iterator[tuple[SourceRow, int]]:
    """Every row of a source with how often it is taken, as `Draw` says."""
    return Draw(weight, seed, number).drawn(rows)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter; `itertools.batched` of Python 3.12 with lists."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
