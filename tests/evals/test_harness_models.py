"""Reasoning is taken off what the harness's models say."""

import pytest

from apo_soup.evals.harness.models import has_open_reasoning, without_special_tokens


@pytest.mark.parametrize(
    ("answer", "before", "unfinished"),
    [
        ("<think>so 4", "assistant\n", True),
        ("<think>so</think>4", "assistant\n", False),
        ("so 4", "<think>\n", True),
        ("so</think>4", "<think>\n", False),
        ("4", "</think>\n", False),
    ],
)
def test_an_open_reasoning_is_told_from_an_answer(answer, before, unfinished):
    assert has_open_reasoning(answer, before) is unfinished


def test_special_tokens_are_taken_off_but_the_think_tags(tokenizer):
    assert without_special_tokens("<think>a</think>b<|im_end|><|endoftext|>", tokenizer) == "<think>a</think>b"
