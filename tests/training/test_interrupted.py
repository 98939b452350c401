"""A training that is stopped, killed or damaged anywhere ends with the bytes and losses of one that was not."""

import hashlib
import json
import os
import shutil
import signal
import time

import pytest
from helpers import TRAINING, chat, python
from programs import Programs, kill_at, program, run_ok, succeeded, two_ranks

from apo_soup.training.checkpoints import checkpoint_fault

ROWS = [chat(f"What is {a} + {b}?", f"{a + b}", False) for a in range(9) for b in range(9)]
# 7 steps of 4 rows end inside an epoch; losses are logged every 3 steps, checkpoints written every 2.
OPTIONS = {"max_steps": 7, "save_steps": 2, "logging_steps": 3, "packing": False, "weight_decay": 0.1}
WORDS = ("-m", "sft", "--config")


@pytest.fixture
def recipe(write_rows, write_recipe, tiny_model, tmp_path):
    def make(name, **changes):
        rows = write_rows("rows.jsonl", ROWS)
        values = (
            TRAINING | OPTIONS | {"model_name_or_path": str(tiny_model), "output_dir": str(tmp_path / name / "sft")}
        )
        values["dataset_mixture"] = {"datasets": [{"id": str(rows)}], "seed": 0}
        return write_recipe(
            f"{name}.yaml", values | {"per_device_train_batch_size": 4} | changes
        ), tmp_path / name / "sft"

    return make


def outcome(folder):
    """Weights, and what was logged but for times and rates."""
    log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    timed = ("_runtime", "_per_second")
    logged = [{k: v for k, v in entry.items() if not k.endswith(timed)} for entry in log]
    metrics = json.loads((folder / "manifest.json").read_text())["metrics"]
    kept = {name: metrics[name] for name in ("train_loss", "steps", "tokens_seen", "total_flos")}
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    return {"weights": weights, **kept, **{f"log {number}": entry for number, entry in enumerate(logged)}}


def stopped(path, partial, step, number=signal.SIGTERM):
    """Start, and send a signal when a checkpoint is there; returns how it ended."""
    running = Programs(*WORDS, path)
    while not (partial / f"checkpoint-{step}" / "whole").exists():
        assert running.running()
        time.sleep(0.002)
    os.kill(running.ids[0], number)
    return running.wait()


WHOLE: list = []


@pytest.fixture
def whole(recipe):
    """The outcome of a run that nothing stopped, made once."""
    if not WHOLE:
        path, folder = recipe("whole")
        run_ok(*WORDS, path)
        WHOLE.append(outcome(folder))
    return WHOLE[0]


def test_signals_end_a_step_with_a_checkpoint_and_resume_to_the_same(recipe, whole):
    """Every checkpoint of theirs holds the optimiser, those that were written before the signal do not."""
    path, folder = recipe("stopped", save_steps=1, save_total_limit=None, save_only_model=True)
    partial = folder.parent / ".sft.partial"
    for name, step in (("SIGTERM", 1), ("SIGUSR1", 3), ("SIGINT", 5)):
        number = signal.Signals[name]
        result = stopped(path, partial, step, number)
        assert result.returncode == 128 + number, result.stderr
        last = max(int(f.name.partition("-")[2]) for f in partial.glob("checkpoint-*"))
        told = f"stopped by {name} after step {last} of 7 of sft, whose checkpoint is written; run the same command"
        assert told in result.stderr.splitlines()[-1]
        assert "Traceback" not in result.stderr
        assert (partial / f"checkpoint-{last}" / "whole").is_file()
        assert not list(folder.parent.glob(".sft.lock"))
        if last == 7:
            break
    run_ok(*WORDS, path)
    assert outcome(folder) == whole
    assert not list(folder.parent.glob(".sft*"))


def test_two_processes_stop_at_one_step_whichever_gets_the_signal(recipe):
    path, folder = recipe("whole2", per_device_train_batch_size=2)
    succeeded(two_ranks(*WORDS, path).wait())
    expected = outcome(folder)
    path, folder = recipe("stopped2", per_device_train_batch_size=2)
    partial = folder.parent / ".sft.partial"
    running = two_ranks(*WORDS, path)
    while not (partial / "checkpoint-2" / "whole").exists():
        assert running.running()
        time.sleep(0.002)
    os.kill(running.ids[1], signal.SIGTERM)
    result = running.wait()
    assert result.returncode == 143, result.stderr
    assert result.stderr.count("stopped by SIGTERM after step ") == 1
    assert "Traceback" not in result.stderr
    succeeded(two_ranks(*WORDS, path).wait())
    assert outcome(folder) == expected


