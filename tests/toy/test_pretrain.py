"""The base model's curriculum, learning rate and initialisation."""

import subprocess
import sys

import pytest
import torch
from helpers import ROOT
from safetensors.torch import load_file
from transformers import SmolLM3ForCausalLM

from apo_soup.config.base_model import BaseModelFile
from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.toy.pretrain import (
    batches,
    first_weights,
    learning_rate_at,
    mimetic_init,
    model_config,
    pretrain,
    save_base,
)

BASE = ROOT / "recipes" / "tiny" / "base.yaml"


@pytest.fixture
def config() -> BaseModelFile:
    """The shipped settings, over ten short steps."""
    words = ["--warmup_steps", "2", "--decay_share", "0.5", "--learning_rate", "1.0"]
    phase = "[{length: 48, rows: 2, steps: 10, echo: 0.3, other: 0.0, notes: 5, filler: false}]"
    return load(BASE, "base", [*words, "--phases", phase])


def test_the_learning_rate_warms_up_stays_and_decays(config):
    rates = [round(learning_rate_at(config, step), 3) for step in range(10)]
    assert rates == [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]


def test_a_base_goes_on_from_another_at_a_later_stretch(config, tokenizer, tmp_path):
    save_base(first_weights(config, tokenizer), tokenizer, tmp_path / "first")
    words = ["--start", str(tmp_path / "first"), "--first_phase", "6", "--warmup_steps", "20", "--decay_share", "0"]
    later = load(BASE, "base", words)
    rates = [learning_rate_at(later, step) for step in (0, 19, 99, 100)]
    assert (later.steps, rates) == (125, [4e-4 / 20, 4e-4, 4e-4, 2e-4])
    weights, stored = first_weights(later, tokenizer).state_dict(), load_file(tmp_path / "first" / "model.safetensors")
    assert all(torch.equal(weights[name], weight.float()) for name, weight in stored.items())
    later.start = str(tmp_path / "none")
    with pytest.raises(UserError, match="start: expected a folder with a base of this file's architecture"):
        first_weights(later, tokenizer)
    with pytest.raises(UserError, match="first_phase: expected at most 8, as many as phases, got 9"):
        load(BASE, "base", ["--first_phase", "9"])


def test_a_batch_is_whole_rows_and_every_label_is_its_token(config, tokenizer):
    ids, labels = next(batches(config, tokenizer))
    assert ids.shape == labels.shape == (2, 48)
    trained = labels != -100
    assert 0 < trained.sum() < trained.numel()
    assert torch.equal(ids[trained], labels[trained])
    assert not trained[:, 0].any(), "nothing foretells the first token"


def test_heads_lean_on_their_own_keys_and_values(config, tokenizer):
    torch.manual_seed(0)
    model = SmolLM3ForCausalLM(model_config(config, tokenizer))
    attention = model.model.layers[0].self_attn
    own = attention.q_proj.weight[: attention.head_dim].clone()
    mimetic_init(model, strength=0.7)
    expected = 0.7 * attention.k_proj.weight[: attention.head_dim] + 0.3 * own
    torch.testing.assert_close(attention.q_proj.weight[: attention.head_dim], expected)


def test_a_base_is_put_into_its_folder_whole_and_what_else_lies_there_stays(config, tokenizer, tmp_path):
    folder = tmp_path / "base"
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text("a page")
    save_base(SmolLM3ForCausalLM(model_config(config, tokenizer)), tokenizer, folder)
    assert (folder / "README.md").read_text() == "a page"
    assert (folder / "model.safetensors").is_file()
    assert [file.name for file in tmp_path.iterdir()] == ["base"]


def test_a_tokenizer_that_cannot_be_loaded_is_one_sentence(config, tmp_path):
    config.tokenizer, config.output_dir = str(tmp_path / "none"), str(tmp_path / "base")
    with pytest.raises(UserError, match=r"base.yaml:\d+: tokenizer: expected the folder of a tokenizer, got /.*/none,"):
        pretrain(config)
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"base.yaml:\d+: tokenizer: expected a model with a tokenizer, got /.*/none,"):
        pretrain(config)


def test_words_that_make_no_tokenizer_are_one_sentence():
    result = subprocess.run([sys.executable, "-m", "apo_soup.toy.tokenizer"], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (
        2,
        "error: python -m apo_soup.toy.tokenizer: expected words that it takes, got a refusal: the following arguments "
        "are required: FOLDER; see its --help\n",
    )
