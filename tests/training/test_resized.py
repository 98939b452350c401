"""Embeddings with more rows: the old ones bit for bit, the new ones the mean."""

import pytest
import torch
from helpers import TINY_SHAPE
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PhiConfig, PhiForCausalLM, SmolLM3Config, SmolLM3ForCausalLM

from apo_soup.training.resized import add_rows, mean_row


def smollm3(tied, dtype=torch.float32):
    torch.manual_seed(0)
    config = SmolLM3Config(**TINY_SHAPE, vocab_size=100, pad_token_id=0, bos_token_id=None, eos_token_id=1)
    config.tie_word_embeddings = tied
    return SmolLM3ForCausalLM(config).to(dtype)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_new_rows_are_the_mean_and_old_ones_stay(tied, dtype):
    model = smollm3(tied, dtype)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert add_rows(model, 103) == (100, 103)
    after = model.state_dict()
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        assert tensor.dtype == dtype
        assert torch.equal(tensor[: len(before[name])], before[name])
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            assert tensor.shape == (103, 32)
            mean = before[name].float().mean(0)
            torch.testing.assert_close(tensor[100].float(), mean.to(dtype).float(), atol=1e-7, rtol=1e-2)
            assert torch.equal(tensor[100], mean_row(before[name]).to(dtype))
            assert torch.equal(tensor[100:], tensor[100].expand(3, 32))
    assert model.config.vocab_size == 103
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert tied or not torch.equal(after["lm_head.weight"][100], after["model.embed_tokens.weight"][100])


def test_the_same_model_gives_the_same_bytes_whatever_the_seed():
    models = []
    for seed in (1, 2):
        models.append(smollm3(False))
        torch.manual_seed(seed)
        add_rows(models[-1], 101, 64)
    assert models[0].config.vocab_size == 128
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_nothing_is_cut_off():
    model = smollm3(True)
    assert add_rows(model, 7) == (100, 100)
    assert model.config.vocab_size == 100


def test_a_heads_bias_grows_too():
    torch.manual_seed(0)
    model = PhiForCausalLM(PhiConfig(vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                     num_attention_heads=2))  # fmt: skip
    torch.nn.init.normal_(model.lm_head.bias)
    bias = model.lm_head.bias.detach().clone()
    add_rows(model, 53)
    assert torch.equal(model.lm_head.bias[:50], bias)
    torch.testing.assert_close(model.lm_head.bias[50:], bias.mean().expand(3))


def test_embeddings_of_another_name_are_found():
    model = GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                             num_attention_heads=2))  # fmt: skip
    add_rows(model, 53)
    assert model.lm_head.weight.shape == model.gpt_neox.embed_in.weight.shape == (53, 16)
    torch.testing.assert_close(model.lm_head.weight[52], model.lm_head.weight[:50].mean(0))


def test_the_mean_is_that_of_float64_over_more_than_a_block():
    rows = torch.randn(20_000, 3)
    torch.testing.assert_close(mean_row(rows), rows.double().mean(0).float(), rtol=0, atol=1e-9)
