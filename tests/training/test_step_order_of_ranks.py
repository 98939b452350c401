"""A global batch: the same stage on any number of processes, and a run that changes their number on its way."""

import json
from collections import Counter, defaultdict

import pytest
import torch
from apo_helpers import varied_pairs
from helpers import ROOT, TRAINING, chat, state_dict
from programs import Programs, program, run_ok, succeeded, two_ranks

RECORDED = ROOT / "tests" / "recorded_steps.py"
# 21 rows in steps of 4 leave an epoch's last step one row, so of two ranks one has none.
ROWS = {
    "sft": [chat(f"What is {n} plus {n}?", f"It is {2 * n}. " * (n % 4 + 1), False) for n in range(21)],
    "apo": varied_pairs(0, 21),
}
KEYS = {
    "sft": {"packing": False, "assistant_only_loss": True, "learning_rate": 1e-3},
    "apo": {"loss_type": "apo_zero", "beta": 0.1, "precompute_ref_log_probs": True, "learning_rate": 1e-4},
}
OPTIONS = TRAINING | {"global_batch_size": 4, "num_train_epochs": 2, "logging_steps": 5, "save_steps": 4,
                      "max_length": 128, "weight_decay": 0.1}  # fmt: skip


@pytest.fixture
def recipe(write_rows, write_recipe, tiny_model, tmp_path):
    """A stage's file in a run of this name, and the folder of its model; None takes a key away."""

    def make(stage, name, **changes):
        rows = write_rows(f"{stage}.jsonl", ROWS[stage])
        values = OPTIONS | KEYS[stage] | {"model_name_or_path": str(tiny_model)}
        values |= {"output_dir": str(tmp_path / name / stage), "dataset_mixture": {"datasets": [{"id": str(rows)}]}}
        values = {key: value for key, value in (values | changes).items() if value is not None}
        folder = tmp_path / name / stage
        return write_recipe(f"{name}.yaml", values), folder / "1" if stage == "apo" else folder

    return make


def steps_of(record):
    """The kept rows of every step, of all ranks together, in the order of their numbers."""
    steps = defaultdict(list)
    for line in record.read_text().splitlines():
        entry = json.loads(line)
        steps[entry["step"]] += entry["rows"]
    return {step: sorted(rows) for step, rows in sorted(steps.items())}


def losses(folder):
    log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in log if "loss" in entry]


@pytest.mark.parametrize("stage", ["sft", "apo"])
def test_a_run_goes_on_on_another_number_of_processes_with_the_rows_that_are_left(stage, recipe, tmp_path):
    """Two processes until step 3, one until step 8, two to the end at 12: rows, losses and weights of one process."""
    path, whole = recipe(stage, "whole")
    expected = tmp_path / "whole.jsonl"
    run_ok(RECORDED, expected, "0", stage, "--config", path)
    path, folder = recipe(stage, "changed")
    record = tmp_path / "changed.jsonl"

    first = two_ranks(RECORDED, record, "3", stage, "--config", path).wait()
    assert "after step 3 of 12" in first.stderr, first.stderr
    second = program(RECORDED, record, "8", stage, "--config", path)
    name = "apo/1" if stage == "apo" else "sft"
    assert f"{name}: begun on 2 processes, goes on on 1, with the same global batch of 4" in second.stdout
    assert "after step 8 of 12" in second.stderr, second.stderr
    third = succeeded(two_ranks(RECORDED, record, "0", stage, "--config", path).wait())
    assert f"{name}: begun on 1 processes, goes on on 2, with the same global batch of 4" in third
    assert f"{name}: going on from step 8 of 12" in third

    assert steps_of(record) == steps_of(expected)
    assert Counter(row for rows in steps_of(record).values() for row in rows) == dict.fromkeys(range(21), 2)
    ranks = [json.loads(line)["ranks"] for line in record.read_text().splitlines()]
    assert ranks == [2] * 6 + [1] * 5 + [2] * 8
    assert losses(folder) == pytest.approx(losses(whole), rel=1e-4)
    assert len(losses(folder)) == 2
    ours, of_one = state_dict(folder), state_dict(whole)
    for key, tensor in ours.items():
        torch.testing.assert_close(tensor, of_one[key], atol=1e-5, rtol=1e-4)
    metrics = [json.loads((one / "manifest.json").read_text())["metrics"] for one in (folder, whole)]
    assert metrics[0]["train_loss"] == pytest.approx(metrics[1]["train_loss"], rel=1e-4)
    assert metrics[0]["steps"] == metrics[1]["steps"] == 12


