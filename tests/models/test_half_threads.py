"""Batches on a CPU run two at a time, each with half of the threads, and come back in their order."""

import threading

import pytest
import torch

from apo_soup.models.half_threads import on_half_threads

CPU = torch.device("cpu")


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_two_batches_are_under_way_at_a_time(four_threads):
    both = threading.Barrier(2, timeout=20)

    def work(number):
        both.wait()
        assert torch.is_inference_mode_enabled()
        return number * number, torch.get_num_threads()

    assert list(on_half_threads(work, [3, 1, 2, 5], CPU)) == [(9, 2), (1, 2), (4, 2), (25, 2)]
    assert torch.get_num_threads() == 4


def test_what_must_be_alone_is(four_threads):
    for device, together, batches in ((torch.device("meta"), True, [1, 2]), (CPU, False, [1, 2]), (CPU, True, [1])):
        found = list(on_half_threads(lambda _: threading.get_ident(), batches, device, together))
        assert found == [threading.get_ident()] * len(batches)


def test_a_batch_that_fails_leaves_the_threads_as_they_were(four_threads):
    with pytest.raises(ZeroDivisionError):
        list(on_half_threads(lambda number: 1 // number, [1, 0, 2], CPU))
    assert torch.get_num_threads() == 4


def test_what_is_under_way_is_told_when_nobody_waits_for_it(four_threads):
    halted = threading.Event()

    def work(number):
        if number == 0:
            raise KeyboardInterrupt
        return halted.wait(20)

    with pytest.raises(KeyboardInterrupt):
        list(on_half_threads(work, [0, 1], CPU, halt=halted.set))
    assert halted.is_set()
