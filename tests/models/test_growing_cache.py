"""A cache that grows in place holds what transformers' own would."""

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from apo_soup.models.growing_cache import growing_cache


def states(cache):
    return [(layer.keys, layer.values) for layer in cache.layers]


def test_growing_keeping_and_joining(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    own, plain = growing_cache(model), DynamicCache(config=model.config)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for width in (5, *[1] * 80):
            ids = torch.randint(5, 500, (3, width), generator=draw)
            for cache in (own, plain):
                model(ids, past_key_values=cache, use_cache=True)
        for (k, v), (k2, v2) in zip(states(own), states(plain), strict=True):
            torch.testing.assert_close((k, v), (k2, v2))
        own.keep_rows(torch.tensor([2, 0, 2]), 4)
        for (k, _), (k2, _) in zip(states(own), states(plain), strict=True):
            torch.testing.assert_close(k, k2[[2, 0, 2], :, 4:])
        other = growing_cache(model)
        model(ids[:2], past_key_values=other, use_cache=True)
        own.join(other)
        assert own.get_seq_length() == 81
        for (k, _), (k2, _) in zip(states(own), states(other), strict=True):
            assert k.shape[0] == 5
            assert k[3:, :, :-1].abs().sum() == 0, "filled up on the left"
            torch.testing.assert_close(k[3:, :, -1:], k2)
