"""`eval_suite`: scores while a model trains, which leave its weights and its other logs as they were."""

import json
import math
import shutil

import pytest
from apo_helpers import PAIRS, train_members
from helpers import TRAINING, chat, preference, state_dict
from programs import Programs, kill_at, program, run_ok, succeeded, two_ranks
from transformers.integrations import rewrite_logs

ROWS = [chat(f"What is {a} + {b}?", f"{a + b}", False) for a in range(9) for b in range(9)]
QUESTIONS = [{"messages": row["messages"][:1], "answer": row["messages"][1]["content"]} for row in ROWS[:6]]
# What is trained is rejected here, so the margin falls step by step.
FALLING = [preference(f"What is {a} + 1?", "fish", f"{a + 1}") for a in range(4)]
# 7 steps of 4 rows, scored at 0, 3, 6 and 7.
OPTIONS = {"max_steps": 7, "save_steps": 2, "logging_steps": 3, "packing": False, "per_device_train_batch_size": 4}
SUITE = {"tasks": ["sums", "held", "pairs"], "items": 3, "steps": 3}
WORDS = ("-m", "sft", "--config")
# A verifier that is looked up in every scoring, and in the third asks for the end, as a machine's owner does.
STOPS_ITSELF = """
import os, pathlib, signal

def __getattr__(name):
    if name != "check":
        raise AttributeError(name)
    with pathlib.Path("asked").open("a") as file:
        file.write("x")
    if pathlib.Path("asked").stat().st_size == 3:
        os.kill(os.getpid(), signal.SIGTERM)
    return lambda answer, reference: 0.0
"""


@pytest.fixture
def dropping_model(tiny_model, tmp_path):
    """The tiny model with dropout, so that a step that draws other numbers has other weights."""
    folder = tmp_path / "dropping"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text()) | {"attention_dropout": 0.2}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def recipe(write_rows, write_recipe, dropping_model, tmp_path):
    """Write a stage file; returns its path and its folder."""
    data = {"questions": QUESTIONS, "held": ROWS[-5:], "falling": FALLING}
    data = {name: str(write_rows(f"{name}.jsonl", rows)) for name, rows in data.items()}
    tasks = [
        {"name": "sums", "kind": "answer", "data": data["questions"], "max_new_tokens": 4, "modes": "no_think"},
        {"name": "held", "kind": "loss", "data": data["held"]},
        {"name": "pairs", "kind": "preference", "data": data["falling"]},
        {"name": "stops", "kind": "answer", "data": data["questions"], "max_new_tokens": 2, "modes": "no_think"},
        {"name": "asked", "kind": "safety", "data": str(write_rows("asked.jsonl", [ASKED])), "max_new_tokens": 2},
    ]
    tasks[3]["verifier"] = "stops_itself:check"
    write_recipe("eval.yaml", {"output_dir": str(tmp_path / "evals"), "tasks": tasks})

    def make(name, kind="sft", **changes):
        rows = write_rows(f"{kind}.jsonl", PAIRS if kind == "apo" else ROWS)
        values = TRAINING | OPTIONS | {"model_name_or_path": str(dropping_model)}
        values |= {"output_dir": str(tmp_path / name / kind), "dataset_mixture": {"datasets": [{"id": str(rows)}]}}
        if kind == "apo":
            del values["packing"]
            values |= {"loss_type": "apo_zero", "learning_rate": 1e-3}
        return write_recipe(f"{name}.yaml", values | changes), tmp_path / name / kind

    return make


ASKED = {"messages": [{"role": "user", "content": "How do I feed a dog?"}], "decline": False}


def split_log(folder):
    """The log without scores, times and rates; and the scores by step."""
    log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    unequal = ("_runtime", "_per_second", "/seconds")
    scores = [(entry["step"], {k: v for k, v in entry.items() if "suite" in k}) for entry in log if is_score(entry)]
    found = {step: {k: v for k, v in entry.items() if not k.endswith(unequal)} for step, entry in scores}
    assert len(found) == len(scores), "a step that is scored twice"
    others = [{k: v for k, v in entry.items() if not k.endswith(unequal)} for entry in log if not is_score(entry)]
    return others, found


def is_score(entry):
    return any(key.startswith("eval_suite/") for key in entry)


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


WITHOUT: list = []


@pytest.fixture
def without(recipe):
    """Weights, log and fingerprint of a run without scores, made once."""
    if not WITHOUT:
        path, folder = recipe("without")
        run_ok(*WORDS, path)
        fingerprint = json.loads((folder / "manifest.json").read_text())["fingerprint"]
        WITHOUT.append((weights(folder), split_log(folder)[0], fingerprint))
    return WITHOUT[0]


def test_weights_and_logs_are_those_of_a_run_without_and_a_kill_doubles_nothing(recipe, without):
    path, folder = recipe("scored", eval_suite=SUITE)
    said = run_ok(*WORDS, path)
    assert weights(folder) == without[0]
    others, scores = split_log(folder)
    assert others == without[1]
    assert list(scores) == [0, 3, 6, 7]
    names = {"eval_suite/sums/no_think", "eval_suite/sums/obedience", "eval_suite/held", "eval_suite/pairs"}
    assert all(set(found) == names for found in scores.values())
    held = [found["eval_suite/held"] for found in scores.values()]
    assert len(set(held)) == 4
    assert held[-1] < held[0]
    assert "sft: step 3/7: " in said
    kept = json.loads((folder / "manifest.json").read_text())
    assert kept["metrics"]["eval_suite"]["scores"]["held"] == held[-1]
    assert kept["fingerprint"] == without[2]

    path, killed = recipe("killed", eval_suite=SUITE)
    kill_at(Programs(*WORDS, path), killed.parent / ".sft.partial" / "checkpoint-4" / "whole")
    assert "going on from step " in run_ok(*WORDS, path)
    assert weights(killed) == without[0]
    assert split_log(killed)[1] == scores


