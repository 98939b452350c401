"""What accelerate configurations say of devices, those that are shipped among them."""

import pytest
from helpers import ROOT

from apo_soup.plan.launch import Processes, launch_of

SHIPPED = {
    "cpu.yaml": Processes(1, "none", on_cpu=True),
    "ddp.yaml": Processes(8, "ddp", on_cpu=False),
    "fsdp2.yaml": Processes(8, "fsdp", on_cpu=False),
    "zero2.yaml": Processes(8, "zero2", on_cpu=False),
    "zero3.yaml": Processes(8, "zero3", on_cpu=False),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configurations_are_read(name):
    assert launch_of(ROOT / "recipes/accelerate" / name) == SHIPPED[name]


def test_all_that_is_shipped_is_known():
    assert {file.name for file in (ROOT / "recipes/accelerate").glob("*.yaml")} == set(SHIPPED)


def test_only_sharing_divides_the_optimiser():
    assert [launch.shards for launch in SHIPPED.values()] == [1, 1, 8, 8, 8]
