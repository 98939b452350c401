"""TRL's training template, found by the tokenizer's own."""

import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import trl

from apo_soup.errors import UserError
from apo_soup.models.tokenizer import TokenizerKeys, load_tokenizer
from apo_soup.models.training_template import training_template

FOLDER = Path(trl.__file__).parent / "chat_templates"


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["qwen3", "gptoss", "deepseekv3", "gemma3"])
def test_a_published_template_has_its_training_template(name):
    assert training_template(text_of(name)) == (name, text_of(f"{name}_training"))


@pytest.mark.parametrize("name", ["qwen3", "gptoss"])
def test_a_training_template_is_its_own(name):
    training = text_of(f"{name}_training")
    found = training_template(training)
    assert found is not None
    assert found[1] == training


@pytest.mark.parametrize("text", ["", "{{ messages }}", text_of("qwen3") + " "])
def test_any_other_text_has_none(text):
    assert training_template(text) is None


def test_the_key_takes_it_with_a_line_that_says_so(tiny_model, tokenizer, tmp_path, capsys):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    own = deepcopy(tokenizer)
    own.chat_template = text_of("qwen3")
    own.save_pretrained(folder)
    loaded = load_tokenizer(str(folder), "r.yaml:1", TokenizerKeys("trl"))
    assert loaded.chat_template == text_of("qwen3_training")
    assert capsys.readouterr().out == f"chat template: TRL's training template qwen3, in place of that of {folder}\n"
    with pytest.raises(UserError, match=r"^r.yaml:1: expected a chat template that TRL has a training"):
        load_tokenizer(str(tiny_model), "r.yaml:1", TokenizerKeys("trl"))
