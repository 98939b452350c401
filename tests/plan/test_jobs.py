"""Jobs that a recipe's trainings cannot run on, found before they wait in a queue."""

import shutil

import pytest
from helpers import ROOT

from apo_soup.plan.check import check_recipe
from apo_soup.plan.jobs import job_problems


@pytest.fixture
def recipe(tmp_path):
    folder = tmp_path / "recipe"
    folder.mkdir()
    for name in ("recipe", "sft"):
        shutil.copy(ROOT / "recipes" / "smollm3" / f"{name}.yaml", folder)
    return folder


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("{nodes: 8, gpus_per_node: 8, launch: fsdp2.yaml}", []),
        (
            "{nodes: 3, gpus_per_node: 8, launch: fsdp2.yaml}",
            ["sft.yaml:147: global_batch_size: expected a multiple of 24, ", "(slurm.yaml gives sft 24 processes)"],
        ),
        (
            "{nodes: 8, gpus_per_node: 8, launch: fsdp2.yaml, stages: {sft: {nodes: 5}}}",
            ["global_batch_size: expected a multiple of 40, "],
        ),
        (
            "{gpus_per_node: 8}",
            ["slurm.yaml: launch: expected an accelerate configuration for 8 processes, got none; write fsdp2.yaml"],
        ),
        (
            "{gpus_per_node: 8, launch: cpu.yaml}",
            ["slurm.yaml:1: launch: expected an accelerate configuration that starts a process for each of 8 GPUs, "],
        ),
        ("{launch: fsdp3.yaml}", ["slurm.yaml:1: launch: expected an accelerate configuration, got no file at "]),
        ("{time: '5:00'}", ["slurm.yaml: grace: expected fewer seconds than the time limit of 300, got 300, so that "]),
        (
            "{grace: 60, stages: {eval: {time: '1:00', grace: 90}}}",
            ["slurm.yaml:1: stages.eval.grace: expected "],
        ),
        ("{nodes: few}", ["slurm.yaml:1: nodes: expected "]),
    ],
)
def test_what_the_trainings_cannot_run_on_is_told(settings, told, recipe):
    (recipe / "slurm.yaml").write_text(settings)
    problems = job_problems(recipe, ["sft.yaml", "apo.yaml"])
    assert len(problems) == bool(told)
    assert all(part in problem for part in told for problem in problems), problems


def test_check_reads_the_file_and_finds_a_misspelt_one(recipe):
    (recipe / "slurm.yaml").write_text("nodes: 3\ngpus_per_node: 8\nlaunch: fsdp2.yaml")
    assert any("(slurm.yaml gives sft 24 processes)" in problem for problem in check_recipe(recipe)[1])
    (recipe / "slurm.yaml").rename(recipe / "slrum.yaml")
    assert any("name it slurm.yaml" in problem for problem in check_recipe(recipe)[1])
