"""What is wrong with an accelerate configuration, told before a launcher reads it."""

import pytest
from helpers import ROOT

from apo_soup.config.launch_file import launch_processes, read_launch
from apo_soup.errors import UserError
from apo_soup.plan.check import check_recipe

KEYS = "distributed_type: FSDP\nnum_processes: 2\n"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "num_proceses: 4",
            "3: num_proceses: expected a key of accelerate's, got an unknown one; the nearest is ",
        ),
        ("fsdp_config: full_shard", "3: fsdp_config: expected a mapping, got 'full_shard'; write its keys below it"),
        ("mpirun_config: [hosts]", '3: mpirun_config: expected a mapping, got ["hosts"]; write its keys below it'),
        ("num_machines: two", "3: num_machines: expected a whole number of 1 or more, got 'two'; correct it"),
        (
            "deepspeed_config:\n  zero_stage: 9",
            "4: deepspeed_config.zero_stage: expected one of 0, 1, 2, 3, got 9",
        ),
    ],
)
def test_what_accelerate_would_refuse_or_fail_at_is_told(tmp_path, line, told):
    file = tmp_path / "launch.yaml"
    file.write_text(f"{KEYS}{line}\n")
    with pytest.raises(UserError) as refused:
        launch_processes(file)
    assert str(refused.value).startswith(f"{file}:{told}")
    file.write_text(file.read_text().replace("FSDP", "FSPD"))
    (tmp_path / "recipe").mkdir()
    problems = [problem.removeprefix(f"{file}:") for problem in check_recipe(tmp_path / "recipe", file)[1]]
    assert any(problem.startswith("1: distributed_type: expected one of NO, ") for problem in problems)
    assert any(problem.startswith(told) for problem in problems)


def test_shipped_files_and_what_accelerate_itself_writes_are_right(tmp_path):
    from accelerate.commands.config.config_args import ClusterConfig

    for file in sorted((ROOT / "recipes" / "accelerate").glob("*.yaml")):
        assert read_launch(file)[0]
    written = ClusterConfig("LOCAL_MACHINE", "MULTI_GPU", "bf16", False, False, num_processes=3)
    written.to_yaml_file(str(tmp_path / "default.yaml"))
    assert launch_processes(tmp_path / "default.yaml") == 3
