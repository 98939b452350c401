"""What of a rehearsed step is whole on a device, and what is its part."""

from itertools import product

import pytest

from apo_soup.plan.launch import Processes
from apo_soup.plan.memory import on_cpu, on_device, on_shards
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


def shards(sharing, **how):
    """The parts of the same model on one of four devices. Activations take 7000 bytes."""
    part = on_shards(4000, 4000, 2.0, Processes(4, sharing, on_cpu=False, **how), STEP)
    return part.weights, part.gradients, part.optimizer, part.passes - 7000


def test_gathered_layers_that_stay_are_those_of_the_whole_model():
    assert shards("fsdp", reshards=False) == (1000, 1000, 2000, 4000 + 4 * 100)


def test_what_is_offloaded_takes_nothing_of_the_device():
    assert shards("fsdp", offload_weights=True, offload_optimizer=True) == (0, 0, 0, 2 * (2 * 100 + 200) + 4 * 100)
    assert shards("zero2", offload_optimizer=True) == (2000, 0, 0, 4000), "weights of 2 bytes, and buckets"
    assert shards("zero3", offload_optimizer=True) == (500, 0, 0, 4000 + 4000)
    assert shards("zero3", offload_optimizer=True, offload_weights=True) == (0, 0, 0, 4000 + 4000)
    assert shards("zero3", offload_weights=True) == (1000, 500, 2000, 4000 + 4000), "a part of the masters stays"


def test_zero_one_divides_the_optimiser_alone():
    assert shards("zero1") == (2000 + 1000, 2000, 2000, 4000)


def test_a_model_is_divided_by_its_group():
    assert shards("fsdp", group=2)[:3] == (2000, 2000, 4000)


def test_a_process_holds_what_lies_between_its_blocks():
    passes = {}
    for kind in product((False, True), repeat=2):
        process = on_cpu(STEP, 2.0, 500, *kind)
        assert (process.weights, process.gradients, process.optimizer, process.process) == (4000, 4000, 8000, 500)
        passes[kind] = process.passes
    # Of 8 kB of activations and 5 MB of code, by checkpointing and adapter.
    assert passes == {
        (False, False): pytest.approx(5_010_240),
        (False, True): pytest.approx(5_014_000),
        (True, False): pytest.approx(5_024_000),
        (True, True): pytest.approx(5_032_000),
    }
