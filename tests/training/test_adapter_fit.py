"""Layers that an adapter names and its model does not have, told before rows are read."""

import pytest

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.training.adapter_fit import check_adapter_fits
from apo_soup.training.arguments import adapters, trl_arguments

CASES = {
    (
        "q_proj",
        "v_prj",
    ): "lora_target_modules.1: expected a layer of .*, got v_prj, which it has not; the nearest is v_pro",
    (
        "layers.7.mlp.up_proj",
    ): "lora_target_modules.0: expected a layer of .*, got layers.7.mlp.up_proj, which it has not",
    (
        "norm",
    ): "lora_target_modules: expected layers of .* that peft can adapt, got a refusal: Target module SmolLM3RMS",
    ("mlp",): "lora_target_modules: expected layers of .* that peft can adapt",
    (
        ".*zzz",
    ): r"lora_target_modules: expected a pattern of whole paths .*, got .\.\*zzz., which matches none; name layers",
}


@pytest.fixture
def fits(write_recipe, tiny_model, tmp_path):
    """Checks the keys of an adapter on the tiny model."""

    def check(**keys):
        from trl import SFTConfig

        file = {
            "model_name_or_path": str(tiny_model),
            "output_dir": "o",
            "dataset_mixture": {"datasets": [{"id": "a.jsonl"}]},
        }
        recipe = load(write_recipe("sft.yaml", file | {"use_peft": True, "use_cpu": True, "bf16": False} | keys), "sft")
        _, model = trl_arguments(recipe, SFTConfig, tmp_path)
        check_adapter_fits(adapters(model, recipe.path)["peft_config"], recipe)

    return check


@pytest.mark.parametrize("targets", CASES)
def test_layers_that_cannot_be_adapted_are_refused(fits, targets):
    with pytest.raises(UserError, match=CASES[targets]):
        fits(lora_target_modules=list(targets))


def test_other_keys_that_name_layers(fits):
    with pytest.raises(UserError, match=r"lora_modules_to_save.0: expected a layer of .*, got nrm, .* nearest is norm"):
        fits(lora_modules_to_save=["nrm"])
    with pytest.raises(UserError, match=r"lora_target_parameters.0: expected a layer of .*, got q_proj.wight"):
        fits(lora_target_parameters=["q_proj.wight"], lora_dropout=0)
    fits(lora_modules_to_save=["norm", "lm_head"], lora_target_modules=["self_attn.q_proj", "layers.1.mlp.up_proj"])
    fits(lora_target_parameters=["q_proj.weight"], lora_dropout=0)
    fits()
