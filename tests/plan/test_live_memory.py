"""Bytes alive are counted once a storage, until it is freed."""

import torch

from apo_soup.plan.live_memory import KEPT_BLOCK, LiveMemory
from apo_soup.private import fake_tensors


def test_storages_are_counted_once_and_until_they_are_freed():
    live = LiveMemory()
    with live.counting():
        first = torch.empty(1000, dtype=torch.float32)
        view = first[10:].view(-1, 10)
        second = torch.empty(500, dtype=torch.bfloat16)
        assert live.now == live.peak == 5000
        del second
        assert (live.now, live.peak) == (4000, 5000)
        del first
        assert live.now == 4000, "a view keeps it"
        del view
        assert live.now == 0


def test_what_is_set_apart_is_not_among_the_rest():
    live = LiveMemory()
    with live.counting():
        weights = torch.empty(100)
        live.set_apart([weights, weights])
        assert live.apart == 400
        activations = torch.empty(25)
        assert (live.peak, live.rest_peak) == (500, 400)  # the weights were of the rest until they were set apart
        more = torch.empty(100)
        assert live.rest_peak == 500
        del weights, activations, more
        assert (live.apart, live.now) == (0, 0)


def test_small_blocks_stay_with_a_process_and_large_ones_go():
    live = LiveMemory()
    with fake_tensors(), live.counting():
        small = torch.empty(1000, dtype=torch.uint8)
        del small
        large = torch.empty(KEPT_BLOCK, dtype=torch.uint8)
        assert live.process_peak == KEPT_BLOCK + 1000
        del large
        other = torch.empty(KEPT_BLOCK + 1, dtype=torch.uint8)
        assert live.process_peak == KEPT_BLOCK + 1001
        del other


def test_products_are_counted():
    live = LiveMemory()
    with fake_tensors(), live.counting():
        torch.empty(8, 16) @ torch.empty(16, 4)
    assert live.operations == 2 * 8 * 16 * 4
