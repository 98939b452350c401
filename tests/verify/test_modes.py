"""Whether generated text keeps its mode, and where its answer is."""

import pytest

from apo_soup.verify.modes import answer_part, obeys


@pytest.mark.parametrize(
    ("text", "think", "kept"),
    [
        ("<think>\nsteps\n</think>\n4", True, True),
        ("<think>\n\n</think>\n4", True, False),
        ("<think>\nsteps", True, False),
        ("<think>\nsteps\n</think>\n", True, False),
        ("4", True, False),
        ("4", False, True),
        ("<think>\nsteps\n</think>\n4", False, False),
        ("", False, False),
        ("<think>a</think></think>", True, False),
        ("<think>a</think>b<think>c", True, False),
        ("<think>a</think><think>b</think>c", True, False),
        ("<think>a</think>4<|im_start|>user\nmore", True, False),
    ],
)
def test_mode_obedience(text, think, kept):
    assert obeys(text, think) is kept


@pytest.mark.parametrize(
    ("text", "answer"),
    [("<think>\n1 + 2\n</think>\n 3 ", "3"), ("3", "3"), ("<think>\n3", ""), ("a </think> b </think> c", "c")],
)
def test_the_answer_is_what_stands_behind_the_reasoning(text, answer):
    assert answer_part(text) == answer
