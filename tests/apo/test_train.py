"""APO end to end on a tiny model: members, the loss at the reference, rows that teach nothing."""

import json

import pytest
import torch
from apo_helpers import PAIRS, log_of, train_members
from conftest import LLAMA_LIKE
from helpers import ROOT, TRAINING, preference, python, state_dict
from programs import run_ok


def test_members_are_trained_in_turn_and_whole_ones_skipped(apo_recipe):
    path, folder = apo_recipe()
    run_ok("-m", "apo", "--config", path, "--member", "2")
    assert [f.name for f in folder.iterdir()] == ["2"]
    output = run_ok("-m", "apo", "--config", path, "--member", "1", "--member", "2")
    assert "apo/2: up to date, skipped" in output
    assert "apo/1: running, because it has not run yet" in output
    one, two = state_dict(folder / "1"), state_dict(folder / "2")
    assert any(not torch.equal(one[n], two[n]) for n in one)
    manifests = [json.loads((folder / k / "manifest.json").read_text()) for k in ("1", "2")]
    assert [m["config"]["beta"] for m in manifests] == [0.1, 0.2]
    assert manifests[0]["inputs"] == manifests[1]["inputs"]
    refused = python("-m", "apo", "--config", path, "--member", "3")
    assert refused.returncode == 2
    assert "--member: expected 1 to 2" in refused.stderr


def test_apo_zero_begins_at_one_and_prefers_chosen_in_the_end(apo_recipe):
    """At the reference both rewards are 0, so 1 - sigmoid(0) + sigmoid(0) = 1 exactly."""
    path, folder = apo_recipe(max_steps=40, members=None, lr_scheduler_type="constant", learning_rate=3.0e-3)
    run_ok("-m", "apo", "--config", path)
    log = log_of(folder)
    assert log[0]["loss"] == pytest.approx(1.0, abs=1e-6)
    assert log[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-6)
    losses = [r["loss"] for r in log if "loss" in r]
    assert sum(losses[-5:]) / 5 < 0.9
    manifest = json.loads((folder / "1" / "manifest.json").read_text())
    assert manifest["metrics"]["eval_rewards/margins"] > 0
    assert manifest["metrics"]["pairs"] == 29


def test_prepared_pairs_train_as_stock_trl_does_on_the_raw_rows(apo_recipe, tiny_model, tmp_path):
    """Same pairs, same order, float32: equal losses and weights after 4 steps.

    The template writes nothing behind the end of turn; where one does, stock TRL trains on that newline and we do not.
    """
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    mixture = {"datasets": [{"id": str(tmp_path / "pairs.jsonl")}], "seed": 0}
    path, folder = apo_recipe(members=None, dataset_mixture=mixture, chat_template=LLAMA_LIKE, learning_rate=1.0e-4)
    run_ok("-m", "apo", "--config", path)
    from apo_soup.data.held_out import split_off

    order, _ = split_off(list(range(len(PAIRS))), None, 0)
    arguments = {k: v for k, v in TRAINING.items() if k != "dtype"}
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = LLAMA_LIKE
    stock = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32),
        args=DPOConfig(
            **arguments | {"learning_rate": 1.0e-4, "save_strategy": "no"},
            output_dir=str(tmp_path / "stock"),
            loss_type="apo_zero",
            beta=0.1,
            precompute_ref_log_probs=True,
            max_steps=4,
            report_to="none",
        ),
        train_dataset=Dataset.from_list([PAIRS[i] for i in order]),
        processing_class=tokenizer,
    )
    stock.train()
    ours = [r["loss"] for r in log_of(folder) if "loss" in r]
    theirs = [r["loss"] for r in stock.state.log_history if "loss" in r]
    assert ours == pytest.approx(theirs, rel=1e-5)
    weights = state_dict(folder / "1")
    for name, tensor in stock.model.state_dict().items():
        if name in weights:
            torch.testing.assert_close(weights[name], tensor, atol=1e-5, rtol=1e-4)


def test_pairs_that_teach_nothing_are_rejected_with_the_reason(apo_recipe, write_rows):
    path, folder = apo_recipe(max_steps=1, max_reject_share=0.5)
    long = preference("word " * 200, "a", "b")
    write_rows("pairs.jsonl", [*PAIRS, preference("Q", "same", "same"), long, {"chosen": "a"}])
    run_ok("-m", "apo", "--config", path, "--member", "1")
    rejects = [json.loads(line) for line in (folder.parent / "prepared" / "apo-rejects.jsonl").read_text().splitlines()]
    reasons = [r["reason"] for r in rejects]
    (dropped,) = (json.loads(file.read_text()) for file in folder.parent.glob("prepared/apo-*/dropped.jsonl"))
    assert reasons[0] == "fields chosen, rejected: expected two answers, got the same one twice; leave the row out"
    assert "expected a prompt shorter than max_length 64, got" in dropped["reason"]
    told = "map a column to it with rename, or leave the row out"
    assert reasons[1] == f"field rejected: expected a value, got a row with chosen; {told}"


FAULTY = {
    "an empty prompt": (
        {"prompt": "", "chosen": "good", "rejected": "bad"},
        "field prompt[0].content: expected words, got a user turn",
    ),
    "an empty answer": ({"prompt": "Q", "chosen": "", "rejected": "bad"}, "chosen"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_pairs_without_tokens_are_rejected_with_the_reason(packed_recipe, write_rows, name):
    row, reason = FAULTY[name]
    bare = (
        "{%- for m in messages -%}{{- m.content -}}"
        "{%- if m.role == 'assistant' -%}{{- '<|im_end|>' -}}{%- endif -%}{%- endfor -%}"
    )
    path, folder = packed_recipe(max_steps=1, max_reject_share=0.5, pairs=4, chat_template=bare)
    write_rows("run.jsonl", [*({"prompt": f"Q {n}", "chosen": f"good {n}", "rejected": "bad"} for n in range(4)), row])
    train_members(path)
    (line,) = (folder.parent / "prepared" / "apo-rejects.jsonl").read_text().splitlines()
    assert reason in json.loads(line)["reason"]


def test_the_published_recipe_file_trains_with_model_and_data_paths_changed(tiny_model, write_rows, tmp_path):
    rows = write_rows("pairs.jsonl", PAIRS)
    words = [
        "--model_name_or_path",
        tiny_model,
        "--output_dir",
        tmp_path / "apo",
        "--max_steps",
        "1",
        "--max_length",
        "128",
    ]
    for number in (0, 1):
        words += [
            f"--dataset_mixture.datasets.{number}.id",
            rows,
            f"--dataset_mixture.datasets.{number}.split",
            "train",
        ]
    output = run_ok("-m", "apo", "--config", ROOT / "tests" / "handbook" / "apo.yaml", *words)
    assert "padding_free is dropped" in output
    assert (tmp_path / "apo" / "1" / "model.safetensors").is_file()
