"""QLoRA on bitsandbytes' CPU backend: what is trained, what is written, and what is said of it."""

import json

import pytest
import torch
from adapter_helpers import logits_of
from transformers import AutoModelForCausalLM, AutoTokenizer

pytest.importorskip("bitsandbytes")


@pytest.mark.parametrize(
    ("kind", "keys", "told", "atol"),
    [
        ("sft", {"load_in_4bit": True, "use_bnb_nested_quant": True}, "4-bit nf4, nested", 1e-5),
        ("apo", {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4", "use_dora": True}, "4-bit fp4", 1e-5),
        # Its products round the activations to 8 bits too.
        ("sft", {"load_in_8bit": True}, "8-bit", 0.2),
    ],
)
def test_an_adapter_is_merged_into_what_it_was_trained_on(trained, tiny_model, capsys, kind, keys, told, atol):
    folder, expected = trained(kind, tiny_model, **keys)
    into = f"the values of its {told} base (28 layers)"
    said = capsys.readouterr().out
    assert f"the frozen base is held in {told}" in said
    assert f"the adapter is merged into {into}" in said
    assert json.loads((folder / "manifest.json").read_text())["metrics"]["merged_into"] == into
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    torch.testing.assert_close(logits_of(folder), expected, atol=atol, rtol=1e-5)
    # On the base as it was before it lost its bits, the adapter makes another model.
    off = (logits_of(tiny_model, folder / "adapter") - expected).abs().max()
    assert off > 0.01


def test_a_base_that_is_stored_quantised_is_dequantised(trained, tiny_model, tmp_path):
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
    AutoModelForCausalLM.from_pretrained(tiny_model, quantization_config=settings).save_pretrained(tmp_path / "bits")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "bits")
    folder, expected = trained("sft", tmp_path / "bits")
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    torch.testing.assert_close(logits_of(folder), expected, atol=1e-5, rtol=1e-5)