def test_a_signal_while_the_model_is_written_leaves_it_whole(recipe, whole):
    path, folder = recipe("written")
    running = Programs(*WORDS, path)
    while not (folder.parent / ".sft.partial" / "final").exists():
        assert running.running()
        time.sleep(0.001)
    os.kill(running.ids[0], signal.SIGTERM)
    result = running.wait()
    assert result.returncode == 143, result.stderr
    assert result.stderr.splitlines()[-1].startswith(
        "stopped by SIGTERM when sft was whole; run the same command again"
    )
    assert outcome(folder) == whole
    assert not list(folder.parent.glob(".sft*"))


def test_a_kill_behind_the_last_checkpoint_takes_no_step_more(recipe, whole):
    path, folder = recipe("late", save_steps=7)
    kill_at(Programs(*WORDS, path), folder.parent / ".sft.partial" / "checkpoint-7" / "whole")
    if not folder.exists():  # the kill came in time, as it nearly always does
        assert "going on from step 7 of 7" in run_ok(*WORDS, path)
    assert outcome(folder) == whole


DAMAGES = {
    "optimizer.pt is missing": lambda f: (f / "optimizer.pt").unlink(),
    "model.safetensors has 100 bytes, not": lambda f: os.truncate(f / "model.safetensors", 100),
    "scheduler.pt has 0 bytes": lambda f: (f / "scheduler.pt").write_bytes(b""),
    "model.safetensors has changed": lambda f: flip(f / "model.safetensors"),
    "rng_state.pth has changed": lambda f: flip(f / "rng_state.pth"),
    "trainer_state.json has changed": lambda f: flip(f / "trainer_state.json"),
    "counted.json is missing": lambda f: (f / "counted.json").unlink(),
    "its record whole cannot be read": lambda f: os.truncate(f / "whole", 20),
    "its record whole cannot be read ": lambda f: (f / "whole").write_text('{"files": 3}'),
    "its record whole cannot be read  ": lambda f: (f / "whole").write_text(""),
    "its record whole cannot be read   ": lambda f: (f / "whole").unlink(),
}


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_the_newest_sound_checkpoint_is_used_and_each_other_named(recipe, whole):
    path, folder = recipe("damaged", save_total_limit=None, save_steps=1)
    partial = folder.parent / ".sft.partial"
    assert stopped(path, partial, 3).returncode == 143
    begun = folder.parent / "begun"
    shutil.copytree(partial, begun)
    for number, (fault, damage) in enumerate(DAMAGES.items()):
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(begun, partial)
        steps = sorted((int(f.name.partition("-")[2]) for f in partial.glob("checkpoint-*")), reverse=True)
        for step in steps[: 1 + number % 2]:
            damage(partial / f"checkpoint-{step}")
        found = [checkpoint_fault(partial / f"checkpoint-{step}") for step in steps]
        assert fault.strip() in found[0]
        assert found[1 + number % 2] is None
        if number in (0, 3):
            said = run_ok(*WORDS, path)
            assert f"going on from step {steps[1 + number % 2]} of 7" in said
            assert outcome(folder) == whole
            shutil.rmtree(folder)
            for step in steps[: 1 + number % 2]:
                assert f"checkpoint-{step} is not used: {fault.strip()}" in said, said


def test_weights_that_are_not_finite_end_the_stage_and_make_no_checkpoint(recipe):
    """The last step's gradient is finite, and its learning rate is not to be survived."""
    path, folder = recipe("burst", max_steps=1, learning_rate=3e38, optim="rmsprop", save_steps=1)
    result = program(*WORDS, path)
    assert result.returncode == 2, result.stderr
    assert "step 1: expected finite weights, got model." in result.stderr
    assert not folder.exists()
    assert not list((folder.parent / ".sft.partial").glob("checkpoint-*"))


def test_a_second_start_is_told_and_the_first_ends_undisturbed(recipe, whole):
    path, folder = recipe("twice")
    first = Programs(*WORDS, path)
    while not (folder.parent / ".sft.holder").exists():
        time.sleep(0.002)
    second = python(*WORDS, path)
    assert second.returncode == 2
    assert f"sft: expected to be the only one at work on it, got process {first.ids[0]} on " in second.stderr
    assert "Traceback" not in second.stderr
    assert first.wait().returncode == 0
    assert outcome(folder) == whole
