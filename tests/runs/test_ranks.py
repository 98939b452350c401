"""What the main process decides holds for all ranks, whatever they see themselves."""

import pytest
from programs import succeeded, two_ranks

DECIDE = """
import os
from apo_soup.errors import UserError, run_main
from apo_soup.runs.ranks import main_decides

def decide():
    if os.environ["RANK"] == "0" and {fails}:
        raise UserError("a mistake")
    return {{"sft": None}} if os.environ["RANK"] == "0" else {{"sft": "rank 1 sees no folder"}}

def main():
    print(main_decides("state of sft", decide), main_decides("inputs of sft", lambda: os.environ["RANK"]))
    import torch
    torch.distributed.init_process_group("gloo")
    seen = torch.ones(1)
    torch.distributed.all_reduce(seen)
    print(seen.item())

run_main(main)
"""


def test_both_ranks_take_what_the_main_process_decides_and_then_meet():
    output = succeeded(two_ranks("-c", DECIDE.format(fails=False)).wait())
    assert output == "{'sft': None} 0\n2.0\n" * 2


def test_where_the_main_process_cannot_decide_the_others_end_without_a_word():
    ended = two_ranks("-c", DECIDE.format(fails=True)).wait()
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", "error: a mistake\n")


WRITE = """
import os
import torch
from apo_soup.errors import UserError, run_main
from apo_soup.runs.ranks import ended_together
from apo_soup.stops import STOPS

def main():
    torch.distributed.init_process_group("gloo")
    for step in range(2):
        with STOPS.deferred(), ended_together(f"checkpoint {{step}}"):
            if step == 1 and os.environ["RANK"] == "{full}":
                raise UserError("the disk is full")
            torch.distributed.barrier()
        print(step)

run_main(main)
"""


@pytest.mark.parametrize("full", [0, 1])
def test_where_one_is_refused_while_all_wait_the_others_end_without_a_word(full):
    ended = two_ranks("-c", WRITE.format(full=full)).wait()
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "0\n0\n", "error: the disk is full\n")
