"""A finished stage on the way to the Hub, which is a loopback one."""

import json
import shutil

import huggingface_hub
import pytest
from hub import Hub
from transformers import AutoModelForCausalLM, AutoTokenizer

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.runs.stage import Stage
from apo_soup.training.saving import name_ends, upload


@pytest.fixture
def hub(monkeypatch):
    """A Hub that this process asks; elsewhere tests ask none."""
    with Hub() as served:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", served.url)
        yield served


def test_a_stage_is_sent_with_a_card_and_without_its_manifest(hub, write_recipe, tiny_model, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_model, run / "sft")
    made = {"stage": "sft", "inputs": {}, "config": {}, "command": f"python -m sft --config {tmp_path}/sft.yaml"}
    (run / "sft" / "manifest.json").write_text(json.dumps(made))
    keys = {"model_name_or_path": str(tiny_model), "dataset_mixture": {"datasets": [{"id": "rows.jsonl"}]}}
    keys |= {"output_dir": str(run / "sft"), "hub_model_id": "somebody/mine", "hub_token": "hf_secret"}
    stage, recipe = Stage("sft", run / "sft", {}, {}), load(write_recipe("sft.yaml", keys), "sft")
    template = (run / "sft" / "chat_template.jinja").read_text()
    (run / "sft" / "chat_template.jinja").write_text(f"{{# {run}/x.jinja #}}{template}")
    with pytest.raises(UserError, match="expected a file that names no folder of this machine"):
        upload(stage, recipe)
    assert hub.repositories == {}, "what may not be sent makes no repository"
    (run / "sft" / "chat_template.jinja").write_text(template)
    upload(stage, recipe)
    files = hub.repositories["model", "somebody/mine"]["main"]
    assert files["model.safetensors"] == (tiny_model / "model.safetensors").read_bytes()
    assert "manifest.json" not in files
    assert b"# run: sft" in files["README.md"]
    assert not any(str(tmp_path).encode() in content for content in files.values())
    on_branch = load(write_recipe("sft.yaml", keys | {"hub_revision": "v2"}), "sft")
    hub.repositories["model", "somebody/mine"]["main"] = {}
    upload(stage, on_branch)
    branches = hub.repositories["model", "somebody/mine"]
    assert branches["v2"].keys() == files.keys()
    assert branches["main"] == {}, "a branch is asked for so that the main one stays"


def test_a_saved_model_names_the_templates_end_too(base_like_qwen, tiny_model):
    """Other programs stop by its generation settings alone."""
    for folder, ends in ((base_like_qwen, [0, 2]), (tiny_model, 2)):
        model = AutoModelForCausalLM.from_pretrained(folder)
        name_ends(model, AutoTokenizer.from_pretrained(folder))
        assert model.generation_config.eos_token_id == ends
