"""The folder that llama.cpp's converter reads, and what is refused before it is asked."""

import json
import shutil

import pytest

from apo_soup.errors import UserError
from apo_soup.export.source_folder import require_convertible, write_source


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A model folder of one's own."""
    return shutil.copytree(tiny_model, tmp_path / "run" / "merged")


def test_tags_are_no_special_tokens_and_weights_are_linked(folder, tmp_path):
    write_source(folder, tmp_path / "source", "TEMPLATE", adds_begin=False)
    added = json.loads((tmp_path / "source" / "tokenizer.json").read_text())["added_tokens"]
    special = {token["content"]: token["special"] for token in added}
    assert special["<|im_end|>"]
    assert not any(special[tag] for tag in ("<think>", "</think>", "<tool_call>", "<code>"))
    assert json.loads((tmp_path / "source" / "tokenizer_config.json").read_text())["add_bos_token"] is False
    assert (tmp_path / "source" / "chat_template.jinja").read_text() == "TEMPLATE"
    weights = tmp_path / "source" / "model.safetensors"
    assert weights.resolve() == (folder / "model.safetensors").resolve()
    assert "<think>" in (folder / "tokenizer.json").read_text(), "the model's own files are as they were"
    own = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    assert next(token["special"] for token in own if token["content"] == "<think>")


def changed(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def test_what_the_converter_would_write_wrongly_is_refused(folder):
    assert require_convertible(folder)["model_type"] == "smollm3"
    changed(folder, no_rope_layers=[1, 0, 1, 0])
    with pytest.raises(
        UserError, match=r"no_rope_layers: expected \[1, 1, 1, 0\], which .*, got \[1, 0, 1, 0\]; serve"
    ):
        require_convertible(folder)
    changed(folder, quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(UserError, match="expected weights of 16 or 32 bits, got bitsandbytes; name"):
        require_convertible(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match="expected a whole model for --gguf, got an adapter; merge it"):
        require_convertible(folder)
