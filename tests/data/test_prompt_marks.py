"""What makes two prompts the same, and what nearly so."""

import numpy as np
import pytest
from data_helpers import parsed_row
from helpers import chat, preference

from apo_soup.data.held_out import similarity
from apo_soup.data.prompt_marks import NO_HASH, SKETCH, PromptMarks, prompt_mark

LONG = " ".join(f"word{n}" for n in range(30))


def mark(row, pairs=False):
    return prompt_mark(parsed_row(row, pairs)[1])


def nearness(one, two):
    return similarity(*(mark(chat(text, "A")).sketch for text in (one, two)))


@pytest.mark.parametrize("other", ["what IS  2 + 2?", "\tWhat is 2 + 2?\n"])
def test_upper_case_and_white_space_make_no_other_prompt(other):
    assert mark(chat(other, "B")).group == mark(chat("What is 2 + 2?", "A")).group


def test_conversations_are_told_apart_by_mode_and_by_every_question():
    first = mark(chat("Q", "A", False)).group
    assert first == mark(chat("Q", "B", False)).group
    assert first != mark(chat("Q", "<think>\na\n</think>\nA", True)).group
    more = chat("Q", "A", False)
    more["messages"] += chat("And then?", "B")["messages"]
    assert first != mark(more).group
    assert first != mark(chat("Q -", "A", False)).group


def test_pairs_are_told_apart_by_their_prompt_alone():
    one = preference("Q", "good", "bad")
    thought = preference("Q", "<think>\na\n</think>\nb", "no", True)
    flagged = {**thought, "prompt": [{"role": "system", "content": "/think"}, *thought["prompt"]]}
    assert mark(one, True).group == mark(thought, True).group
    assert mark(one, True).group == mark(flagged, True).group
    assert mark(one, True).group != mark(preference("Q 2", "good", "bad"), True).group
    told = {**one, "prompt": [{"role": "system", "content": "Be brief."}, *one["prompt"]]}
    assert mark(one, True).group != mark(told, True).group


def test_nearness_is_that_of_three_word_runs():
    assert nearness(LONG, LONG.upper() + "!") == 1
    assert nearness(LONG, f"{LONG} more") == pytest.approx(28 / 29)
    assert nearness(LONG, LONG.replace("word15", "other")) == pytest.approx(25 / 31)
    assert nearness("What is 2 + 2?", "What is 2 - 2?") == pytest.approx(1 / 5)
    assert nearness("Hi", "Hi!") == 1
    assert nearness("Hi", "Ho") == 0
    assert nearness("!", "?") == 1


def test_long_prompts_are_estimated_and_short_ones_exact():
    long = " ".join(f"word{n}" for n in range(500))
    assert nearness(long, long.replace("word250 ", "")) > 0.9
    assert nearness(long, " ".join(f"other{n}" for n in range(500))) == 0


def test_sketches_come_back_in_the_rows_order(tmp_path):
    marks = PromptMarks(tmp_path)
    made = [mark(chat(f"Question number {n}?", "A")) for n in range(5)]
    for one in made:
        marks.append(np.array([one.group]), one.sketch[None])
    (block,) = marks.sketches([4, 0, 2])
    assert block.tolist() == [made[n].sketch.tolist() for n in (0, 2, 4)]
    assert block.shape == (3, SKETCH)
    assert (block[:, 0] != NO_HASH).all()
    assert np.array(marks.groups).tolist() == [one.group for one in made]
    marks.close()
    assert not list(tmp_path.iterdir())
