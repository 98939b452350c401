"""The comparison with TRL's and mergekit's own commands: what is counted, and that both sides do the same."""

import doctest
import json
import os
import sys

import pytest
import yaml

from bench import end_to_end


def test_its_examples_are_true():
    assert doctest.testmod(end_to_end).failed == 0


def test_a_command_is_measured_with_all_that_it_starts(tmp_path):
    spends = "import time; block = b'x' * 80_000_000\nwhile time.process_time() < 0.3: pass"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spends!r}])"
    found = end_to_end.measured_command([sys.executable, "-c", code], tmp_path, dict(os.environ), tmp_path / "log")
    assert 0.3 <= found["processor_seconds"] <= 5
    assert found["seconds"] >= 0.3
    assert 80 <= found["peak_mb"] <= 400
    assert found["command"].startswith(os.path.basename(sys.executable))
    with pytest.raises(end_to_end.subprocess.CalledProcessError):
        end_to_end.measured_command([sys.executable, "-c", "exit(3)"], tmp_path, dict(os.environ), tmp_path / "log")


def test_seconds_add_up_and_the_largest_peak_counts():
    commands = [
        {"seconds": 1.5, "processor_seconds": 2.0, "peak_mb": 300},
        {"seconds": 2.0, "processor_seconds": 0.25, "peak_mb": 200},
    ]
    assert end_to_end.totals(commands) == {"seconds": 3.5, "processor_seconds": 2.2, "peak_mb": 300}


def test_lines_are_those_of_one_layout(tmp_path):
    files = [tmp_path / "flow.yaml", tmp_path / "block.yaml"]
    files[0].write_text("# why\na: [1, 2]\nb: {c: 1}\n")
    files[1].write_text("a:\n- 1\n- 2\n\nb:\n  c: 1\n")
    counted = [end_to_end.written([file], 1)["lines"] for file in files]
    assert counted == [2, 2]
    assert end_to_end.written(files, 7) == {"files": 2, "commands": 7, "lines": 4}


def test_losses_and_tokens_are_read_from_what_both_leave(tmp_path):
    state = tmp_path / "trainer_state.json"
    state.write_text(
        json.dumps({"log_history": [{"loss": 2.5, "step": 1}, {"step": 1, "train_loss": 9.0}, {"loss": 2.0}]})
    )
    assert list(end_to_end.losses_of(state)) == [2.5, 2.0]
    first = "$ trl sft --config mid.yaml --max_steps 4 --packing false\n{'num_tokens': '9'}\n"
    whole = "$ trl sft --config mid.yaml\n{'num_tokens': '10'}\n{'num_tokens': '20'}\n$ mergekit-yaml soup.yaml soup\n"
    assert end_to_end.peer_tokens(first + whole) == {"mid": 20.0}


def test_both_sides_are_asked_for_the_same_training(tmp_path):
    steps = {"mid": 3, "sft": 2, "apo": 1}
    recipe, peer = end_to_end.our_side(tmp_path / "ours", steps), end_to_end.peer_side(tmp_path / "peer", steps)
    shared = {
        "assistant_only_loss", "packing", "packing_strategy", "max_length", "num_train_epochs", "learning_rate",
        "per_device_train_batch_size", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "max_grad_norm",
        "bf16", "gradient_checkpointing", "logging_steps", "save_strategy", "max_steps", "seed", "dtype", "beta",
        "precompute_ref_log_probs",
    }  # fmt: skip
    for name in end_to_end.TRAININGS:
        ours, theirs = (yaml.safe_load((side / f"{name}.yaml").read_text()) for side in (recipe, peer))
        assert {k: v for k, v in ours.items() if k in shared} == {k: v for k, v in theirs.items() if k in shared}
        assert ours["global_batch_size"] == theirs["per_device_train_batch_size"]
        rows = [entry["id"] for entry in ours["dataset_mixture"]["datasets"]]
        named = [entry["data_files"] for entry in theirs["datasets"]]
        assert named == (["sft.jsonl"] if name == "sft" else rows)
        assert theirs["max_steps"] == steps[name]
    suite = end_to_end.suite_of(recipe, tmp_path / "run", {"ours-mid": "a"}, tmp_path / "evals")
    assert suite["tasks"][0]["data"] == str(tmp_path / "run" / "data" / "heldout_problems.jsonl")
    assert [task["name"] for task in suite["tasks"]] == list(end_to_end.TASKS)
    commands = (peer / "commands.txt").read_text().splitlines()
    assert f"cat {' '.join(end_to_end.row_files(recipe, 'sft'))} > sft.jsonl" in commands
    assert yaml.safe_load((recipe / "apo.yaml").read_text())["loss_type"] == "apo_zero"
    weights = [model["parameters"]["weight"] for model in yaml.safe_load((peer / "merge.yaml").read_text())["models"]]
    ours = yaml.safe_load((recipe / "merge.yaml").read_text())["merge"]["models"]
    assert weights == [model["parameters"]["weight"] for model in ours]
