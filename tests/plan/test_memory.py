"""What of a rehearsed step is whole on a device, and what is its part."""

import pytest

from apo_soup.plan.launch import Processes
from apo_soup.plan.memory import FIRST_STEP, FRAGMENTED, on_cpu, on_device, on_shards
from apo_soup.plan.rehearsal import Rehearsal

# 1000 numbers in float32, all of them trained; 100 in each layer, 200 outside.
STEP = Rehearsal(
    weights=4000, trained=4000, largest_layer=100, outside=200, passes=10_000, activations=7000, process=24_000,
    operations=0,
)  # fmt: skip


def test_a_device_alone_holds_all_and_beside_others_the_buckets_too():
    alone = on_device(STEP, 2.0, Processes(1, "none", on_cpu=False))
    assert (alone.weights, alone.gradients, alone.optimizer, alone.passes) == (4000, 4000, 8000, 6000)
    assert alone.total == 22_000
    assert on_device(STEP, 2.0, Processes(8, "ddp", on_cpu=False)).total == 26_000


def test_fsdp_holds_a_part_and_two_gathered_layers():
    part = on_shards(4000, 4000, 2.0, Processes(4, "fsdp", on_cpu=False), STEP)
    assert (part.weights, part.gradients, part.optimizer) == (1000, 1000, 2000)
    # Two layers and what lies outside in two bytes a number, the gradient of a layer in four.
    assert part.passes == 7000 + 2 * (2 * 100 + 200) + 4 * 100


def test_zero_two_holds_low_weights_whole_and_masters_in_part():
    part = on_shards(4000, 4000, 2.0, Processes(4, "zero2", on_cpu=False), STEP)
    assert (part.weights, part.gradients, part.optimizer) == (2000 + 1000, 500, 2000)
    assert part.passes == 7000 + 2 * 2 * 1000


def test_zero_three_holds_a_part_of_everything():
    part = on_shards(4000, 4000, 2.0, Processes(4, "zero3", on_cpu=False), STEP)
    assert (part.weights, part.gradients, part.optimizer) == (1500, 500, 2000)


def test_a_process_holds_what_lies_between_its_blocks():
    process = on_cpu(STEP, 2.0, 500)
    assert process.total == pytest.approx(4000 + 8000 + FRAGMENTED * 12_000 + FIRST_STEP + 500)
    assert (process.weights, process.gradients, process.optimizer) == (4000, 4000, 8000)
