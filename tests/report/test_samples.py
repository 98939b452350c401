"""The page's samples: those whose answers tell most first."""

from apo_soup.report.run_files import read_run
from apo_soup.report.samples import informative, samples_section


def answers(**right):
    return {(stage, "think"): {"right": value} for stage, value in right.items()}


def test_a_question_tells_more_where_right_and_wrong_are_even():
    even, one, same = (
        answers(base=False, mid=True),
        answers(base=True, mid=True, sft=True),
        answers(base=None, mid=None),
    )
    assert informative(even) == (1, 1)
    assert informative(one) == informative(same) == (0, 1)
    both = {("base", mode): {"right": False} for mode in ("think", "no_think")}
    assert informative(both) == (0, 2)


def test_the_first_question_is_open_and_members_are_left_out(demo_run):
    questions = samples_section(read_run(demo_run)).blocks
    assert [question.shown for question in questions] == [True, False, False, False, False]
    first = questions[0]
    assert [answer.name for answer in first.answers["think"]] == ["base", "mid", "sft", "soup", "merged"]
    assert {answer.right for answer in first.answers["think"]} == {True, False}
