"""What training on packed pairs logs and evaluates."""

import json

import pytest
import torch
from apo_helpers import facts, logged, train_members
from helpers import state_dict


def test_cut_pairs_are_told(packed_recipe):
    """12 steps of 2 pairs: the shares logged come to the pairs that lack an end of turn, `<|im_end|>` with id 2."""
    from datasets import load_from_disk

    path, folder = packed_recipe(max_length=60, max_steps=12)
    train_members(path)
    (prepared,) = folder.parent.glob("prepared/apo-*/train")
    pairs = load_from_disk(str(prepared))
    cut = sum({p["chosen_ids"][-1], p["rejected_ids"][-1]} != {2} for p in pairs)
    assert len(pairs) == 24
    assert 0 < cut < 24
    assert sum(pairs["truncated"]) == cut
    assert sum(logged(folder, "truncated_share")) * 2 == pytest.approx(cut)
    assert json.loads((prepared.parent / "stats.json").read_text())["total"]["cut"] == cut


def test_held_out_pairs_are_scored_as_the_stock_trainer_scores_them(packed_recipe, tmp_path):
    found = {}
    for name, packed in (("packed", None), ("stock", False)):
        rows = {"datasets": [{"id": str(tmp_path / f"{name}.jsonl")}], "seed": 0, "test_split_size": 0.25}
        path, folder = packed_recipe(name, dataset_mixture=rows, packed_pairs=packed, max_steps=3)
        train_members(path)
        found[name] = facts(folder)
    for key in ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen"):
        assert found["packed"][f"eval_{key}"] == pytest.approx(found["stock"][f"eval_{key}"], rel=1e-4, abs=1e-6), key
    assert found["packed"]["eval_lengths/chosen"] > 1


def test_a_fall_of_the_chosen_answers_is_told_once(packed_recipe, capsys):
    path, _ = packed_recipe(loss_type="apo_down", learning_rate=0.05, max_steps=12, lr_scheduler_type="constant")
    train_members(path)
    assert capsys.readouterr().out.count("warning: chosen answers have become") == 1


def test_an_evaluation_while_training_changes_nothing_and_equals_the_stock_trainers(packed_recipe, tmp_path):
    found = {}
    for name, more in (("plain", {}), ("watched", {"eval_strategy": "steps", "eval_steps": 1, "logging_steps": 3}),
                       ("stock", {"eval_strategy": "steps", "eval_steps": 1, "packed_pairs": False})):  # fmt: skip
        rows = {"datasets": [{"id": str(tmp_path / f"{name}.jsonl")}], "seed": 0, "test_split_size": 0.25}
        path, folder = packed_recipe(name, dataset_mixture=rows, max_steps=4, **more)
        train_members(path)
        found[name] = folder
    ends = [state_dict(found[name] / "1") for name in ("plain", "watched")]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
    for key in ("eval_loss", "eval_rewards/margins", "eval_rewards/accuracies"):
        watched, stock = (logged(found[name], key) for name in ("watched", "stock"))
        assert len(watched) >= 4
        assert watched == pytest.approx(stock, rel=1e-4, abs=1e-6), key
    # What is logged every three steps, and at the end, is the mean over their pairs, whatever was evaluated in between.
    steps = logged(found["plain"], "lengths/chosen")
    assert logged(found["watched"], "lengths/chosen") == pytest.approx([sum(steps[:3]) / 3, steps[3]])
    assert facts(found["watched"])["tokens_seen"] == facts(found["plain"])["tokens_seen"] > 0


def test_samples_a_second_count_the_pairs_of_all_ranks(packed_recipe):
    path, folder = packed_recipe(max_steps=-1, num_train_epochs=1)
    train_members(path)
    seen = facts(folder)
    assert seen["train_samples_per_second"] * seen["train_runtime"] == pytest.approx(24, abs=0.1)
