"""The rows of a step of a global batch: each once an epoch, on any number of ranks, the same in every step."""

import torch
from accelerate import Accelerator
from accelerate.state import GradientState
from accelerate.utils import DataLoaderConfiguration
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import RandomSampler

from apo_soup.training.step_order import (
    GlobalOrder,
    RankBatches,
    RowNumbers,
    RowsOfSteps,
    StockBatches,
    StockOrder,
    dealt,
    stock_loaders,
)


def loader(rows, size, drop_last=False):
    """The batches of one process, drawn as transformers' Trainer has them drawn."""
    torch.manual_seed(7)
    numbers = RowNumbers(rows)
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True))
    return stock_loaders(numbers, RandomSampler(numbers), size, drop_last, accelerator, 1)[0]


def global_order(rows, size, on_device, ranks, drop_last=False, epoch=0):
    order = GlobalOrder(loader(rows, size, drop_last), rows, size, on_device, ranks, drop_last)
    order.set_epoch(epoch)
    return order


@given(st.integers(1, 70), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.booleans(), st.integers(0, 2))
def test_every_row_comes_once_an_epoch_and_in_the_step_of_one_process(rows, on_device, steps, ranks, drop, epoch):
    size = on_device * steps * ranks
    alone = list(global_order(rows, size, size, 1, drop, epoch).steps())
    batches = [list(RankBatches(global_order(rows, size, on_device, ranks, drop, epoch), r)) for r in range(ranks)]
    assert {len(of_rank) for of_rank in batches} == {len(global_order(rows, size, on_device, ranks, drop))}
    taken, first = [], 0
    for in_step, _ in alone:
        count = -(-len(in_step) // (on_device * ranks))
        micros = [micro for of_rank in batches for micro in of_rank[first : first + count]]
        assert all(0 < len(micro) <= on_device for micro in micros)
        assert sorted(row for micro in micros for row in micro if row >= 0) == sorted(in_step)
        taken += in_step
        first += count
    assert first == len(batches[0])
    assert sorted(taken) == sorted(set(taken))
    assert len(taken) == (rows // size * size if drop else rows)


def test_epochs_have_orders_of_their_own_which_are_those_of_the_stock_loader():
    stock, orders = loader(11, 2), []
    for epoch in range(2):
        stock.set_epoch(epoch)
        drawn = [row for batch in stock for row in batch]
        assert [row for rows, _ in global_order(11, 4, 2, 2, epoch=epoch).steps() for row in rows] == drawn
        orders.append(drawn)
    assert orders[0] != orders[1]


def test_a_rank_without_rows_gets_one_that_trains_nothing():
    assert dealt([4, 2, 0, 1, 3, 5, 6], 2, 2) == [[[4, 2], [3, 5]], [[0, 1], [6]]]
    assert dealt([3], 2, 3) == [[[3]], [[]], [[]]]
    rows = RowsOfSteps(["a", "b"], str.upper)
    assert (rows[1], rows[~1], rows[~0], len(rows)) == ("b", "B", "A", 2)


def test_a_rank_has_the_batches_that_the_stock_trainer_gives_it():
    batches = StockBatches(StockOrder([loader(7, 2), loader(7, 3)], 1), 1)
    first = list(batches)
    assert len(batches) == len(first) == 3
    assert first == list(loader(7, 3))
    batches.set_epoch(1)
    assert list(batches) != first
    batches.set_epoch(0)
    assert list(batches) == first


def test_nothing_is_cut_in_a_last_step_from_what_ranks_have_counted():
    """accelerate would take its two rows for the two first of all ranks."""
    assert [GradientState().remainder for _ in loader(6, 4)] == [0, 0]
