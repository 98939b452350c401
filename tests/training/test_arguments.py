"""TRL's arguments from a recipe, and what this machine changes in them."""

import pytest
import torch
from helpers import TRAINING
from trl import SFTConfig

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.training.arguments import adapters, machine_overrides, trl_arguments


@pytest.fixture
def sft_file(write_rows, write_recipe, tmp_path):
    """A checked sft file; keyword arguments are its keys beside the required ones."""

    def make(**keys):
        rows = write_rows("rows.jsonl", [])
        required = {
            "model_name_or_path": "runs/x/base",
            "output_dir": str(tmp_path / "sft"),
            "dataset_mixture": {"datasets": [{"id": str(rows)}]},
        }
        return load(write_recipe("sft.yaml", required | keys), "sft")

    return make


@pytest.mark.parametrize(
    ("given", "taken"),
    [(["q_proj"], ["q_proj"]), (["all-linear"], "all-linear"), ([r".*\.[qv]_proj"], r".*\.[qv]_proj")],
)
def test_the_one_name_of_a_list_of_targets_stays_a_name(sft_file, tmp_path, given, taken):
    recipe = sft_file(use_peft=True, lora_target_modules=given, dtype="bfloat16")
    _, model = trl_arguments(recipe, SFTConfig, tmp_path / "partial")
    assert adapters(model, recipe.path)["peft_config"].target_modules in (taken, set(taken))


@pytest.mark.skipif(torch.accelerator.is_available(), reason="of a machine without an accelerator")
def test_what_is_not_available_here_is_switched_off_and_said(sft_file, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("apo_soup.training.arguments.get_token", lambda: None)
    keys = {"attn_implementation": "flash_attention_2", "report_to": ["codecarbon"], "push_to_hub": True}
    values, notes = machine_overrides(sft_file(**keys))
    expected = {"use_cpu": True, "attn_implementation": "sdpa", "report_to": ["none"], "push_to_hub": False}
    assert values == expected
    assert notes == [
        "attn_implementation: flash_attention_2 is not available here, sdpa is used",
        "report_to: codecarbon is not installed, metrics stay in the run folder (pip install codecarbon)",
        "push_to_hub: no Hub token here, nothing is uploaded",
    ]
    values, notes = machine_overrides(sft_file(use_cpu=False, attn_implementation="sdpa"))
    assert values == {"report_to": ["none"]}
    assert notes == []


@pytest.mark.skipif(torch.accelerator.is_available(), reason="of a machine without an accelerator")
def test_what_a_cpu_has_not_is_left_out_and_said(sft_file):
    keys = {"attn_implementation": "flex_attention", "tf32": True, "activation_offloading": True, "use_cpu": True}
    values, notes = machine_overrides(sft_file(**keys))
    assert values == {
        "attn_implementation": "sdpa", "tf32": None, "activation_offloading": False, "report_to": ["none"],
    }  # fmt: skip
    assert notes == [
        "attn_implementation: flex_attention has no gradients on a CPU, sdpa is used",
        "tf32: there is no accelerator here, the key has no effect",
        "activation_offloading: there is no accelerator here, the key has no effect",
    ]


def test_keys_that_were_not_given_have_the_librarys_defaults(sft_file, tmp_path):
    recipe = sft_file(**{**TRAINING, "learning_rate": 3e-4, "model_init_kwargs": {"rms_norm_eps": 0.5}})
    arguments, model = trl_arguments(recipe, SFTConfig, tmp_path / "partial", assistant_only_loss=False)
    usual = SFTConfig(output_dir="x", use_cpu=True, bf16=False)
    assert arguments.learning_rate == 3e-4
    assert arguments.weight_decay == usual.weight_decay
    assert arguments.output_dir == str(tmp_path / "partial")
    assert arguments.push_to_hub is False
    assert model.dtype == "float32"
    loading = {"dtype": "float32", "attn_implementation": None, "revision": "main", "rms_norm_eps": 0.5}
    assert arguments.model_init_kwargs == loading


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rat": 0.1}}, ":19: .*min_lr_rat"),
        ({"model_init_kwargs": "abc"}, ":18: model_init_kwargs: expected a mapping, got 'abc'"),
    ],
)
def test_what_a_library_refuses_is_a_sentence_with_its_line(sft_file, tmp_path, keys, sentence):
    with pytest.raises(UserError, match=rf"^{tmp_path}/sft.yaml{sentence}"):
        trl_arguments(sft_file(**TRAINING, **keys), SFTConfig, tmp_path / "partial")
