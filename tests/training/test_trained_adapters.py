"""Adapters from training to the merge: the folders are the model that was trained, whatever the adapter changed."""

import json

import pytest
import torch
from adapter_helpers import logits_of, weights_of

# Kind of stage, whether the base ties its head, keys of the adapter, and a tensor that only its change can move.
CASES = {
    "use_peft alone": ("sft", True, {}, "mlp.down_proj"),
    "one entry": ("sft", True, {"lora_target_modules": ["q_proj"]}, "q_proj"),
    "mlp, rslora": ("apo", False, {"lora_target_modules": ["up_proj", "down_proj"], "use_rslora": True}, "up_proj"),
    "dora": ("apo", True, {"use_dora": True}, "q_proj"),
    "embeddings": ("apo", True, {"lora_target_modules": ["embed_tokens", "q_proj"]}, "embed_tokens"),
    "embeddings, dora": ("sft", False, {"lora_target_modules": ["embed_tokens"], "use_dora": True}, "embed_tokens"),
    "whole head": ("sft", True, {"lora_modules_to_save": ["lm_head"]}, "lm_head"),
    "whole head, untied": ("apo", False, {"lora_modules_to_save": ["lm_head"]}, "lm_head"),
    "whole embeddings": ("sft", True, {"lora_modules_to_save": ["embed_tokens", "lm_head"]}, "embed_tokens"),
    "norm": ("sft", False, {"lora_modules_to_save": ["norm"], "lora_target_modules": ["q_proj"]}, "model.norm"),
    "parameters": ("sft", True, {"lora_target_parameters": ["q_proj.weight"]}, "q_proj"),
}


@pytest.mark.parametrize("name", CASES)
def test_adapter_and_merged_folder_are_the_model_that_was_trained(trained, base_of, name):
    kind, tied, keys, moved = CASES[name]
    base = base_of(tied)
    folder, expected = trained(kind, base, **keys)
    torch.testing.assert_close(logits_of(base, folder / "adapter"), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits_of(folder), expected, atol=1e-5, rtol=1e-5)
    before, after = weights_of(base), weights_of(folder)
    changed = {tensor for tensor in after if not torch.equal(before[tensor], after[tensor])}
    assert any(moved in n for n in changed), changed


@pytest.mark.parametrize("name", ["use_peft alone", "dora", "embeddings", "whole head"])
def test_soup_and_merge_of_adapters_are_averages_of_the_trained_models(trained, base_of, write_recipe, tmp_path, name):
    """The second member as its merged folder, and mid a full model that still ties its head."""
    from apo_soup.config.load import load
    from merge.load_process import LoadProcess
    from merge.plan import merge_plan
    from merge.run import run_merge_stage

    base = base_of(True)
    folders = [trained("apo", base, f"run{seed}", **CASES[name][2], seed=seed)[0] for seed in (1, 2)]
    run = tmp_path / "merge"
    soup = {"members": [str(folders[0] / "adapter"), str(folders[1])], "dtype": "float32"}
    models = [{"model": m, "parameters": {"weight": w}} for m, w in (("soup", 0.9), (str(base), 0.1))]
    mix = {"merge_method": "linear", "dtype": "float32", "models": models}
    recipe = load(write_recipe("merge.yaml", {"output_dir": str(run), "soup": soup, "merge": mix}), "merge")
    for stage in ("soup", "merged"):
        run_merge_stage(merge_plan(recipe, stage), recipe, LoadProcess())
    weights = [weights_of(folder) for folder in (*folders, base)]
    for stage, shares in (("soup", (0.5, 0.5, 0)), ("merged", (0.45, 0.45, 0.1))):
        found = weights_of(run / stage)
        for tensor, values in found.items():
            average = sum(share * w[tensor].double() for share, w in zip(shares, weights, strict=True))
            torch.testing.assert_close(values, average.float(), atol=1e-6, rtol=1e-6)
    assert json.loads((run / "merged" / "config.json").read_text())["tie_word_embeddings"] == (
        name in ("use_peft alone", "dora")
    )
