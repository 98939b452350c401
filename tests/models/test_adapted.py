"""An adapter merged into its base is the model that was trained, tied layers included."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from apo_soup.models.adapted import untied


@pytest.mark.parametrize(
    ("targets", "settings", "tied"),
    [
        (["q_proj"], {}, True),
        (["embed_tokens", "q_proj"], {}, False),
        (["lm_head"], {}, False),
        (["embed_tokens", "lm_head"], {}, False),
        (["embed_tokens"], {"ensure_weight_tying": True}, False),
        (["embed_tokens"], {"use_dora": True}, False),
    ],
)
def test_a_merged_adapter_computes_what_was_trained(tiny_model, tmp_path, targets, settings, tied):
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    torch.manual_seed(0)
    trained = get_peft_model(base, LoraConfig(r=2, target_modules=targets, init_lora_weights=False, **settings)).eval()
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        expected = trained(ids).logits
    trained.save_pretrained(tmp_path / "adapter")
    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    untied(PeftModel.from_pretrained(plain, tmp_path / "adapter")).merge_and_unload().save_pretrained(
        tmp_path / "whole"
    )
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").eval()
    assert whole.config.tie_word_embeddings == tied
    with torch.no_grad():
        torch.testing.assert_close(whole(ids).logits, expected, atol=1e-4, rtol=1e-4)
