"""Which tokens may be drawn, and how often they are."""

import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from apo_soup.models.completion import Sampling
from apo_soup.models.drawing import answer_random, answer_seed, next_tokens


@pytest.mark.parametrize(
    "settings", [{"top_k": 5}, {"top_p": 0.7}, {"min_p": 0.1}, {"top_k": 9, "top_p": 0.8, "min_p": 0.05}]
)
def test_tokens_are_drawn_from_the_distribution_of_transformers(settings):
    logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(1)) * 2
    warpers = LogitsProcessorList([TemperatureLogitsWarper(0.8)])
    warpers += [TopKLogitsWarper(settings["top_k"])] if "top_k" in settings else []
    warpers += [TopPLogitsWarper(settings["top_p"])] if "top_p" in settings else []
    warpers += [MinPLogitsWarper(settings["min_p"])] if "min_p" in settings else []
    expected = warpers(None, logits).softmax(-1)[0]
    count = 20_000
    even = [(n + 0.5) / count for n in range(count)]
    found = next_tokens(logits.expand(count, -1), Sampling(1, 0.8, **settings), even)
    shares = torch.bincount(found, minlength=40) / count
    torch.testing.assert_close(shares, expected, atol=2e-4, rtol=0)


def test_the_largest_draw_takes_a_token_that_may_be_drawn():
    logits = torch.tensor([[0.0, 1.0, -1.0]])
    assert next_tokens(logits, Sampling(1, 1.0, top_k=2), [1 - 2**-53]).tolist() == [0]
    assert next_tokens(logits, Sampling(1)).tolist() == [1]


def test_random_numbers_are_of_seed_and_place():
    one, two, again = answer_random(1, 11), answer_random(11, 1), answer_random(1, 11)
    first = one.random()
    assert first == again.random()
    assert first != two.random()


def test_another_seed_shares_no_answers_seed():
    """Two seeds side by side would otherwise draw all but one of an item's answers alike."""
    first, second = ({answer_seed(seed, number) for number in range(500)} for seed in (0, 1))
    assert len(first) == len(second) == 500
    assert not first & second
    assert all(0 <= seed < 2**31 for seed in first)