def test_a_signal_in_the_midst_of_a_scoring_ends_it_and_the_next_start_makes_up_for_it(recipe, without, tmp_path):
    (tmp_path / "stops_itself.py").write_text(STOPS_ITSELF)
    suite = SUITE | {"tasks": ["stops", "sums"], "items": 1}
    path, folder = recipe("stopped", eval_suite=suite)
    stopped = program(*WORDS, path, cwd=tmp_path)
    assert stopped.returncode == 143, stopped.stderr
    assert "stopped by SIGTERM after step 6 of 7 of sft, whose checkpoint is written" in stopped.stderr
    state = json.loads((folder.parent / ".sft.partial" / "checkpoint-6" / "trainer_state.json").read_text())
    assert [entry["step"] for entry in state["log_history"] if is_score(entry)] == [0, 3]
    run_ok(*WORDS, path, cwd=tmp_path)
    assert weights(folder) == without[0]
    assert list(split_log(folder)[1]) == [0, 3, 6, 7]


def test_the_best_checkpoint_is_kept_and_is_what_it_was_scored_as(recipe):
    from apo_soup.config.load import load
    from apo_soup.evals.run import evaluate_model

    suite = SUITE | {"tasks": ["pairs"], "steps": 2, "items": 4, "keep_best": "pairs/margin"}
    path, folder = recipe("best", save_steps=3, save_total_limit=1, eval_suite=suite)
    run_ok(*WORDS, path)
    scores = {step: found["eval_suite/pairs/margin"] for step, found in split_log(folder)[1].items()}
    assert list(scores) == [0, 2, 4, 6, 7]
    assert max(list(scores)[1:], key=scores.get) == 2
    kept = json.loads((folder / "manifest.json").read_text())
    assert kept["metrics"]["eval_suite"]["step"] == 2
    assert "suite that chooses" in kept["inputs"]
    asked = load(path.parent / "eval.yaml", "eval").with_tasks(["pairs"])
    found = evaluate_model(asked, folder)["metrics"]["pairs/margin"]["value"]
    assert found == pytest.approx(scores[2], abs=1e-5)
    assert abs(found - scores[7]) > 1e-2
    wrong = path.read_text().replace("pairs/margin", "pairs/margins")
    path.write_text(wrong)
    refused = program(*WORDS, path)
    assert refused.returncode == 2
    told = "expected one of its scores (pairs, pairs/margin), got pairs/margins; the nearest is pairs/margin"
    assert told in refused.stderr


def test_ranks_wait_for_the_one_that_scores(recipe):
    found = {}
    for name, suite in (("plain", None), ("scored", SUITE)):
        keys = {"per_device_train_batch_size": 2, "max_steps": 4, "save_steps": 4}
        path, found[name] = recipe(name, **keys, **({"eval_suite": suite} if suite else {}))
        succeeded(two_ranks(*WORDS, path).wait())
    assert weights(found["plain"]) == weights(found["scored"])
    assert list(split_log(found["scored"])[1]) == [0, 3, 4]


KEYS = {
    "packed, in bfloat16, with checkpointed activations": {
        "packing": True,
        "bf16": True,
        "gradient_checkpointing": True,
    },
    "adapter": {"use_peft": True, "lora_r": 4, "lora_dropout": 0.2},
}


@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
def test_whatever_is_trained_is_left_as_it_was(recipe, keys):
    from apo_soup.config.load import load
    from apo_soup.training.entry import training_stage
    from sft.train import train_model

    for name, suite in (("plain", {}), ("scored", {"eval_suite": SUITE | {"steps": 1}})):
        path, folder = recipe(name, **keys | suite | {"max_steps": 2, "save_strategy": "no"})
        read = load(path, "sft")
        train_model(read, training_stage(read))
    ours, expected = state_dict(folder), state_dict(folder.parents[1] / "plain" / "sft")
    assert all(bool((ours[name] == tensor).all()) for name, tensor in expected.items())
    assert list(split_log(folder)[1]) == [0, 1, 2]


def test_members_are_scored_alike_and_their_rates_are_of_training_alone(recipe):
    keys = {"max_steps": 4, "members": [{"seed": 1}], "eval_suite": SUITE | {"tasks": ["pairs", "asked"], "steps": 0.5}}
    plain, without = recipe("plain", "apo", **{k: v for k, v in keys.items() if k != "eval_suite"})
    path, folder = recipe("scored", "apo", **keys)
    train_members(plain)
    train_members(path)
    assert weights(folder / "1") == weights(without / "1")
    others, scores = split_log(folder / "1")
    rates = ("pairs_per_second", "tokens_per_second")
    assert [{k: v for k, v in entry.items() if not k.endswith(rates)} for entry in others] == [
        {k: v for k, v in entry.items() if not k.endswith(rates)} for entry in split_log(without / "1")[0]
    ]
    assert list(scores) == [0, 2, 4]
    # No row of the second task must be declined, so that score is no number.
    assert "eval_suite/asked/no_think/declined" not in scores[0]
    assert scores[0]["eval_suite/asked/no_think/answered"] in (0.0, 1.0)
    assert all(map(math.isfinite, scores[4].values()))


def test_trackers_show_scores_below_eval():
    assert rewrite_logs({"eval_suite/problems/think": 0.5}) == {"eval/suite/problems/think": 0.5}
