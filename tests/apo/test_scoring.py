"""Log-probabilities of packed pairs against plain sequences, values and gradients."""

import random

import pytest
import torch
from apo_helpers import tiny_model_of

from apo.packed_pairs import pack_pairs
from apo.scoring import add_scoring, answer_logprobs, tiled_logprobs


@pytest.mark.parametrize("tile", [1, 5, 36, 37, 100])
@pytest.mark.parametrize("biased", [False, True])
def test_tiles_change_neither_values_nor_gradients(tile, biased):
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(*shape, generator=generator) for shape in ((37, 8), (50, 8), (50,))]
    targets = torch.randint(0, 50, (37,), generator=generator)
    found = []
    for tiled in (True, False):
        hidden, weight, bias = (t.clone().requires_grad_() for t in start)
        if tiled:
            values = tiled_logprobs(hidden, weight, bias if biased else None, targets, tile)
        else:
            logits = torch.nn.functional.linear(hidden, weight, bias if biased else None)
            values = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
        (values * torch.linspace(-1, 1, 37)).sum().backward()
        found.append((values.detach(), hidden.grad, weight.grad, bias.grad))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain)


def test_tiles_leave_a_frozen_head_alone_and_follow_autocast():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(50, 8, generator=generator)
    hidden = torch.randn(9, 8, generator=generator).requires_grad_()
    targets = torch.arange(9)
    tiled_logprobs(hidden, weight, None, targets, 4).sum().backward()
    assert weight.grad is None
    whole = hidden.grad.clone()
    hidden.grad, moving = None, weight.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        values = tiled_logprobs(hidden, moving, None, targets, 4)
    assert values.dtype == torch.float32
    values.sum().backward()
    assert hidden.grad.dtype == moving.grad.dtype == torch.float32
    assert not torch.equal(hidden.grad, whole)
    torch.testing.assert_close(hidden.grad, whole, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("kind", ["smollm3", "llama", "qwen3"])
@pytest.mark.parametrize("attention", ["sdpa", "flex_attention"])
def test_log_probabilities_equal_those_of_separate_sequences(kind, attention):
    """Chosen and rejected of three packed pairs; FlexAttention has no backward pass on CPU, its forward is enough."""
    model = tiny_model_of(kind)
    generator = random.Random(1)
    pairs = [
        tuple([generator.randrange(2, 300) for _ in range(n)] for n in lengths)
        for lengths in ((9, 5, 7), (1, 3, 2), (14, 1, 9))
    ]
    alone = []
    with torch.no_grad():
        for prompt, *answers in pairs:
            for answer in answers:
                ids = torch.tensor([[*prompt, *answer]])
                scores = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
                alone.append(scores.gather(1, torch.tensor(answer)[:, None]).sum())
        model.set_attn_implementation(attention)
        add_scoring(model)
        row = pack_pairs(pairs)
        packed = answer_logprobs(model, row, attention)
    assert packed.shape == (3, 2)
    torch.testing.assert_close(packed.flatten(), torch.stack(alone), rtol=1e-5, atol=1e-5)
