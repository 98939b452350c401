"""`load_best_model_at_end`: the best checkpoint is verified as the newest is, and again when its weights are taken."""

import json
import os
import signal
import time

import pytest
from helpers import TRAINING, chat
from programs import Programs, program, run_ok

ROWS = [chat(f"What is {a} + {b}?", f"{a + b}", False) for a in range(6) for b in range(6)]
# The fewer tokens were seen, the better: the best is the first.
OPTIONS = {
    "max_steps": 8, "packing": False, "save_total_limit": 1, "eval_strategy": "steps", "eval_steps": 2, "save_steps": 2,
    "load_best_model_at_end": True, "metric_for_best_model": "eval_num_tokens",
    "greater_is_better": False,
}  # fmt: skip


@pytest.fixture
def recipe(write_rows, write_recipe, tiny_model, tmp_path):
    values = TRAINING | OPTIONS | {"model_name_or_path": str(tiny_model), "output_dir": str(tmp_path / "sft")}
    values["dataset_mixture"] = {"datasets": [{"id": str(write_rows("rows.jsonl", ROWS))}], "test_split_size": 8}
    return write_recipe("sft.yaml", values)


def begun(recipe, step):
    running = Programs("-m", "sft", "--config", recipe)
    while not (recipe.parent / ".sft.partial" / f"checkpoint-{step}" / "whole").exists():
        assert running.running()
        time.sleep(0.002)
    return running


def change(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_a_best_checkpoint_that_was_damaged_gives_way_to_the_best_of_those_to_come(recipe):
    partial = recipe.parent / ".sft.partial"
    running = begun(recipe, 4)
    os.kill(running.ids[0], signal.SIGTERM)
    assert running.wait().returncode == 143
    steps = sorted(int(folder.name.partition("-")[2]) for folder in partial.glob("checkpoint-*"))
    assert (steps[0], len(steps)) == (2, 2), "where one may stay, that of the best step and the last one do"
    assert steps[1] < 8, "the signal came too late"
    change(partial / "checkpoint-2" / "model.safetensors")
    told = run_ok("-m", "sft", "--config", recipe)
    assert f"sft: {partial}/checkpoint-2 is not used: model.safetensors has changed\n" in told
    assert "sft: checkpoint-2, the best until now (eval_num_tokens " in told
    assert f"going on from step {steps[1]} of 8" in told
    state = json.loads((recipe.parent / "sft" / "trainer_state.json").read_text())
    scored = {entry["step"]: entry for entry in state["log_history"][:-1] if "eval_loss" in entry}
    best = min((step for step in scored if step > steps[1]), key=lambda step: scored[step]["eval_num_tokens"])
    assert state["best_global_step"] == best
    assert state["log_history"][-1]["eval_loss"] == scored[best]["eval_loss"], "its weights are those that are saved"


def test_a_best_checkpoint_that_is_damaged_meanwhile_is_not_loaded(recipe):
    running = begun(recipe, 2)
    checkpoint = recipe.parent / ".sft.partial" / "checkpoint-2"
    change(checkpoint / "model.safetensors")
    result = running.wait()
    assert result.returncode == 2, result.stderr
    assert (
        f"{checkpoint}: expected the best checkpoint as it was written, got one where model.safetensors has changed; "
        "the same command goes on without it, and says with which"
    ) in result.stderr
    assert "Traceback" not in result.stderr
    again = program("-m", "sft", "--config", recipe)
    assert again.returncode == 0, again.stderr
    assert "no checkpoint was measured to be the best; the weights are those of the last step" in again.stdout
