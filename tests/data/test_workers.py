"""Work in several processes: results in order, errors as they are, and who was at what when a process ended."""

import multiprocessing
import os
import signal
import time

import pytest

from apo_soup.data.workers import WorkerEnded, in_processes
from apo_soup.errors import UserError


def worked(item):
    if item == "slow":
        time.sleep(0.2)
    if item == "bad":
        raise UserError("expected a good item, got bad")
    if item == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid(), item


def test_results_come_in_the_order_of_the_items_from_several_processes():
    items = ["slow", *range(40)]
    results = list(in_processes(worked, items, 2))
    assert [item for _, item in results] == items
    assert len({pid for pid, _ in results} - {os.getpid()}) == 2
    assert not multiprocessing.active_children()


def test_no_items_give_no_results():
    assert list(in_processes(worked, [], 2)) == []


def test_an_error_is_that_of_the_process_and_says_where_it_was_raised():
    with pytest.raises(UserError, match="expected a good item") as caught:
        list(in_processes(worked, [1, "bad", 2], 2))
    assert "in worked" in caught.value.__notes__[0]


def test_a_process_that_is_ended_names_its_item():
    with pytest.raises(WorkerEnded) as caught:
        list(in_processes(worked, [1, 2, "killed", 3], 2))
    assert (caught.value.item, caught.value.ended) == ("killed", "by SIGKILL")
    assert not multiprocessing.active_children()


def test_results_that_nobody_takes_end_the_processes():
    results = in_processes(worked, range(1000), 2)
    assert next(results)[1] == 0
    results.close()
    assert not multiprocessing.active_children()
