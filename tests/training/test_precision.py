"""Weights are trained in float32 and saved in the recipe's type; who trains them in less is told what stands still."""

import json
from pathlib import Path

import pytest
import torch
from helpers import TRAINING, chat, state_dict
from safetensors.torch import load_file, save_file

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.training.arguments import machine_overrides, trl_arguments
from apo_soup.training.entry import training_stage
from apo_soup.training.precision import Precision, cast_folder, precision, raise_masters, stored_dtype
from sft.train import train_model

ROWS = [chat(f"What is {a} + {b}?", f"{a + b}", False) for a in range(5) for b in range(5)]
SMALL_STEPS = {"bf16": True, "learning_rate": 1e-6, "lr_scheduler_type": "constant", "max_steps": 2, "save_steps": 1}


@pytest.fixture
def trained(write_rows, write_recipe, tiny_model, tmp_path, capfd):
    """Train; gives what was printed, the finished weights, and those of the last checkpoint."""

    def train(**changes):
        sources = {"datasets": [{"id": str(write_rows("rows.jsonl", ROWS))}]}
        folder = tmp_path / "run" / "sft"
        values = TRAINING | {"model_name_or_path": str(tiny_model), "output_dir": str(folder)} | SMALL_STEPS
        recipe = load(write_recipe("sft.yaml", values | {"dataset_mixture": sources, **changes}), "sft")
        stage = training_stage(recipe)
        train_model(recipe, stage)
        return capfd.readouterr().out, state_dict(folder), json.loads((folder / "config.json").read_text())

    return train


def moved(before, after):
    """The share of weights that are not what they were."""
    differ = sum(int((after[name].float() != before[name].float()).sum()) for name in after)
    return differ / sum(values.numel() for values in after.values())


def test_a_small_step_moves_float32_masters_and_the_folder_is_in_the_recipes_type(trained, tiny_model):
    said, weights, config = trained(dtype="bfloat16")
    assert "sft: trained weights and optimiser in float32, products in bfloat16, saved in bfloat16" in said
    assert {values.dtype for values in weights.values()} == {torch.bfloat16}
    assert config["dtype"] == "bfloat16"
    assert "warning" not in said
    said, weights, _ = trained(dtype="float32")
    assert moved(state_dict(tiny_model), weights) > 0.9


def test_masters_of_bfloat16_are_asked_for_in_so_many_words_and_told(trained):
    said, _, config = trained(dtype="bfloat16", master_dtype="bfloat16")
    assert "sft: trained weights and optimiser in bfloat16, products in bfloat16, saved in bfloat16" in said
    share = float(said.partition("warning: sft: ")[2].partition("% of the weights have moved")[0])
    assert share < 20
    assert config["dtype"] == "bfloat16"


def test_whole_layers_beside_an_adapter_are_trained_in_float32(trained, tiny_model):
    adapter = {"use_peft": True, "lora_r": 2, "lora_target_modules": ["q_proj", "v_proj"]}
    said, weights, config = trained(**adapter, dtype="bfloat16", lora_modules_to_save=["down_proj"])
    told = "sft: trained weights and optimiser in float32, the frozen ones in bfloat16, products in bfloat16, saved in"
    assert f"{told} bfloat16" in said
    assert "warning" not in said, "no layer that is trained is left in bfloat16"
    assert {values.dtype for values in weights.values()} == {torch.bfloat16}
    assert config["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("keys", "adapted", "mixed", "expected"),
    [
        ({}, False, "bf16", Precision("float32", "float32", "bfloat16", "float32")),
        ({"dtype": "auto"}, False, "bf16", Precision("float32", "float32", "bfloat16", "float32")),
        ({"dtype": "float16"}, False, "fp16", Precision("float32", "float32", "float16", "float16")),
        ({"dtype": "bfloat16"}, False, None, Precision("float32", "float32", "float32", "bfloat16")),
        (
            {"model_init_kwargs": {"dtype": "bfloat16"}},
            False,
            None,
            Precision("float32", "float32", "float32", "bfloat16"),
        ),
        ({"dtype": "bfloat16"}, True, "bf16", Precision("bfloat16", "float32", "bfloat16", "bfloat16")),
        ({"dtype": "bfloat16"}, True, None, Precision("bfloat16", "float32", "bfloat16", "bfloat16")),
        ({}, True, "bf16", Precision("float32", "float32", "bfloat16", "float32")),
        ({"dtype": "auto"}, True, "bf16", Precision("float32", "float32", "bfloat16", "float32")),
    ],
)
def test_types_by_recipe(keys, adapted, mixed, expected, write_recipe, tiny_model):
    from transformers import TrainingArguments

    values = {"model_name_or_path": str(tiny_model), "output_dir": "x", "dataset_mixture": {"datasets": [{"id": "r"}]}}
    recipe = load(write_recipe("sft.yaml", values | keys), "sft")
    arguments = TrainingArguments("x", use_cpu=True, bf16=mixed == "bf16", fp16=False)
    arguments.fp16 = mixed == "fp16"
    assert precision(recipe, arguments, adapted) == expected


