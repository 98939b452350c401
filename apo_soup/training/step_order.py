"""Which rows an optimiser step takes, by their numbers, and how they come to the ranks.

The draw is that of accelerate's own loader over the numbers. Where the recipe gives a global batch, a step's rows are
the same on any number of ranks, each row once an epoch: accelerate would fill an epoch's last step with rows of its
beginning, as many as the ranks need.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import TrainingArguments

from apo_soup.data.sources.draw import batched


class RowNumbers(Dataset[int]):
    """The numbers of the rows, to be drawn in place of them."""

    # accelerate would cut what it gathers for metrics, in an epoch's last step, to as many ranks as rows are left over
    # by this number. A rank is not a row here.
    total_dataset_length = 0

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> int:
        return number


def stock_loaders(
    numbers: RowNumbers,
    sampler: Sampler[int] | None,
    batch_size: int,
    drop_last: bool,
    accelerator: Accelerator,
    ranks: int,
) -> list[DataLoader[Any]]:
    """For every rank, the loader that accelerate would make of the stock trainer's: lists of numbers a batch."""
    loader = DataLoader(numbers, batch_size=batch_size, sampler=sampler, drop_last=drop_last, collate_fn=list)
    return [
        prepare_data_loader(
            loader,
            num_processes=ranks,
            process_index=rank,
            even_batches=accelerator.even_batches,
            use_seedable_sampler=accelerator.use_seedable_sampler,
            data_seed=accelerator.dataloader_config.data_seed,
        )
        for rank in range(ranks)
    ]


class StepOrder(Protocol):
    """The rows of an epoch's steps, by their numbers. Processes that share rows are one rank."""

    ranks: int

    def __len__(self) -> int:
        """Micro-batches of an epoch on each rank."""

    def set_epoch(self, epoch: int) -> None:
        """Another order for every epoch."""

    def steps(self) -> Iterator[tuple[list[int], int]]:
        """The rows of every step, and how many micro-batches it has on each rank."""


class StockOrder:
    """The steps of the stock trainer, from the batches that accelerate gives each rank."""

    def __init__(self, loaders: list[DataLoader[Any]], accumulation: int):
        self.loaders, self.accumulation, self.ranks = loaders, accumulation, len(loaders)

    def __len__(self) -> int:
        return len(self.loaders[0])

    def set_epoch(self, epoch: int) -> None:
        """As the stock loader has it."""
        for loader in self.loaders:
            loader.set_epoch(epoch)  # type: ignore[attr-defined]  # of accelerate's loaders

    def steps(self) -> Iterator[tuple[list[int], int]]:
        """See `StepOrder`."""
        for step in batched(zip(*self.loaders, strict=True), self.accumulation):
            yield [row for batches in step for batch in batches for row in batch], len(step)


class GlobalOrder:
    """Steps of a global batch, the same on any number of ranks.

    Args:
        loader: lists of the numbers of a step, as one process draws them.
        rows: how many there are.
        size: the global batch.
        on_device: rows of a micro-batch on each rank.
        drop_last: whether a step that is not full is left out.
    """

    def __init__(self, loader: DataLoader[Any], rows: int, size: int, on_device: int, ranks: int, drop_last: bool):
        self.loader, self.on_device, self.ranks = loader, on_device, ranks
        rest = 0 if drop_last else rows % size
        self.count = rows // size * self.micro_batches(size) + self.micro_batches(rest)

    def __len__(self) -> int:
        return self.count

    def micro_batches(self, rows: int) -> int:
        """How many micro-batches a step of so many rows has on each rank."""
        return -(-rows // (self.on_device * self.ranks))

    def set_epoch(self, epoch: int) -> None:
        """As the stock loader has it."""
        self.loader.set_epoch(epoch)  # type: ignore[attr-defined]  # of accelerate's loader

    def steps(self) -> Iterator[tuple[list[int], int]]:
        """See `StepOrder`."""
        for rows in self.loader:
            yield rows, self.micro_batches(len(rows))


def dealt(rows: list[int], on_device: int, ranks: int) -> list[list[list[int]]]:
    """The micro-batches of a step on every rank, as many on each, of at most `on_device` rows; a rank that has no row
    left has an empty one.

    >>> dealt([5, 3, 4, 1, 0], 2, 2)
    [[[5, 3], [0]], [[4, 1], []]]
    """
    chunks = [rows[first : first + on_device] for first in range(0, len(rows), on_device)]
    chunks += [[]] * (-len(chunks) % ranks)
    return [chunks[rank::ranks] for rank in range(ranks)]


class StockBatches(Sampler[list[int]]):
    """A batch sampler of the micro-batches that the stock trainer gives one rank."""

    def __init__(self, order: StockOrder, rank: int):
        self.loader = order.loaders[rank]

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """Another order for every epoch."""
        self.loader.set_epoch(epoch)  # type: ignore[attr-defined]  # of accelerate's loaders

    def __iter__(self) -> Iterator[list[int]]:
        yield from self.loader


class RankBatches(Sampler[list[int]]):
    """A batch sampler of one rank's micro-batches. One that has no row is the bitwise complement of the number of its
    step's first row, which is below 0: see `RowsOfSteps`.
    """

    def __init__(self, order: GlobalOrder, rank: int):
        self.order, self.rank = order, rank

    def __len__(self) -> int:
        return len(self.order)

    def set_epoch(self, epoch: int) -> None:
        """Another order for every epoch."""
        self.order.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        for rows, _ in self.order.steps():
            for micro in dealt(rows, self.order.on_device, self.order.ranks)[self.rank]:
                yield micro or [~rows[0]]


class RowsOfSteps(Dataset[Any]):
    """Rows by their numbers, and for a complement of one a row in its place that trains nothing."""

    def __init__(self, rows: Any, placeholder: Callable[[Any], Any]):
        self.rows, self.placeholder = rows, placeholder

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Any:
        return self.rows[number] if number >= 0 else self.placeholder(self.rows[~number])


class StepLoader(DataLoader[Any]):
    """A loader of micro-batches whose order changes with the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before every epoch."""
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]  # of our samplers


def step_loader(
    args: TrainingArguments, rows: Dataset[Any], batches: Sampler[Any], collate: Callable[[list[Any]], Any]
) -> StepLoader:
    """A loader of the rows that a sampler of micro-batches names, with the arguments' ways of loading."""
    return StepLoader(
        rows,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory,
        persistent_workers=args.dataloader_persistent_workers,
        prefetch_factor=args.dataloader_prefetch_factor,
    )
