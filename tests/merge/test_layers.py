"""Slices: the configuration follows the layers."""

import json

import pytest
from helpers import state_dict
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, Qwen3Config, SmolLM3Config

from apo_soup.config.mergekit import MergekitKeys
from apo_soup.errors import UserError
from merge.layers import check_layers_alike, layer_changes, output_layers

IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def sliced(*parts):
    """A merge of slices, each a list of (folder, first layer, last layer + 1)."""
    slices = [{"sources": [{"model": str(f), "layer_range": [a, b]} for f, a, b in sources]} for sources in parts]
    return MergekitKeys(merge_method="passthrough", slices=slices)


def changes(folder, *ranges):
    layers = output_layers(sliced(*([(folder, a, b)] for a, b in ranges)), "here")
    return layer_changes(layers, folder, "here")


@pytest.fixture
def settings(tmp_path):
    def write(config):
        config.save_pretrained(tmp_path)
        return tmp_path

    return write


def test_entries_a_layer_go_with_their_layers(settings):
    folder = settings(SmolLM3Config(num_hidden_layers=8, no_rope_layer_interval=4, **IDS))
    changed = changes(folder, (0, 2), (5, 8))
    assert changed == {
        "num_hidden_layers": 5,
        "layer_types": ["full_attention"] * 5,
        "no_rope_layers": [1, 1, 1, 1, 0],
    }


def test_what_a_class_works_out_is_written_down(settings):
    """Qwen3 counts the layers before those with a window; doubled layers keep what they were."""
    folder = settings(
        Qwen3Config(num_hidden_layers=4, use_sliding_window=True, sliding_window=16, max_window_layers=2, **IDS)
    )
    kept = json.loads((folder / "config.json").read_text())
    kept.pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(kept))
    changed = changes(folder, (0, 2), (0, 2), (2, 4))
    assert changed["layer_types"] == ["full_attention"] * 4 + ["sliding_attention"] * 2
    assert (changed["num_hidden_layers"], changed["max_window_layers"]) == (6, 4)


def test_numbers_of_layers_are_whole_however_they_are_written(settings):
    """mergekit takes them so."""
    folder = settings(GPT2Config(n_layer=3))
    assert changes(folder, (0, 2.0), ("1", "3")) == {"n_layer": 4}


def test_layers_are_counted_under_the_name_that_the_model_has_for_it(settings):
    assert changes(settings(GPT2Config(n_layer=3)), (0, 3), (0, 3)) == {"n_layer": 6}


def test_layers_that_are_not_there_or_do_not_go_together_are_refused(settings):
    folder = settings(SmolLM3Config(num_hidden_layers=8, no_rope_layer_interval=4, **IDS))
    with pytest.raises(UserError, match=r"slices\.0\.sources\.0\.layer_range: expected layers of .*, which has 8, got"):
        output_layers(sliced([(folder, 4, 9)]), "here")
    with pytest.raises(UserError, match=r"expected as many layers of every model, got 2, 3; correct layer_range"):
        output_layers(sliced([(folder, 0, 2), (folder, 4, 7)]), "here")
    with pytest.raises(UserError, match=r"no_rope_layers: expected layers of one kind together, got layer 2 .* with 1"):
        check_layers_alike(output_layers(sliced([(folder, 0, 3), (folder, 1, 4)]), "here"), "here")


def test_a_merge_of_fewer_layers_is_a_model_of_fewer_layers(run, merge_run):
    slices = [{"sources": [{"model": "mid", "layer_range": list(r)}]} for r in ((0, 1), (3, 4))]
    merge_run(merge={"merge_method": "passthrough", "dtype": "float32", "slices": slices})
    config = AutoConfig.from_pretrained(run / "merged")
    assert (config.num_hidden_layers, config.no_rope_layers) == (2, [1, 0])
    model, found = AutoModelForCausalLM.from_pretrained(run / "merged", output_loading_info=True)
    assert not found["missing_keys"] | found["unexpected_keys"]
    assert model.state_dict()["model.layers.1.mlp.up_proj.weight"].equal(
        state_dict(run / "mid")["model.layers.3.mlp.up_proj.weight"]
    )


def test_slices_of_an_only_module_are_slices(settings):
    folder = settings(SmolLM3Config(num_hidden_layers=8, no_rope_layer_interval=4, **IDS))

    def layers(begin, end):
        part = {"sources": [{"model": str(folder), "layer_range": [begin, end]}]}
        given = {"merge_method": "passthrough", "modules": {"default": {"slices": [part]}}}
        return output_layers(MergekitKeys.model_validate(given), "here")

    changed = layer_changes(layers(2, 5), folder, "here")
    assert (changed["num_hidden_layers"], changed["no_rope_layers"]) == (3, [1, 0, 1])
    with pytest.raises(UserError, match=r"modules\.default\.slices\.0\.sources\.0\.layer_range: expected layers of"):
        layers(2, 9)