@pytest.mark.parametrize(
    ("keys", "launched", "taken", "told"),
    [
        ({"bf16": False}, "bf16", "no", "bf16 is not taken, for the recipe asks for no; write bf16: true to have it"),
        (
            {"bf16": False, "fp16": False},
            "fp16",
            "no",
            "fp16 is not taken, for the recipe asks for no; write fp16: true",
        ),
        ({"bf16": False}, "fp8", "fp8", "fp8 is taken, which no key names"),
        ({"bf16": False}, "no", "no", None),
        ({}, "bf16", "bf16", None),
        ({}, "fp16", "bf16", "fp16 is not taken, for the recipe asks for bf16; write fp16: true to have it"),
        ({"bf16": True}, "fp8", "bf16", "fp8 is not taken, for the recipe asks for bf16"),
        ({"bf16": True}, "no", "bf16", None),
    ],
)
def test_the_recipe_decides_and_not_its_launcher(keys, launched, taken, told, write_recipe, tiny_model, monkeypatch):
    from trl import SFTConfig

    values = {"model_name_or_path": str(tiny_model), "output_dir": "x", "dataset_mixture": {"datasets": [{"id": "r"}]}}
    recipe = load(write_recipe("sft.yaml", values | keys), "sft")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    notes = [note for note in machine_overrides(recipe)[1] if "mixed precision" in note]
    assert notes == [] if told is None else told in notes[0]
    arguments, _ = trl_arguments(recipe, SFTConfig, Path("x"))
    assert (arguments.mixed_precision, arguments.bf16) == (taken, taken == "bf16")


def test_only_trained_weights_of_a_lower_type_are_raised():
    layers = [torch.nn.Linear(2, 2, dtype=dtype) for dtype in (torch.bfloat16, torch.float64, torch.bfloat16)]
    layers[2].requires_grad_(False)
    raise_masters(torch.nn.ModuleList(layers), "float32")
    assert [layer.weight.dtype for layer in layers] == [torch.float32, torch.float64, torch.bfloat16]


def test_a_folder_is_cast_file_by_file_with_its_index(tmp_path):
    save_file(
        {"a": torch.ones(3), "n": torch.ones(2, dtype=torch.int64)}, tmp_path / "model-1.safetensors", {"format": "pt"}
    )
    save_file({"b": torch.ones(4)}, tmp_path / "model-2.safetensors", {"format": "pt"})
    (tmp_path / "model.safetensors.index.json").write_text('{"metadata": {"total_size": 44}, "weight_map": {}}')
    (tmp_path / "config.json").write_text('{"torch_dtype": "float32", "x": 1}')
    cast_folder(tmp_path, "bfloat16")
    found = load_file(tmp_path / "model-1.safetensors") | load_file(tmp_path / "model-2.safetensors")
    assert {name: values.dtype for name, values in found.items()} == {
        "a": torch.bfloat16,
        "b": torch.bfloat16,
        "n": torch.int64,
    }
    assert json.loads((tmp_path / "model.safetensors.index.json").read_text())["metadata"]["total_size"] == 30
    assert json.loads((tmp_path / "config.json").read_text()) == {"dtype": "bfloat16", "x": 1}
    assert sorted(file.name for file in tmp_path.iterdir())[0] == "config.json", "no partial file is left"


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"model_type": "nobody"}, "config.json: model_type: expected a kind that transformers"),
        ({"model_type": "llama", "num_hidden_layers": "x"}, "expected a model that transformers loads, got a refusal"),
        ({}, "config.json: model_type: expected the kind of a model, such as llama, got none"),
    ],
)
def test_a_configuration_that_transformers_cannot_read_is_a_sentence(write_recipe, tmp_path, config, told):
    (tmp_path / "config.json").write_text(json.dumps(config))
    keys = TRAINING | {"model_name_or_path": str(tmp_path), "output_dir": "run/sft"}
    recipe = load(write_recipe("sft.yaml", keys | {"dataset_mixture": {"datasets": [{"id": "owner/rows"}]}}), "sft")
    with pytest.raises(UserError, match=f"model_name_or_path: (.*){told}"):
        stored_dtype(recipe)
