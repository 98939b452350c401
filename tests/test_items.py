"""Generated evaluation items, tool calls against their schemas, and two evaluations compared."""

import json

import pytest
from helpers import python

from apo_soup.errors import UserError
from apo_soup.evals.calls import call_fault, first_call
from apo_soup.evals.compare import compared
from apo_soup.evals.items.calls import TOOLS, call_rows
from apo_soup.evals.items.needles import needle_rows
from apo_soup.evals.items.problems import FAMILIES, LANGUAGES, MAKERS, WORDINGS, problem_rows
from apo_soup.evals.likelihood import edges
from apo_soup.statistics import ratio
from apo_soup.verify.answers import number


def test_problems_are_the_same_for_a_seed_and_cover_families_and_languages():
    rows = problem_rows("here", 3, count=96)
    assert rows == problem_rows("here", 3, count=96)
    assert rows != problem_rows("here", 4, count=96)
    assert {row["group"] for row in rows} == {f"{f}-{language}" for f in FAMILIES for language in LANGUAGES}
    assert len({row["messages"][0]["content"] for row in rows}) == 96
    assert all(number(f"so it is {row['answer']}.", row["answer"]) for row in rows)
    with pytest.raises(UserError, match="no language is called xx; known: en, fr, es, de, it, pt"):
        problem_rows("here", 0, languages=["xx"])


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


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_story_worked_by_hand(language):
    """20 apples, 7 more, 5 away, 3 bags of 4: 34."""
    rng = Scripted([20, 7, 5, 3, 4], ["Anna", "gain", "lose", "boxes"])
    text, answer = MAKERS["arithmetic"](rng, WORDINGS[language])
    assert answer == 34
    for told in ("Anna", "20", "7", "5", "3", "4"):
        assert told in text
    assert "{" not in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_order_and_lookup_worked_by_hand(language):
    text, answer = MAKERS["ordering"](Scripted([3], []), WORDINGS[language])
    assert ("10, 11, 12, 13, 14, 15" in text, answer) == (True, 12)
    text, answer = MAKERS["lookup"](Scripted([], ["Clara"]), WORDINGS[language])
    assert ("Clara" in text, answer) == (True, 1002)


def test_counting_counts():
    import random

    for seed in range(20):
        text, answer = MAKERS["counting"](random.Random(seed), WORDINGS["en"])
        asked = text.split('"')[1]
        assert text.splitlines()[1].split().count(asked) == answer


def test_needles_have_the_length_and_depth_asked_for(tokenizer):
    rows = needle_rows(tokenizer, 0, lengths=[300, 900], depths=[0.0, 0.5, 1.0], count=3)
    assert rows == needle_rows(tokenizer, 0, lengths=[300, 900], depths=[0.0, 0.5, 1.0], count=3)
    assert len(rows) == 18
    for row in rows:
        content = row["messages"][0]["content"]
        context = content.partition("\n\n")[0]
        size = len(tokenizer(context).input_ids)
        assert row["group"] * 0.85 < size <= row["group"] * 1.02
        needle = f"{row['prefix']}{row['answer']}."
        assert context.count(needle) == 1
        place = context.index(needle) / max(1, len(context) - len(needle))
        assert abs(place - row["depth"]) < 0.12
        assert context.count("kept under the name") == 4
    by_context = {}
    for row in rows:
        by_context.setdefault((row["group"], row["context"]), set()).add(row["messages"][0]["content"].split("\n\n")[0])
    assert len(by_context) == 6
    assert all(len(texts) == 1 for texts in by_context.values()), "a context is asked at every depth"


def test_every_request_has_a_valid_call():
    rows = call_rows(0, 20)
    assert rows == call_rows(0, 20)
    assert {row["group"] for row in rows} == {tool["name"] for tool in TOOLS}
    assert all(call_fault(row["call"], row["tools"]) is None for row in rows)


SHORT = [{"name": "add", "parameters": {"a": "integer", "b": "integer"}}]


