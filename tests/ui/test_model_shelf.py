"""Loaded models: the one that waited longest goes where there is no room."""

import pytest

from apo_soup.errors import UserError
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