def test_a_file_that_says_how_its_batch_comes_about_makes_the_same_bytes_and_folder(recipe):
    split = {"global_batch_size": None, "gradient_accumulation_steps": 2, "max_steps": 7}
    path, folder = recipe("sft", "split", **split)
    run_ok("-m", "sft", "--config", path)
    with_key, whole = recipe("sft", "whole", max_steps=7)
    run_ok("-m", "sft", "--config", with_key)
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert json.loads((whole / "manifest.json").read_text())["ran_with"]["gradient_accumulation_steps"] == 2

    path, _ = recipe("sft", "split", max_steps=7)
    assert "sft: up to date" in run_ok("-m", "sft", "--config", path, "--state")
    assert "sft: up to date" in run_ok("-m", "sft", "--config", path, "--state", "--per_device_train_batch_size", "4")
    stale = program("-m", "sft", "--config", path, "--state", "--global_batch_size", "8")
    assert stale.stdout == "sft: stale, because global_batch_size was 4 and is 8\n"


def test_a_batch_that_processes_do_not_divide_is_told_once_before_anything_is_trained(recipe):
    path, folder = recipe("sft", "odd", per_device_train_batch_size=3, global_batch_size=3)
    line = 1 + next(n for n, text in enumerate(path.read_text().splitlines()) if text.startswith("global_batch_size"))
    ended = two_ranks("-m", "sft", "--config", path).wait()
    assert (ended.returncode, ended.stderr) == (
        2,
        f"error: {path}:{line}: global_batch_size: expected a multiple of 6, which is per_device_train_batch_size 3 x "
        "2 processes, got 3; launch another number of processes, or a global batch of 6\n",
    )
    ended = two_ranks("-m", "sft", "--config", path, "--global_batch_size=12", "--gradient_accumulation_steps=4").wait()
    assert ended.stderr == (
        f"error: {path} (command line): gradient_accumulation_steps: expected 2, which global_batch_size 12 is on 2 "
        "processes of 3 each, got 4; leave the key out, since it follows\n"
    )
    assert not list(folder.parent.glob(".sft.partial"))


def test_a_step_that_is_not_full_is_dropped_on_any_number_of_processes(recipe, tmp_path):
    """Of 21 rows in steps of 8 an epoch has two, of 16 rows, and a batch of 2 a device would fill more."""
    taken = []
    for start, name in ((Programs, "one"), (two_ranks, "two")):
        path, _ = recipe("sft", name, global_batch_size=8, dataloader_drop_last=True)
        record = tmp_path / f"{name}.jsonl"
        succeeded(start(RECORDED, record, "0", "sft", "--config", path).wait())
        taken.append(steps_of(record))
    assert taken[0] == taken[1]
    assert [len(rows) for rows in taken[0].values()] == [8] * 4


def test_a_launcher_of_processes_that_share_their_rows_is_refused(recipe):
    """Tensor parallelism gives several processes one batch, of which no variable of the launcher tells."""
    path, _ = recipe("sft", "shared")
    words = ("-c", SHARES_ROWS, "--config", path)
    ended = program(*words)
    assert ended.returncode == 2
    assert "global_batch_size: expected processes that each take rows of their own, got some that share" in ended.stderr
    assert "which makes a step of 2; launch a process a GPU" in ended.stderr


SHARES_ROWS = """
import sys, runpy
from apo_soup.training.trainer import StageTrainer
StageTrainer.get_total_train_batch_size = lambda self, args: 2
sys.argv[0] = "sft"
runpy.run_module("sft", run_name="__main__")
"""
