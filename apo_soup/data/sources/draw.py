"""How often each row of a source is taken."""

import random
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from apo_soup.data.sources.rows import SourceRow

T = TypeVar("T")


def weighted_draw(
    rows: Iterable[SourceRow], weight: float, seed: int, number: int, block: int = 1024
) -> Iterator[tuple[SourceRow, int]]:
    """Every row with how often it is taken: a seeded share `weight` of the rows in all.

    Above 1, every row is taken that many whole times and a share of them once more. The share is drawn without
    replacement inside blocks of rows, so a stream of unknown length can be drawn from; of n rows, round(share * n) are
    taken. The draw depends on the seed and the source's number in the mixture alone: the same rows on every machine,
    under every path and with every process count.
    """
    whole, part = divmod(weight, 1.0)
    rng = random.Random(f"{seed} {number}")
    passed = taken = 0
    for rows_of_block in batched(rows, block):
        passed += len(rows_of_block)
        share = round(part * passed) - taken
        taken += share
        once_more = set(rng.sample(range(len(rows_of_block)), share))
        for index, row in enumerate(rows_of_block):
            yield row, int(whole) + (index in once_more)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter; `itertools.batched` of Python 3.12 with lists."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