@pytest.mark.parametrize(
    ("text", "form", "tools", "fault"),
    [
        ('<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>', "xml", SHORT, None),
        ('<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>', "xml", SHORT, "'b' is a required property"),
        (
            '<tool_call>{"name": "add", "arguments": {"a": 1, "b": "2"}}</tool_call>',
            "xml",
            SHORT,
            "not of type 'integer'",
        ),
        ('<tool_call>{"name": "sub", "arguments": {}}</tool_call>', "xml", SHORT, "no tool is called sub"),
        ("<tool_call>{broken</tool_call>", "xml", SHORT, "no call that can be read"),
        ("It is 3.", "xml", SHORT, "no call that can be read"),
        ("<code>\nadd(1, b=2)\n</code>", "python", SHORT, None),
        ("<code>add(1, 2, 3)</code>", "python", SHORT, "no call that can be read"),
        ("<code>import os</code>", "python", SHORT, "no call that can be read"),
        ("<code>set_timer(minutes=0)</code>", "python", list(TOOLS), "less than the minimum"),
        ('<code>convert_currency(5, "EUR", "XXX")</code>', "python", list(TOOLS), "is not one of"),
        ('<code>get_weather("Rome", 3)</code>', "python", [{"type": "function", "function": TOOLS[0]}], None),
    ],
)
def test_calls_are_held_to_their_schema(text, form, tools, fault):
    found = call_fault(first_call(text, form, tools), tools)
    assert found is None if fault is None else fault in found


def test_losses_of_rows_are_weighted_by_their_tokens():
    """Two rows of 1 and 3 tokens, 2.0 and 6.0 nats: 2 nats a token, and the shares have that mean."""
    score, shares = ratio([2.0, 6.0], [1, 3])
    assert (score.value, score.n, shares) == (2.0, 2, [1.0, 3.0])
    assert score.low == score.high == 2.0
    unequal, shares = ratio([1.0, 9.0], [1, 3])
    assert unequal.value == sum(shares) / 2 == 2.5
    assert unequal.low < 2.5 < unequal.high


def test_places_of_a_window():
    assert edges(1536) == [64, 128, 256, 512, 1024, 1536]
    assert edges(64) == [64]
    assert edges(48) == [48]


def evaluation(hits, rows="a", better="higher"):
    metric = {"value": sum(hits) / len(hits), "low": 0, "high": 1, "n": len(hits), "better": better, "headline": True}
    task = {"kind": "answer", "rows": rows, "seconds": 1, "metrics": ["sums"]}
    return {"schema": 2, "tasks": {"sums": task}, "metrics": {"sums": {**metric, "items": hits}}}


def test_two_evaluations_are_compared_item_by_item():
    (line,), notes = compared(evaluation([0, 0, 1, 1]), evaluation([1, 1, 1, 1]))
    assert (line.gain.value, line.gain.n, notes) == (0.5, 4, [])
    (line,), _ = compared(evaluation([3.0, 2.0], better="lower"), evaluation([1.0, 1.0], better="lower"))
    assert line.gain.value == 1.5, "less is better, so falling is a gain"
    lines, notes = compared(evaluation([0]), evaluation([1], rows="b"))
    assert (lines, notes) == ([], ["task sums asked other items of the second, so it cannot be compared item by item"])
    with pytest.raises(UserError, match="--metric other: not measured item by item on both; known: sums"):
        compared(evaluation([0]), evaluation([1]), ["other"])


HALF = [1] * 20 + [0] * 20


@pytest.mark.parametrize(
    ("after", "threshold", "code"),
    [
        ([1] * 40, "-0.02", 0),
        ([1] * 20 + [0] * 20, "-0.02", 1),
        ([1] * 39 + [0], "-0.02", 0),
        ([1] * 20 + [0] * 20, "-0.6", 0),
    ],
)
def test_a_regression_gate_answers_by_exit_code(tmp_path, after, threshold, code):
    for name, hits in (("before", [1] * 40), ("after", after)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(evaluation(hits)))
    result = python("-m", "apo_soup", "compare", tmp_path / "before", tmp_path / "after", "--fail-below", threshold)
    assert result.returncode == code, result.stdout + result.stderr
    assert ("failed: sums fell below" in result.stdout) is bool(code)
    missing = python("-m", "apo_soup", "compare", tmp_path / "before", tmp_path / "nowhere")
    assert missing.returncode == 2
    assert "no results.json there" in missing.stderr
