"""Problems of the small world: right traces, and one split each."""

import random

from hypothesis import given
from hypothesis import strategies as st

from apo_soup.toy import problems
from apo_soup.toy.splits import SPLITS, split_of
from apo_soup.verify.answers import number_verifier as right


def test_an_addition_written_out_by_hand():
    problem = problems.addition_problem(47, 38)
    assert problem.question == "What is 47 + 38?"
    assert problem.trace == "is 47 + 38\n7 + 8 = 15\n4 + 3 + 1 = 8"
    assert problem.answer == "85"


def test_a_walk_written_out_by_hand():
    problem = problems.walk_problem(3, (4, -5, 9))
    assert problem.question == "Start at 3 then lamp + 4 boat - 5 door + 9?"
    assert problem.trace == "3 lamp + 4 = 7\n7 boat - 5 = 2\n2 door + 9 = 11"
    assert problem.answer == "11"


@given(
    st.integers(0, 10_000),
    st.sampled_from(problems.PROBLEM_FAMILIES),
    st.sampled_from(list(SPLITS)),
    st.sampled_from(problems.TOY_LANGUAGES),
)
def test_every_line_of_a_trace_is_true(seed, family, split, language):
    problem = problems.random_problem(random.Random(seed), family, split, language)
    english = problems.random_problem(random.Random(seed), family, split)
    assert (problem.split, problem.identity, problem.answer) == (split, english.identity, english.answer)
    assert (problem.question == english.question) == (language == "en")
    for line in problem.trace.splitlines()[family == "add" :]:
        left, result = line.split(" = ")
        tokens = [t for t in left.split() if t not in problems.LANDMARKS]
        total = int(tokens[0])
        for sign, number in zip(tokens[1::2], tokens[2::2], strict=True):
            total += int(number) if sign == "+" else -int(number)
        assert total == int(result)
    assert right(f"<think>\n{problem.trace}\n</think>\n{problem.answer}", problem.answer)
    assert not right(f"<think>\n{problem.answer}\n</think>\n{int(problem.answer) + 1}", problem.answer)


@given(st.text(max_size=30))
def test_every_identity_has_one_split(identity):
    assert split_of(identity) in SPLITS
