"""Loaded models: the one that waited longest goes where there is no room."""

import shutil

import pytest
import torch
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


ROOM_ON_HUB = """
from apo_soup.errors import UserError
from apo_soup.ui.chat_models import ChatModel
from apo_soup.ui.model_shelf import ModelShelf
try:
    ModelShelf(lambda: 1000).get(ChatModel("a", "owner/name"))
except UserError as error:
    print(error)
"""


def test_a_model_of_the_hub_takes_room_too(tiny_model, tmp_path):
    """As its configuration tells it, before its weights are fetched."""
    config = {"config.json": (tiny_model / "config.json").read_bytes()}
    size = sum(p.numel() * p.element_size() for p in AutoModelForCausalLM.from_pretrained(tiny_model).parameters())
    with Hub() as hub:
        hub.put("model", "owner/name", config)
        done = python_with_hub(hub, tmp_path, "-c", ROOM_ON_HUB)
    assert done.stdout == (
        f"a: expected {size_text(int(size * 1.25))} of memory for owner/name, got 1.0 kB free; end another program, or "
        "choose a smaller model\n"
    ), done.stderr
