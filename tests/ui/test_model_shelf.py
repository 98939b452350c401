"""Loaded models: the one that waited longest goes where there is no room."""

import json
import shutil

import pytest
import torch
from helpers import TRAINING, chat
from hub import Hub, python_with_hub
from transformers import AutoModelForCausalLM

from apo_soup.errors import UserError
from apo_soup.tables import size_text
from apo_soup.ui.chat_models import ChatModel
from apo_soup.ui.model_shelf import ModelShelf, free_memory


def test_the_oldest_goes_where_there_is_no_room(tiny_model):
    size = (tiny_model / "model.safetensors").stat().st_size
    shelf = ModelShelf(lambda: int(2.6 * size) - len(shelf.names) * size)
    loads = []
    models = {name: ChatModel(name, str(tiny_model)) for name in "abc"}
    for name in ("a", "b", "a", "c", "a", "b"):
        shelf.get(models[name], lambda name=name: loads.append(name))
        assert len(shelf.names) <= 2
        assert shelf.names[-1] == name
    assert loads == ["a", "b", "c", "b"], "a was asked for again before c took the place of b"


def test_a_model_that_no_room_can_be_made_for_is_a_sentence(tiny_model):
    shelf = ModelShelf(lambda: 1000)
    with pytest.raises(UserError, match=r"a: expected .* of memory for .*, got 1.0 kB free; .*choose a smaller model"):
        shelf.get(ChatModel("a", str(tiny_model)))
    assert shelf.names == []
    assert free_memory() > 10_000_000


def test_a_file_that_goes_while_a_model_is_looked_at_is_a_sentence(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "code.py").symlink_to("gone")
    with pytest.raises(UserError, match=r"a: expected .*code\.py, which was there a moment ago, got No such file"):
        ModelShelf().get(ChatModel("a", str(folder)))


def test_an_adapter_answers_and_takes_its_bases_room(tiny_model, tmp_path):
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    get_peft_model(base, LoraConfig(r=2, target_modules="all-linear")).save_pretrained(tmp_path / "adapter")
    for file in tiny_model.glob("*token*"):
        shutil.copy(file, tmp_path / "adapter")
    asked = ChatModel("a", str(tmp_path / "adapter"), "apo-soup")
    size = (tiny_model / "model.safetensors").stat().st_size
    with pytest.raises(UserError, match=r"a: expected .* of memory for"):
        ModelShelf(lambda: size).get(asked)
    assert type(ModelShelf().get(asked).model).__name__ == type(base).__name__


ON_HUB = """
import sys
from apo_soup.errors import UserError
from apo_soup.config.load import load
from apo_soup.models.recipe_tokenizer import recipe_tokenizer
from apo_soup.ui.chat_models import ChatModel
from apo_soup.ui.model_shelf import ModelShelf
from pathlib import Path

def told(what):
    try:
        print(what())
    except UserError as error:
        print(error)

told(lambda: ModelShelf(lambda: 1000).get(ChatModel("a", "owner/name")))
told(lambda: ModelShelf(lambda: 1000).get(ChatModel("b", "owner/lora")))
found = ModelShelf().get(ChatModel("b", "owner/lora", "apo-soup"))
print(type(found.model).__name__, len(found.tokenizer), any("lora_A" in n for n, _ in found.model.named_parameters()))
told(lambda: recipe_tokenizer(load(Path(sys.argv[1]), "sft")))
"""


def test_models_and_adapters_of_the_hub_take_room_and_answer(tiny_model, tokenizer, write_recipe, write_rows, tmp_path):
    """Room as the configuration tells it, before weights are fetched, an adapter's as its base does. An adapter
    that was saved without a tokenizer has its base's; no training begins with one that lies on the Hub.
    """
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    adapter, size = tmp_path / "adapter", sum(p.numel() * p.element_size() for p in base.parameters())
    get_peft_model(base, LoraConfig(r=2, target_modules="all-linear")).save_pretrained(adapter)
    about = json.loads((adapter / "adapter_config.json").read_text()) | {"base_model_name_or_path": str(tiny_model)}
    (adapter / "adapter_config.json").write_text(json.dumps(about))
    values = TRAINING | {"model_name_or_path": "owner/lora", "output_dir": str(tmp_path / "sft"), "packing": False}
    values["dataset_mixture"] = {"datasets": [{"id": str(write_rows("rows.jsonl", [chat("Q", "A", False)]))}]}
    recipe = write_recipe("sft.yaml", values)
    with Hub() as hub:
        hub.put("model", "owner/name", {"config.json": (tiny_model / "config.json").read_bytes()})
        hub.put("model", "owner/lora", {file.name: file.read_bytes() for file in adapter.iterdir()})
        done = python_with_hub(hub, "-c", ON_HUB, recipe)
    small = "got 1.0 kB free; end another program, or choose a smaller model"
    stored = (tiny_model / "model.safetensors").stat().st_size
    way = (
        "expected a whole model, or the folder of an adapter, got owner/lora, which is an adapter of the Hub; fetch it "
        "with `hf download owner/lora --local-dir lora`, and write ./lora and use_peft: true"
    )
    place = f"{recipe}:{1 + list(values).index('model_name_or_path')}: model_name_or_path"
    assert done.stdout.splitlines() == [
        f"a: expected {size_text(int(size * 1.25))} of memory for owner/name, {small}",
        f"b: expected {size_text(int(stored * 1.25))} of memory for owner/lora, {small}",
        f"SmolLM3ForCausalLM {len(tokenizer)} True",
        f"{place}: {way}; or begin with its base, {tiny_model}",
    ], done.stderr
