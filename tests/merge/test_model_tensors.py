"""Tied heads that are stored, quantised weights, and models as mergekit sees them."""

import json
import shutil

import pytest
import torch
from helpers import state_dict
from merge_helpers import PAIR, set_config
from safetensors.torch import load_file, save_file

from apo_soup.errors import UserError
from merge.model_tensors import model_tensors
from merge.own_heads import with_own_heads
from merge.views import model_view

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def change(folder, values):
    """Write a folder's tensors anew, with what `values` makes of them."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | values(tensors), file, metadata={"format": "pt"})


@pytest.fixture
def pair(run):
    """The run, with a soup beside mid; mid stores a copy of its tied head."""
    shutil.copytree(run / "apo" / "1", run / "soup")
    change(run / "mid", lambda t: {HEAD: t[EMBEDDING].clone()})
    return run


def test_a_stored_copy_of_a_tied_head_is_left_out_of_any_merge(pair, merge_run):
    tensors = model_tensors(pair / "mid", "here")
    assert HEAD not in tensors
    assert EMBEDDING in tensors
    index = json.loads((model_view(pair / "mid", pair / "views", "here") / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == tensors.keys()
    shutil.rmtree(pair / "soup")
    merge_run(merge=PAIR)
    soup, mid, merged = (state_dict(pair / name) for name in ("soup", "mid", "merged"))
    assert HEAD not in merged
    torch.testing.assert_close(merged[EMBEDDING], 0.9 * soup[EMBEDDING] + 0.1 * mid[EMBEDDING], atol=1e-6, rtol=1e-6)


def test_transformers_is_asked_where_a_configuration_does_not_say(pair):
    settings = json.loads((pair / "mid" / "config.json").read_text())
    del settings["tie_word_embeddings"]
    (pair / "mid" / "config.json").write_text(json.dumps(settings))
    assert HEAD not in model_tensors(pair / "mid", "here")
    set_config(pair / "mid", model_type="llama", architectures=["LlamaForCausalLM"])
    assert HEAD in model_tensors(pair / "mid", "here"), "a Llama's head is its own"


def test_a_tied_head_with_values_of_its_own_is_refused(pair):
    change(pair / "mid", lambda t: {HEAD: t[EMBEDDING] + 1})
    with pytest.raises(UserError) as refused:
        model_tensors(pair / "mid", "here")
    assert str(refused.value) == (
        f"here: {pair}/mid/model.safetensors: tensor lm_head.weight: expected the values of model.embed_tokens.weight, "
        f"to which {pair}/mid/config.json ties it, got others; write tie_word_embeddings: false there if it is a head "
        "of its own, else leave the tensor out"
    )
    change(pair / "soup", lambda t: {HEAD: t[EMBEDDING] + 2})
    set_config(pair / "soup", tie_word_embeddings=False)
    with pytest.raises(UserError, match=r"expected the values of model\.embed_tokens\.weight"):
        with_own_heads([pair / "soup", pair / "mid"], pair / "scratch", "here")
    set_config(pair / "mid", tie_word_embeddings=False)
    assert HEAD in model_tensors(pair / "mid", "here")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (
            lambda f: set_config(f, quantization_config={"quant_method": "gptq", "bits": 4}),
            r"config\.json: quantization_config: expected weights that are not quantised, got gptq; dequantise",
        ),
        (
            lambda f: change(f, lambda t: {"model.layers.1.mlp.up_proj.weight": torch.ones(64, 32, dtype=torch.int8)}),
            r"model\.safetensors: tensor model\.layers\.1\.mlp\.up_proj\.weight: expected floating-point .* got int8",
        ),
        (
            lambda f: change(f, lambda t: {"positions": torch.tensor([int(f.name)])}),
            r"tensor positions: expected the whole numbers of .*, got others, which cannot be averaged",
        ),
    ],
)
def test_codes_of_quantised_weights_are_not_averaged(run, merge_run, harm, told):
    for number in "123":
        harm(run / "apo" / number)
    with pytest.raises(UserError, match=told):
        merge_run()
    assert not (run / "soup").exists()


def test_mergekit_sees_the_file_that_transformers_reads(pair):
    """A whole file stands before an index of an older save."""
    older = dict.fromkeys(load_file(pair / "mid" / "model.safetensors"), "model-00001-of-00001.safetensors")
    save_file({name: torch.zeros(1) for name in older}, pair / "mid" / "model-00001-of-00001.safetensors")
    (pair / "mid" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": older}))
    view = model_view(pair / "mid", pair / "views", "here")
    assert (view / "model-00001-of-00001.safetensors").resolve() == (pair / "mid" / "model.safetensors").resolve()
    shutil.copytree(pair / "mid", pair / "mid+more@v1")
    assert model_view(pair / "mid+more@v1", pair / "views", "here").name.startswith("mid-more-v1-")
    assert (view / "config.json").read_text() == (pair / "mid" / "config.json").read_text()


def test_buffers_that_a_model_works_out_for_itself_are_no_tensors_of_it(run, merge_run):
    """Llama 2's own files hold them, and a model that was trained from it since does not."""
    file = run / "apo" / "2" / "model.safetensors"
    buffers = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
        "h.0.attn.bias": torch.ones(1, 1, 8, 8, dtype=torch.uint8),
        "h.0.attn.masked_bias": torch.tensor(-1e4),
    }
    save_file(load_file(file) | buffers, file, metadata={"format": "pt"})
    assert not model_tensors(run / "apo" / "2", "").keys() & buffers.keys()
    merge_run()
    assert state_dict(run / "merged").keys() == state_dict(run / "mid").keys()
    bias = {"h.0.attn.bias": torch.ones(8)}
    save_file(load_file(file) | bias, file, metadata={"format": "pt"})
    assert bias.keys() <= model_tensors(run / "apo" / "2", "").keys()
