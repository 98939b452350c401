"""Items generated from a seed: problems, needles, tool requests."""

import random
from typing import get_args

import pytest

from apo_soup.config.eval import Language, NeedleItems, ProblemFamily, ProblemItems, ToolRequestItems
from apo_soup.evals.items.needles import generated_needles
from apo_soup.evals.items.problems import PROBLEM_MAKERS, generated_problems
from apo_soup.evals.items.tool_requests import OFFERED_TOOLS, generated_tool_requests
from apo_soup.evals.items.wordings import WORDINGS
from apo_soup.evals.tool_calls import call_fault
from apo_soup.verify.answers import number_verifier


def test_problems_are_the_same_for_a_seed_and_cover_families_and_languages():
    rows = generated_problems(3, ProblemItems(count=96))
    assert rows == generated_problems(3, ProblemItems(count=96))
    assert rows != generated_problems(4, ProblemItems(count=96))
    assert {row["group"] for row in rows} == {f"{f}-{language}" for f in PROBLEM_MAKERS for language in WORDINGS}
    assert len({row["messages"][0]["content"] for row in rows}) == 96
    assert all(number_verifier(f"so it is {row['answer']}.", row["answer"]) for row in rows)
    assert get_args(ProblemFamily) == tuple(PROBLEM_MAKERS)
    assert get_args(Language) == tuple(WORDINGS)


class Scripted:
    """Chance that answers from lists, so that a problem can be worked by hand."""

    def __init__(self, numbers, choices):
        self.numbers, self.chosen = iter(numbers), iter(choices)

    def randint(self, low, high):
        value = next(self.numbers)
        assert low <= value <= high
        return value

    def choice(self, options):
        return next(self.chosen)

    def sample(self, options, count):
        return list(options)[:count]


@pytest.mark.parametrize("language", list(WORDINGS))
def test_a_story_worked_by_hand(language):
    """20 apples, 7 more, 5 away, 3 bags of 4: 34."""
    rng = Scripted([20, 7, 5, 3, 4], ["Anna", "gain", "lose", "boxes"])
    text, answer = PROBLEM_MAKERS["arithmetic"](rng, WORDINGS[language])
    assert answer == 34
    for told in ("Anna", "20", "7", "5", "3", "4"):
        assert told in text
    assert "{" not in text


@pytest.mark.parametrize("language", list(WORDINGS))
def test_order_and_lookup_worked_by_hand(language):
    text, answer = PROBLEM_MAKERS["ordering"](Scripted([3], []), WORDINGS[language])
    assert ("10, 11, 12, 13, 14, 15" in text, answer) == (True, 12)
    text, answer = PROBLEM_MAKERS["lookup"](Scripted([], ["Clara"]), WORDINGS[language])
    assert ("Clara" in text, answer) == (True, 1002)


def test_counting_counts():
    for seed in range(20):
        text, answer = PROBLEM_MAKERS["counting"](random.Random(seed), WORDINGS["en"])
        asked = text.split('"')[1]
        assert text.splitlines()[1].split().count(asked) == answer


def test_needles_have_the_length_and_depth_asked_for(tokenizer):
    items = NeedleItems(lengths=[300, 900], depths=[0.0, 0.5, 1.0], count=3)
    rows = generated_needles(tokenizer, 0, items)
    assert rows == generated_needles(tokenizer, 0, items)
    assert len(rows) == 18
    for row in rows:
        content = row["messages"][0]["content"]
        context = content.partition("\n\n")[0]
        size = len(tokenizer(context).input_ids)
        assert row["group"] * 0.85 < size <= row["group"] * 1.02
        needle = f"{row['prefix']}{row['answer']}."
        assert context.count(needle) == 1
        position = context.index(needle) / max(1, len(context) - len(needle))
        assert abs(position - row["depth"]) < 0.12
        assert context.count("kept under the name") == 4
    by_context = {}
    for row in rows:
        by_context.setdefault((row["group"], row["context"]), set()).add(row["messages"][0]["content"].split("\n\n")[0])
    assert len(by_context) == 6
    assert all(len(texts) == 1 for texts in by_context.values()), "a context is asked at every depth"


def test_every_request_has_a_valid_call():
    rows = generated_tool_requests(0, ToolRequestItems(count=20))
    assert rows == generated_tool_requests(0, ToolRequestItems(count=20))
    assert {row["group"] for row in rows} == {tool["name"] for tool in OFFERED_TOOLS}
    assert all(call_fault(row["call"], row["tools"]) is None for row in rows)
