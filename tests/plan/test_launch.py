"""What accelerate configurations say of devices, those that are shipped among them."""

import re
from dataclasses import replace

import pytest
import yaml
from helpers import ROOT, python

from apo_soup.errors import UserError
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


OF_ALL = {"num_processes": 8, "num_machines": 2}
GPUS = Processes(8, "ddp", on_cpu=False)


def launch(tmp_path, kind, **changes):
    file = tmp_path / "launch.yaml"
    file.write_text(yaml.safe_dump({"distributed_type": kind} | OF_ALL | changes))
    return launch_of(file)


@pytest.mark.parametrize(
    ("inside", "found"),
    [
        ({}, {}),
        ({"fsdp_offload_params": True}, {"offload_optimizer": True, "offload_weights": True}),
        ({"fsdp_version": 2, "fsdp_reshard_after_forward": False}, {"reshards": False}),
        ({"fsdp_sharding_strategy": "SHARD_GRAD_OP"}, {"reshards": False}),
        ({"fsdp_sharding_strategy": 2}, {"reshards": False}),
        ({"sharding_strategy": "NO_SHARD"}, {"sharing": "ddp"}),
        ({"fsdp_sharding_strategy": "HYBRID_SHARD"}, {"group": 4}),
    ],
)
def test_what_fsdp_divides_and_offloads(tmp_path, inside, found):
    assert launch(tmp_path, "FSDP", fsdp_config=inside) == replace(GPUS, **{"sharing": "fsdp"} | found)


@pytest.mark.parametrize(
    ("inside", "found"),
    [
        ({"zero_stage": 0}, {"sharing": "ddp"}),
        ({"zero_stage": 1}, {"sharing": "zero1"}),
        ({}, {}),
        ({"zero_stage": 2, "offload_optimizer_device": "cpu"}, {"offload_optimizer": True}),
        ({"zero_stage": 2, "offload_param_device": "cpu"}, {}),
        ({"zero_stage": 3, "offload_param_device": "nvme"}, {"sharing": "zero3", "offload_weights": True}),
    ],
)
def test_what_deepspeed_divides_and_offloads(tmp_path, inside, found):
    assert launch(tmp_path, "DEEPSPEED", deepspeed_config=inside) == replace(GPUS, **{"sharing": "zero2"} | found)


def test_deepspeeds_own_file_is_read(tmp_path):
    own = tmp_path / "zero.json"
    own.write_text('{"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}}}')
    found = launch(tmp_path, "DEEPSPEED", deepspeed_config={"deepspeed_config_file": str(own)})
    assert found == replace(GPUS, sharing="zero3", offload_optimizer=True)


def test_processes_that_accelerate_does_not_start_are_not_planned(tmp_path):
    assert launch(tmp_path, "MULTI_CPU", use_cpu=True) == Processes(1, "none", on_cpu=True)
    assert launch(tmp_path, "NO") == Processes(1, "none", on_cpu=False)
    assert launch(tmp_path, "MPS") == Processes(1, "none", on_cpu=True)


def test_a_model_that_is_divided_within_replicas_is_divided_by_their_size(tmp_path):
    sizes = {"parallelism_config_dp_replicate_size": 2, "parallelism_config_dp_shard_size": 4}
    found = launch(tmp_path, "FSDP", fsdp_config={"fsdp_version": 2}, parallelism_config=sizes)
    assert (found.processes, found.shards) == (8, 4)


@pytest.mark.parametrize(
    ("kind", "changes", "told"),
    [
        ("MULTI_XPU", {}, "distributed_type: expected one of NO, MULTI_CPU, MPS, MULTI_GPU, FSDP, DEEPSPEED, got "),
        ("FSDP", {"parallelism_config": {"parallelism_config_cp_size": 2}}, "parallelism_config_cp_size: expected 1"),
        ("MULTI_GPU", {"num_processes": "many"}, "num_processes: expected the number of processes"),
    ],
)
def test_what_no_plan_can_be_made_for_is_told(tmp_path, kind, changes, told):
    with pytest.raises(UserError, match=re.escape(told)):
        launch(tmp_path, kind, **changes)


def test_accelerates_own_default_is_read_where_no_file_is_named(tmp_path):
    """In another process: accelerate reads where its folder is when it is imported."""
    (tmp_path / "accelerate").mkdir()
    (tmp_path / "accelerate" / "default_config.yaml").write_text("distributed_type: FSDP\nnum_processes: 6\n")
    code = f"import os; os.environ['HF_HOME'] = {str(tmp_path)!r}; from apo_soup.plan.launch import launch_of; "
    told = python("-c", code + "print(launch_of(None))").stdout
    assert told.strip() == repr(Processes(6, "fsdp", on_cpu=False))
