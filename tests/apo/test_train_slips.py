"""Mistakes in a recipe of preference training, and options without effect."""

import re

import pytest
from apo_helpers import train_members
from programs import run_ok

from apo_soup.errors import UserError


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"gradient_accumulation_steps": 0},
            "gradient_accumulation_steps: expected a whole number of 1 or more, got 0",
        ),
        (
            {"per_device_train_batch_size": 0},
            "per_device_train_batch_size: expected a whole number of 1 or more, got 0",
        ),
        ({"beta": 0}, "beta: expected a number above 0, got 0"),
        ({"max_steps": 0}, "max_steps: expected a whole number of 1 or more"),
        ({"loss_type": []}, "loss_type: expected one or more of sigmoid, hinge"),
        ({"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rat": 0.1}}, "min_lr_rat"),
        ({"model_init_kwargs": {"rms_norm_epss": 0.1}}, "rms_norm_epss"),
        ({"model_init_kwargs": "abc"}, "model_init_kwargs: expected a mapping, got 'abc'"),
        ({"accelerator_config": {"split_batchs": True}}, "split_batchs"),
        ({"attn_implementation": "sdpaa"}, "attn_implementation: expected one of eager, sdpa"),
        ({"checkpoints": ["abc"]}, "checkpoints.0: expected a step's number"),
    ],
)
def test_a_slip_in_a_recipe_is_told_and_not_traced(packed_recipe, changes, told):
    path, _ = packed_recipe(**{"max_steps": 1} | changes)
    with pytest.raises(UserError, match=re.escape(told)) as raised:
        train_members(path)
    assert str(raised.value).startswith(str(path))


def test_a_metric_that_nothing_measures_is_told(packed_recipe, tmp_path):
    rows = {"datasets": [{"id": str(tmp_path / "run.jsonl")}], "seed": 0, "test_split_size": 0.25}
    path, _ = packed_recipe(dataset_mixture=rows, max_steps=2, eval_strategy="steps", eval_steps=1, save_steps=1,
                            save_strategy="best", metric_for_best_model="eval_losss")  # fmt: skip
    with pytest.raises(UserError, match="eval_losss"):
        train_members(path)


def test_options_without_effect_on_packed_pairs_are_told(packed_recipe, capsys):
    path, _ = packed_recipe(max_steps=1, dataloader_in_order=False, precompute_ref_batch_size=4)
    train_members(path)
    told = capsys.readouterr().out
    assert "dataloader_in_order has no effect on packed pairs" in told
    assert "precompute_ref_batch_size has no effect on packed pairs" in told
    path, _ = packed_recipe(max_steps=1, dataloader_in_order=True, model_init_kwargs={"attn_implementation": "eager"})
    train_members(path, "--seed", "9")
    told = capsys.readouterr().out
    assert "has no effect" not in told
    assert "attn_implementation: packed pairs are run with sdpa, because eager does not take their mask" in told


def test_a_member_alone_tells_what_its_file_was_mapped_to(packed_recipe):
    path, _ = packed_recipe(max_steps=1, members=[{"seed": 1}, {"seed": 2}], max_length=None, max_seq_length=128)
    text = path.read_text().replace("max_length: null\n", "")
    path.write_text(text)
    alone = run_ok("-m", "apo", "--config", path, "--member", "2")
    assert alone.count("max_seq_length is read as max_length") == 1
    both = run_ok("-m", "apo", "--config", path, "--seed", "5")
    assert both.count("max_seq_length is read as max_length") == 1
