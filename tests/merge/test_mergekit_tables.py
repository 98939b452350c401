"""Models whose tensors are not those of mergekit's table of their architecture."""

import json

import pytest
import torch
from helpers import state_dict
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
)

from apo_soup.config.mergekit import MergekitKeys, MergekitOptions
from apo_soup.errors import UserError
from merge.average import plain_linear
from merge.linear import same_as_mergekit, write_average
from merge.loading import model_class
from merge.mergekit_run import run_mergekit
from merge.mergekit_tables import TensorNames, tensor_names

SHAPE = {
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 32,
    "initializer_range": 0.1,
}
VISION = {
    "model_type": "pixtral", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 1, "image_size": 28, "patch_size": 14,
}  # fmt: skip


def with_biases():
    return LlamaForCausalLM(LlamaConfig(**SHAPE, num_key_value_heads=1, attention_bias=True))


def without_masks():
    return GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE))


def with_vision():
    text = MistralConfig(**SHAPE, num_key_value_heads=1, head_dim=4)
    return Mistral3ForConditionalGeneration(Mistral3Config(text_config=text, vision_config=VISION))


def saved(make, tmp_path):
    """Three models, with values in every tensor, in folders."""
    folders = [tmp_path / str(number) for number in range(3)]
    for number, folder in enumerate(folders):
        torch.manual_seed(number)
        model = make()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(folder)
    return folders


def loaded(folder):
    kind = model_class(json.loads((folder / "config.json").read_text()))
    return kind.from_pretrained(folder).state_dict()


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (with_biases, TensorNames(in_memory=False, table=False)),
        (without_masks, TensorNames(in_memory=True, table=False)),
        (with_vision, TensorNames(in_memory=False, table=True)),
    ],
)
def test_no_tensor_is_lost_and_none_is_asked_for_that_no_model_has(make, names, tmp_path, capsys):
    """The changes of two models from a base, 0.5 and 0.25 of them: base + 0.5 (a - base) + 0.25 (b - base)."""
    base, one, two = saved(make, tmp_path)
    assert tensor_names([base, one, two], "here") == names
    models = [{"model": str(m), "parameters": {"weight": w}} for m, w in ((one, 0.5), (two, 0.25))]
    given = {"merge_method": "task_arithmetic", "base_model": str(base), "dtype": "float32", "models": models}
    run_mergekit(MergekitKeys.model_validate(given), MergekitOptions(), base, tmp_path / "out", "here")
    told = "note: here: mergekit has no table of these models' tensors"
    assert (told in capsys.readouterr().out) is not names.table
    made, (z, a, b) = loaded(tmp_path / "out"), map(loaded, (base, one, two))
    assert made.keys() == z.keys()
    for name, tensor in made.items():
        torch.testing.assert_close(tensor, z[name] + 0.5 * (a[name] - z[name]) + 0.25 * (b[name] - z[name]))


def test_a_model_of_several_parts_is_averaged_under_the_names_of_its_files(tmp_path):
    one, two, _ = saved(with_vision, tmp_path)
    models = [{"model": str(m), "parameters": {"weight": 0.5}} for m in (one, two)]
    given = {"merge_method": "linear", "dtype": "float32", "models": models}
    average = plain_linear(MergekitKeys.model_validate(given))
    assert same_as_mergekit(average, "here")
    write_average(average, tmp_path / "out", "here")
    a, b, made = (state_dict(folder) for folder in (one, two, tmp_path / "out"))
    assert made.keys() == a.keys()
    assert any(name.startswith("language_model.model.layers.1.") for name in made)
    for name, tensor in made.items():
        torch.testing.assert_close(tensor, (a[name] + b[name]) / 2)


def test_a_model_with_its_own_code_and_other_tensors_is_refused(tmp_path, monkeypatch):
    folders = saved(with_biases, tmp_path)
    monkeypatch.setattr("merge.mergekit_tables.model_class", lambda config: None)
    with pytest.raises(UserError, match=r"here: .*/0: expected tensors that mergekit's table .* with its own code"):
        tensor_names(folders, "here")
