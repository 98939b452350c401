# ruff: noqa: E501 - the sentences are long
"""Keys of adapters: what they say together, and what `use_peft: true` alone means."""

import re

import pytest

from apo_soup.config.adapter_keys import lora_targets
from apo_soup.config.load import load
from apo_soup.config.members import member_recipes
from apo_soup.errors import UserError

FILE = {"model_name_or_path": "m", "output_dir": "o", "dataset_mixture": {"datasets": [{"id": "a.jsonl"}]}}
LORA = {"use_peft": True}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, "all-linear"),
        ({"lora_target_modules": None}, "all-linear"),
        ({"lora_target_modules": "all-linear"}, "all-linear"),
        ({"lora_target_modules": ["all-linear"]}, "all-linear"),
        ({"lora_target_modules": "q_proj"}, ["q_proj"]),
        ({"lora_target_modules": ["q_proj"]}, ["q_proj"]),
        ({"lora_target_modules": ["layers.1.mlp.up_proj"]}, ["layers.1.mlp.up_proj"]),
        ({"lora_target_modules": [r".*q_proj"]}, r".*q_proj"),
        ({"lora_target_modules": ["q_proj", "v_proj"]}, ["q_proj", "v_proj"]),
        ({"lora_target_parameters": ["experts.gate_up_proj"], "lora_dropout": 0}, None),
        ({"lora_modules_to_save": ["norm"]}, "all-linear"),
    ],
)
@pytest.mark.parametrize("kind", ["sft", "apo"])
def test_the_layers_that_an_adapter_changes(write_recipe, kind, given, meant):
    assert lora_targets(load(write_recipe(f"{kind}.yaml", FILE | LORA | given), kind)) == meant


def test_use_peft_alone_is_told_once(write_recipe):
    path = write_recipe("apo.yaml", FILE | LORA | {"members": [{"seed": 1}, {"seed": 2, "lora_r": 4}]})
    recipe = load(path, "apo")
    told = f"{path}:6: use_peft: no lora_target_modules is given, so all linear layers are adapted but the head (all-linear)"
    assert recipe.notes == [told]
    assert [member.notes for member in member_recipes(recipe)] == [[], []]
    assert load(path, "apo", ["--lora_target_modules", "[q_proj]"]).notes == []
    own = load(write_recipe("apo.yaml", FILE | {"members": [{"seed": 1}, LORA]}), "apo")
    assert [len(r.notes) for r in (own, *member_recipes(own))] == [0, 0, 1]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"lora_r": 8}, "lora_r: expected use_peft: true beside it, without which all weights are trained and no adapter, got none; write it, or leave the key out"),
        ({"use_dora": True}, "use_dora: expected use_peft: true beside it"),
        ({"load_in_4bit": True}, "load_in_4bit: expected use_peft: true beside it, for weights of few bits cannot be trained, got none; write it, or leave the key out"),
        ({"load_in_8bit": True, "use_peft": False}, "load_in_8bit: expected use_peft: true beside it"),
        (LORA | {"load_in_4bit": True, "load_in_8bit": True}, "load_in_8bit: expected one of load_in_4bit and load_in_8bit, got both; keep one"),
        (LORA | {"bnb_4bit_quant_type": "fp4"}, "bnb_4bit_quant_type: expected load_in_4bit: true beside it, got none; write it, or leave the key out"),
        (LORA | {"use_bnb_nested_quant": True, "load_in_8bit": True}, "use_bnb_nested_quant: expected load_in_4bit: true beside it"),
        (LORA | {"lora_target_parameters": ["experts.gate_up_proj"]}, "lora_target_parameters: expected lora_dropout: 0 beside it, which peft cannot do to parameters, got 0.05; write it"),
        (LORA | {"lora_target_modules": ["q_proj", "lm_head"]}, "lora_target_modules.1: expected layers below the head, got lm_head: the loss reads the head's own weight, so that an adapter on it would never be trained; leave it out, or train the whole head with lora_modules_to_save"),
        (LORA | {"lora_target_modules": "embed_out"}, "lora_target_modules.0: expected layers below the head, got embed_out"),
        (LORA | {"lora_target_modules": ".*"}, r"lora_target_modules: expected layers below the head, got a pattern that lm_head matches: the loss reads the head's own weight, so that an adapter on it would never be trained; narrow it, as .*\.layers\..*_proj does"),
        (LORA | {"lora_target_modules": ["("]}, "lora_target_modules: expected names of layers, or a pattern of them, got '(': missing ), unterminated subpattern at position 0; correct it"),
        (LORA | {"lora_target_modules": ["q_proj", "q_proj"]}, "lora_target_modules.1: expected every layer once, got q_proj again; list it once"),
        (LORA | {"lora_target_modules": ["all-linear", "embed_tokens"]}, "lora_target_modules.0: expected all-linear alone, got it beside other layers; keep one of the two"),
    ],
)  # fmt: skip
def test_what_would_train_something_else_is_refused(write_recipe, given, told):
    path = write_recipe("sft.yaml", FILE | given)
    with pytest.raises(UserError, match=re.escape(told)):
        load(path, "sft")


def test_values_that_trl_has_by_itself_say_nothing(write_recipe):
    """Recipes of QLoRA write them all down, and keep them where they are tried with eight bits."""
    beside = {"load_in_8bit": True, "bnb_4bit_quant_type": "nf4", "use_bnb_nested_quant": False}
    assert load(write_recipe("sft.yaml", FILE | LORA | beside), "sft").load_in_8bit


def test_an_adapter_that_is_switched_off_is_told(write_recipe):
    path = write_recipe("sft.yaml", FILE | LORA | {"lora_r": 4})
    (note,) = load(path, "sft", ["--use_peft", "false"]).notes
    assert note.endswith("use_peft: no adapter, so all weights are trained and lora_r not read")
