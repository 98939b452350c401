"""Which pairs an optimiser step covers, and how they lie on ranks and in rows.

A step covers exactly the pairs that the stock trainer's would: accelerate's own loader is asked, over the pairs'
numbers, for the batches of every rank. Every rank computes the same plan and takes its own part, so nothing is sent.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, Dataset, Sampler

from apo.rows import assign, plan
from apo_soup.data.rows import batched


@dataclass(frozen=True)
class MicroBatch:
    """The rows of one micro-batch on one rank, as numbers of pairs; an empty row is a placeholder without weight.

    `total` is the number of pairs in the whole step on all ranks.
    """

    rows: list[list[int]]
    total: int


def micro_batches(
    pairs: list[int], lengths: list[int], capacity: int, ranks: int, rank: int, count: int
) -> list[MicroBatch]:
    """The `count` micro-batches of a step on one rank.

    All ranks get the same number of rows, because a sharded model gathers its weights in every pass; the last
    micro-batch has at least one, because gradients are exchanged in it.
    """
    shares = assign([lengths[p] for p in pairs], ranks)
    rows = []
    for share in shares:
        own = [pairs[i] for i in share]
        rows.append([[own[i] for i in row] for row in plan([lengths[p] for p in own], capacity)])
    most = max(map(len, rows))
    mine = rows[rank] + [[]] * (most - len(rows[rank]))
    edges = [number * most // count for number in range(count + 1)]
    return [MicroBatch(mine[edges[n] : edges[n + 1]], len(pairs)) for n in range(count)]


class Steps(Sampler[list[MicroBatch]]):
    """A batch sampler of micro-batches, one a batch, in the order of the stock trainer's pairs."""

    def __init__(
        self,
        loaders: list[Any],
        lengths: list[int],
        capacity: int,
        accumulation: int,
        rank: int,
    ):
        self.loaders, self.lengths, self.capacity = loaders, lengths, capacity
        self.accumulation, self.rank = accumulation, rank

    def __len__(self) -> int:
        return len(self.loaders[self.rank])

    def set_epoch(self, epoch: int) -> None:
        """Another order for every epoch, as the stock loader has it."""
        for loader in self.loaders:
            loader.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[MicroBatch]]:
        for step in batched(zip(*self.loaders, strict=True), self.accumulation):
            pairs = [pair for batches in step for batch in batches for pair in batch]
            arguments = (self.lengths, self.capacity, len(self.loaders), self.rank, len(step))
            yield from ([micro] for micro in micro_batches(pairs, *arguments))


class Numbers(Dataset[int]):
    """The numbers of the pairs, to be drawn in place of them."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> int:
        return number


def stock_batches(
    numbers: Numbers, sampler: Sampler | None, batch_size: int, drop_last: bool, accelerator: Any
) -> list[DataLoader]:
    """For every rank, the loader that accelerate would make of the stock trainer's: lists of numbers a batch."""
    loader = DataLoader(numbers, batch_size=batch_size, sampler=sampler, drop_last=drop_last, collate_fn=list)
    return [
        prepare_data_loader(
            loader,
            num_processes=accelerator.num_processes,
            process_index=rank,
            even_batches=accelerator.even_batches,
            use_seedable_sampler=accelerator.use_seedable_sampler,
            data_seed=accelerator.dataloader_config.data_seed,
        )
        for rank in range(accelerator.num_processes)
    ]


class Rows(Dataset[dict[str, Any]]):
    """Micro-batches as tensors; `make` turns the numbers of the pairs in a row into its tensors.

    Its length is the number of pairs on all ranks, which the Trainer counts samples a second by.
    """

    def __init__(self, pairs: int, make: Callable[[list[int]], dict[str, Any]]):
        self.pairs, self.make = pairs, make

    def __len__(self) -> int:
        return self.pairs

    def __getitem__(self, micro: MicroBatch) -> dict[str, Any]:
        return {"rows": [self.make(row) for row in micro.rows], "total": micro.total}


class StepLoader(DataLoader):
    """A loader of micro-batches whose order changes with the epoch."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)


def only(items: list[dict[str, Any]]) -> dict[str, Any]:
    """The one micro-batch of a batch."""
    (item,) = items
    return item


def all_pairs(lengths: list[int], capacity: int, ranks: int, rank: int) -> list[list[int]]:
    """Every pair once: this rank's rows for an evaluation or a reference pass, as many on every rank."""
    (micro,) = micro_batches(list(range(len(lengths))), lengths, capacity, ranks, rank, 1)
    return micro.rows
