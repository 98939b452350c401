"""The LM head by blocks of the vocabulary against the whole of it in float64: values and gradients."""

import pytest
import torch

from apo_soup.models.vocabulary_blocks import (
    BLOCK_LOGITS,
    LEAST_ENTRIES,
    Head,
    block_logprobs,
    block_scores,
    read_tile,
    token_tiles,
    vocabulary_blocks,
)

# Three blocks of the vocabulary for a tile of 7 tokens, of which the last one is not full.
ENTRIES = 2 * (BLOCK_LOGITS // 7) + 11


def head_of(count, entries=ENTRIES, biased=True):
    generator = torch.Generator().manual_seed(0)
    shapes = ((count, 4), (entries, 4), (entries,))
    hidden, weight, bias = (torch.randn(*shape, generator=generator).requires_grad_() for shape in shapes)
    targets = torch.randint(entries, (count,), generator=generator)
    targets[:3] = torch.tensor([0, entries - 1, 2])
    return Head(hidden, weight, bias if biased else None, targets)


def test_blocks_hold_every_entry_once_and_are_none_too_narrow():
    blocks = vocabulary_blocks(7, ENTRIES)
    assert [entry for block in blocks for entry in (block.start, block.stop)][1:-1] == [
        BLOCK_LOGITS // 7, BLOCK_LOGITS // 7, 2 * (BLOCK_LOGITS // 7), 2 * (BLOCK_LOGITS // 7)
    ]  # fmt: skip
    assert (blocks[0].start, blocks[-1].stop) == (0, ENTRIES)
    assert vocabulary_blocks(10**6, 1000)[0].stop == LEAST_ENTRIES
    assert vocabulary_blocks(1, 1000) == [slice(0, 1000)]
    assert token_tiles(10, 4) == [slice(0, 2), slice(2, 6), slice(6, 10)]


@pytest.mark.parametrize(("biased", "uneven"), [(True, True), (False, False)])
def test_values_and_gradients_are_those_of_the_whole(biased, uneven):
    """Of two tiles of tokens, the first of which is computed again for its gradients."""
    head = head_of(10, biased=biased)
    weights = torch.linspace(-1, 1, 10) if uneven else torch.full((10,), 0.3)
    inputs = [head.hidden, head.weight, *([head.bias] if biased else [])]
    logits = torch.nn.functional.linear(*(tensor.double() for tensor in inputs))
    every = logits.log_softmax(1)
    plain = every.gather(1, head.targets[:, None])[:, 0]
    expected = [plain, *torch.autograd.grad((plain * weights).sum(), inputs)]
    entropy = -(every.exp() * every).sum(1)
    found = block_logprobs(head, 7)
    scored, of_scores, is_top1 = block_scores(head, 7)
    for logprobs in (found, scored):
        gradients = torch.autograd.grad((logprobs * weights).sum(), inputs)
        for ours, whole in zip([logprobs, *gradients], expected, strict=True):
            # Sums over 150 000 entries in float32 are off by as much, in whatever order.
            torch.testing.assert_close(ours.double(), whole.double(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(of_scores.double(), entropy, rtol=1e-5, atol=1e-5)
    assert torch.equal(is_top1, logits.argmax(1) == head.targets)


def test_of_equal_logits_in_several_blocks_the_first_is_the_likeliest():
    width = BLOCK_LOGITS // 4
    weight = torch.zeros(3 * width, 1)
    weight[[5, 9, width + 1]] = 2.0
    hits = block_scores(Head(torch.ones(4, 1), weight, None, torch.tensor([5, 9, width + 1, 0])), 4)[2]
    assert hits.tolist() == [True, False, False, False]
    weight[5] = weight[9] = 0.0
    hits = block_scores(Head(torch.ones(4, 1), weight, None, torch.tensor([5, 9, width + 1, 0])), 4)[2]
    assert hits.tolist() == [False, False, True, False]


def test_an_impossible_block_and_a_certain_one_give_finite_values():
    """A block all of whose exponentials are zero beside another's."""
    width = BLOCK_LOGITS // 2
    weight = torch.zeros(2 * width, 1)
    weight[3] = 500.0
    logprobs = block_logprobs(Head(torch.ones(2, 1), weight, None, torch.tensor([3, 2 * width - 1])), 2)
    assert logprobs.tolist() == [0.0, -500.0]


def test_probabilities_are_kept_only_where_they_are_asked_for():
    head = head_of(7)
    with torch.no_grad():
        assert read_tile(head, keeps=False).probabilities == []
        kept = read_tile(head, keeps=True)
    total = sum((p * share[:, None]).sum(1) for p, share in zip(kept.probabilities, kept.shares, strict=True))
    torch.testing.assert_close(total, torch.ones(7))
