"""Attention of packed documents under autocast, where torch's own kernels are slow in bfloat16."""

from types import SimpleNamespace

import torch

from apo_soup.models.document_attention import document_attention, stand_in_mask

LENGTHS = [3, 17, 8]


def test_under_autocast_documents_are_attended_to_in_float32_on_a_cpu():
    """Output and gradients are those of float32 sums, rounded once, which sums in bfloat16 are in few places."""
    torch.manual_seed(0)
    layer = SimpleNamespace(is_causal=True, num_key_value_groups=2, training=False)
    query, key, value = (
        torch.randn(1, heads, sum(LENGTHS), 16, dtype=torch.bfloat16, requires_grad=True) for heads in (4, 2, 2)
    )
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = document_attention(layer, query, key, value, stand_in_mask("cpu"), LENGTHS, scaling=0.25)
    found.float().square().sum().backward()
    expected, gradients = by_hand(query, key, value)
    assert found.dtype == torch.bfloat16
    assert (found == expected.bfloat16()).float().mean() > 0.995
    for tensor, gradient in zip((query, key, value), gradients, strict=True):
        torch.testing.assert_close(tensor.grad, gradient.bfloat16(), rtol=1e-2, atol=1e-6)


def by_hand(*given):
    """In float32, one document after another; and the gradients of the sum of squares of its rounded values."""
    query, key, value = (tensor.detach().float().requires_grad_() for tensor in given)
    pieces, first = [], 0
    for length in LENGTHS:
        q, k, v = (tensor[:, :, first : first + length] for tensor in (query, key, value))
        hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
        scores = (q @ k.repeat_interleave(2, 1).mT * 0.25).masked_fill(hidden, float("-inf"))
        pieces.append(scores.softmax(-1) @ v.repeat_interleave(2, 1))
        first += length
    whole = torch.cat(pieces, 2).transpose(1, 2)
    whole.bfloat16().float().square().sum().backward()
    return whole.detach(), [tensor.grad for tensor in (query, key, value)]
