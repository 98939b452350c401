"""Which pairs an optimiser step covers, and how they lie on ranks and in rows.

A step covers exactly the pairs that the stock trainer's would: accelerate's own loader is asked, over the pairs'
numbers (`apo_soup/training/step_order.py`). Every rank computes the same plan and takes its own part, so nothing is
sent.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from apo.prepared_pairs import PackedRow
from apo_soup.data.packing import best_fit_decreasing
from apo_soup.training.step_order import StepOrder


def pairs_to_ranks(lengths: Sequence[int], ranks: int) -> list[list[int]]:
    """The numbers of a step's pairs by rank, balanced by positions: the longest first, each to the rank with the fewest
    so far. `lengths` are the positions of each pair.
    """
    loads: list[int] = [0] * ranks
    shares: list[list[int]] = [[] for _ in range(ranks)]
    for number in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        rank = min(range(ranks), key=lambda r: (loads[r], r))
        loads[rank] += lengths[number]
        shares[rank].append(number)
    return [sorted(share) for share in shares]


def pairs_to_rows(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """The numbers of the pairs by row, rows of at most `capacity` positions; a pair that needs more has its own."""
    bins = best_fit_decreasing([min(length, capacity) for length in lengths], capacity)
    return [sorted(numbers) for numbers in bins]


@dataclass(frozen=True)
class MicroBatch:
    """One micro-batch on one rank, as numbers of pairs.

    Attributes:
        rows: the pairs of each row; an empty one is a placeholder without weight.
        total: the number of pairs in the whole optimiser step, on all ranks.
        epoch: the epoch that the step is in, counted from 0.
    """

    rows: list[list[int]]
    total: int
    epoch: int = 0


@dataclass(frozen=True)
class MicroBatchRows:
    """A micro-batch as tensors.

    Attributes:
        rows: the rows of this rank; a placeholder has no weight.
        total: the number of pairs in the whole optimiser step, on all ranks.
    """

    rows: list[PackedRow]
    total: int

    def __contains__(self, key: str) -> bool:
        """No: the Trainer asks a batch for `labels`, which pairs do not have."""
        return False

    def pin_memory(self) -> "MicroBatchRows":
        """The rows in pinned memory; a DataLoader calls it for `dataloader_pin_memory`."""
        return MicroBatchRows([row.pin_memory() for row in self.rows], self.total)


def step_rows(pairs: list[int], lengths: Sequence[int], capacity: int, ranks: int) -> list[list[list[int]]]:
    """The rows of a step on every rank.

    All ranks get the same number of rows, because a sharded model gathers its weights in every pass.
    """
    rows = []
    for share in pairs_to_ranks([lengths[pair] for pair in pairs], ranks):
        own = [pairs[i] for i in share]
        rows.append([[own[i] for i in row] for row in pairs_to_rows([lengths[pair] for pair in own], capacity)])
    most = max(map(len, rows))
    return [of_rank + [[]] * (most - len(of_rank)) for of_rank in rows]


def micro_batches(rows: list[list[int]], pairs: int, count: int, epoch: int = 0) -> list[MicroBatch]:
    """The `count` micro-batches of a step of `pairs` pairs, from its rows on one rank.

    The last one has at least one row, because gradients are exchanged in it.
    """
    bounds = [number * len(rows) // count for number in range(count + 1)]
    return [MicroBatch(rows[bounds[n] : bounds[n + 1]], pairs, epoch) for n in range(count)]


def rows_of_every_pair(lengths: Sequence[int], capacity: int, ranks: int, rank: int) -> list[list[int]]:
    """Every pair once: this rank's rows for an evaluation or a reference pass, as many on every rank."""
    return step_rows(list(range(len(lengths))), lengths, capacity, ranks)[rank]


class StepSampler(Sampler[list[MicroBatch]]):
    """A batch sampler of micro-batches, one a batch.

    Args:
        order: which pairs a step covers.
        lengths: the positions of each pair.
        capacity: positions of a row.
        rank: this process's.
    """

    def __init__(self, order: StepOrder, lengths: list[int], capacity: int, rank: int):
        self.order, self.lengths, self.capacity, self.rank = order, lengths, capacity, rank
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.order)

    def set_epoch(self, epoch: int) -> None:
        """Another order for every epoch, as the stock loader has it."""
        self.epoch = epoch
        self.order.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[MicroBatch]]:
        for pairs, count in self.order.steps():
            rows = step_rows(pairs, self.lengths, self.capacity, self.order.ranks)[self.rank]
            for micro in micro_batches(rows, len(pairs), count, self.epoch):
                yield [micro]

    def epoch_rows(self, epoch: int, steps: int) -> list[list[list[int]]]:
        """The rows of every rank in the first steps of an epoch, in the order they are trained in. The draw leaves
        torch's generator as it was.
        """
        with torch.random.fork_rng(devices=[]):
            self.set_epoch(epoch)
            ranks = self.order.ranks
            rows: list[list[list[int]]] = [[] for _ in range(ranks)]
            for pairs, _ in islice(self.order.steps(), steps):
                for of_rank, more in zip(rows, step_rows(pairs, self.lengths, self.capacity, ranks), strict=True):
                    of_rank += more
        return rows


class StepRows(Dataset[MicroBatchRows]):
    """Micro-batches as tensors; `packed_row` turns the numbers of a row's pairs, and the epoch, into its tensors.

    Its length is the number of pairs on all ranks, which the Trainer counts samples a second by.
    """

    def __init__(self, pairs: int, packed_row: Callable[[list[int], int], PackedRow]):
        self.pairs, self.packed_row = pairs, packed_row

    def __len__(self) -> int:
        return self.pairs

    def __getitem__(self, micro: MicroBatch) -> MicroBatchRows:
        return MicroBatchRows([self.packed_row(row, micro.epoch) for row in micro.rows], micro.total)


def single_item(batch: list[Any]) -> Any:
    """The one item of a batch; the collate function where a batch is made whole by the data set."""
    (item,) = batch
    return item
