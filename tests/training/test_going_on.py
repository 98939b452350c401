"""An adapter that is trained further: what it begins from, what its reference is, and what it is merged into."""

import json
import re
import shutil

import pytest
import torch
from adapter_helpers import logits_of
from apo_helpers import log_of

from apo_soup.config.load import load
from apo_soup.models.earlier_adapter import earlier_adapter_problem

# PEFT names the tensors of embeddings otherwise than those of layers: TRL's copy of an adapter lacks them.
KINDS = {"layers": {"lora_target_modules": "all-linear"}, "embeddings": {"lora_target_modules": ["embed_tokens"]}}
OWN = {"lora_r": None, "lora_dropout": None}


@pytest.mark.parametrize("name", KINDS)
def test_apo_of_an_adapter_begins_at_the_model_it_was(trained, tiny_model, name, capsys):
    """The reference is the adapter as sft left it: the first step has a margin of 0, packed and stock."""
    before, logits = trained("sft", tiny_model, "before", **KINDS[name])
    shutil.rmtree(before.parent / "prepared")
    losses, told = [], f"adapter: {before / 'adapter'} is trained further, on {tiny_model}"
    for run, keys in (("packed", {}), ("stock", {"packed_pairs": False})):
        folder, expected = trained("apo", before / "adapter", run, **OWN, **keys, precompute_ref_log_probs=True)
        assert told in capsys.readouterr().out
        log = [entry for entry in log_of(folder.parent) if "loss" in entry]
        assert (log[0]["loss"], log[0]["rewards/margins"]) == (1.0, 0.0)
        losses.append([entry["loss"] for entry in log])
        assert (expected - logits).abs().max() > 0.01
        torch.testing.assert_close(logits_of(folder), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(logits_of(tiny_model, folder / "adapter"), expected, atol=1e-5, rtol=1e-5)
        settings = json.loads((folder / "adapter" / "adapter_config.json").read_text())
        assert settings["base_model_name_or_path"] == str(tiny_model)
        assert not (folder / "adapter" / "ref").exists()
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][-1] < 1


def test_sft_goes_on_with_an_adapter_that_has_no_tokenizer_beside_it(trained, tiny_model):
    before, _ = trained("sft", tiny_model, "before")
    for file in (before / "adapter").glob("*token*"):
        file.unlink()
    (before / "adapter" / "chat_template.jinja").unlink(missing_ok=True)
    still, expected = trained("sft", before / "adapter", "still", **OWN, learning_rate=1e-50)
    torch.testing.assert_close(expected, logits_of(before), atol=1e-5, rtol=1e-5)
    assert (still / "tokenizer.json").is_file()


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            {"use_peft": None},
            "model_name_or_path: expected use_peft: true beside an adapter, which is then trained furth",
        ),
        ({"lora_r": 8}, "lora_r: expected no such key, since .* is an adapter and goes on with its own, got 8; leave"),
        (
            {"add_tokens": ["<x>"]},
            "add_tokens.0: expected no new tokens, since .* is an adapter on a base without them",
        ),
    ],
)
def test_keys_that_do_not_go_with_an_adapter_are_told(write_recipe, tmp_path, keys, told):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "somewhere"}')
    file = {"model_name_or_path": str(tmp_path / "adapter"), "output_dir": "o", "use_peft": True}
    file |= {"dataset_mixture": {"datasets": [{"id": "a.jsonl"}]}} | keys
    recipe = load(write_recipe("sft.yaml", {k: v for k, v in file.items() if v is not None}), "sft")
    assert re.search(told, earlier_adapter_problem(recipe))
