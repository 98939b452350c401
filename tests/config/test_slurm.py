"""What jobs ask for: a key of a stage over that at the top, and what no sbatch would take."""

import pytest
from helpers import ROOT

from apo_soup.config.slurm import SlurmFile, job_processes, launch_of_job, slurm_file
from apo_soup.errors import UserError


@pytest.fixture
def written(tmp_path):
    """The slurm.yaml of a text."""

    def read(text: str) -> SlurmFile:
        (tmp_path / "slurm.yaml").write_text(text)
        return slurm_file(tmp_path)[0]

    return read


def test_a_stages_key_stands_over_that_at_the_top(written):
    settings = written(
        "nodes: 8\ngpus_per_node: 8\npartition: gpu\nstages: {apo: {nodes: 2}, soup: {gpus_per_node: 0}}"
    )
    assert [job_processes(settings.job(stage)) for stage in ("sft", "apo", "soup")] == [64, 16, 8]
    assert {settings.job(stage).partition for stage in ("sft", "apo", "soup")} == {"gpu"}
    assert job_processes(written("partition: cpu").job("sft")) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("time: 24:00:00", r"1: expected valid YAML, got '24:00:00', which YAML reads as 86400; put quotes"),
        ("time: 90", r'1: time: expected a time in quotes, such as "24:00:00" or .*, got 90; '),
        ("time: 'a day'", r"1: time: expected a time in quotes"),
        ("grace: 100000", r"1: grace: expected .*, got 100000; lower it to 65535 or less"),
        ("nodes: 0", r"1: nodes: expected .*, got 0; raise it to 1 or more"),
        ("partiton: gpu", r"1: partiton: expected a known key, got an unknown one; the nearest is partition"),
        ("stages:\n  sfft: {nodes: 2}", r"2: stages.sfft: expected a known key, .*; the nearest is sft"),
        ("stages:\n  sft: {node: 2}", r"2: stages.sft.node: expected a known key, .*; the nearest is nodes"),
        ("sbatch:\n  array: 1-3", r"2: sbatch.array: expected an option of sbatch that is free, .*; leave it out"),
        ("sbatch:\n  gpus: 4", r"2: sbatch.gpus: expected an option of sbatch that is free, .*; leave it out"),
        ("sbatch:\n  gres: gpu:4", r"2: sbatch.gres: .*; leave it out, or give gpus_per_node, and gpu_type"),
        ("sbatch:\n  gres: 'disk:9,gpu:a100:4'", r"2: sbatch.gres: expected an option of sbatch that is free"),
        ("sbatch: {error: e.log}", r"1: sbatch.error: expected an option of sbatch that is free, .*; leave it out"),
        (
            "sbatch: {mail_type: END}",
            r"1: sbatch.mail_type: expected the long name of .*, got mail_type; write mail-type$",
        ),
        ("sbatch: {--qos: high}", r"1: sbatch.--qos: expected the long name of .*, got --qos; write qos$"),
        ("sbatch: {p: gpu}", r"1: sbatch.p: expected the long name of .*, got p; write it out$"),
        ("gpu_type: h100", r"1: gpu_type: expected gpus_per_node beside it, .*, got none; add it"),
        ("sbatch:\n  qos: [a]", r"2: sbatch.qos: expected text, a number or true, got .*; write the option's value"),
    ],
)
def test_what_sbatch_would_take_otherwise_is_refused(text, told, written):
    with pytest.raises(UserError, match=r"slurm\.yaml:" + told):
        written(text)


@pytest.mark.parametrize("time", ["24:00:00", "2-00:00:00", "90:00"])
def test_slurms_times_are_taken(time, written):
    assert written(f"time: '{time}'").job("sft").time == time


def test_the_shipped_files_are_right_and_ask_for_the_published_numbers_of_gpus():
    shipped = {folder: slurm_file(ROOT / "recipes" / folder)[0] for folder in ("slurm", "smollm3")}
    published = [job_processes(shipped["smollm3"].job(stage)) for stage in ("mid", "sft", "apo")]
    assert published == [64, 64, 16]
    assert job_processes(shipped["slurm"].job("sft")) == 8


def test_without_the_file_the_sentence_names_one_to_copy(tmp_path):
    with pytest.raises(
        UserError, match=r"expected a slurm\.yaml, .*, got none; copy .*recipes/slurm/slurm\.yaml there"
    ):
        slurm_file(tmp_path)


def test_a_launch_file_beside_the_recipe_comes_before_a_shipped_one(written, tmp_path):
    job = written("launch: fsdp2.yaml").job("sft")
    assert launch_of_job(job, tmp_path).parent.name == "accelerate"
    (tmp_path / "fsdp2.yaml").write_text("distributed_type: FSDP")
    assert launch_of_job(job, tmp_path) == tmp_path / "fsdp2.yaml"
