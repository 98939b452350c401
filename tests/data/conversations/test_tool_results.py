"""Results of calls that ran beside each other stand behind them in their order."""

import pytest
from data_helpers import parsed_row

from apo_soup.data.sources.rows import RowError

QUESTION = {"role": "user", "content": "q"}


def row(calls, results):
    called = [{"id": i, "type": "function", "function": {"name": name, "arguments": {}}} for i, name in calls]
    told = [{"role": "tool", "content": text, **beside} for text, beside in results]
    turns = [QUESTION, {"role": "assistant", "content": "", "tool_calls": called}, *told]
    return {"messages": [*turns, {"role": "assistant", "content": "done"}]}


def results(given):
    _, item = parsed_row(given)
    assert [m["role"] for m in item.messages[-1:]] == ["assistant"]
    return [m["content"] for m in item.messages if m["role"] == "tool"]


TWO = [("x1", "f"), ("x2", "g")]


@pytest.mark.parametrize(
    ("calls", "told", "expected"),
    [
        (TWO, [("2", {"tool_call_id": "x2"}), ("1", {"tool_call_id": "x1"})], ["1", "2"]),
        (TWO, [("1", {"tool_call_id": "x1"}), ("2", {"tool_call_id": "x2"})], ["1", "2"]),
        (TWO, [("2", {"name": "g"}), ("1", {"name": "f"})], ["1", "2"]),
        ([*TWO, ("x3", "f")], [("3", {"tool_call_id": "x3"}), ("1", {"tool_call_id": "x1"})], ["1", "3"]),
        # The name of the role is no tool's.
        ([(None, "f")], [("1", {"name": "tool"})], ["1"]),
        # Nobody knows which is whose.
        (TWO, [("2", {}), ("1", {})], ["2", "1"]),
        ([(None, "f"), (None, "g")], [("1", {"tool_call_id": "x9"}), ("2", {})], ["1", "2"]),
        # What has no id answers the call that is left, or that of its name.
        (TWO, [("2", {"tool_call_id": "x2"}), ("1", {})], ["1", "2"]),
        ([*TWO, ("x3", "f")], [("1", {"name": "f"}), ("3", {"name": "f"}), ("2", {"name": "g"})], ["1", "2", "3"]),
        ([("x", "f"), ("x", "f")], [("2", {"tool_call_id": "x"}), ("1", {"tool_call_id": "x"})], ["2", "1"]),
        ([("x1", "f"), ("x2", "f")], [("2", {"name": "f"}), ("1", {"name": "f"})], ["2", "1"]),
    ],
)
def test_results_are_in_the_order_of_their_calls_where_it_is_known(calls, told, expected):
    assert results(row(calls, told)) == expected


@pytest.mark.parametrize("named", [("call_id", "x{}"), ("id", "x{}"), ("tool_call_id", "fc{}"), ("call_id", "fc{}")])
def test_results_that_name_their_call_otherwise_are_known(named):
    """By the id of OpenAI's item, or under another name; what is rendered has one id, under one name."""
    key, written = named
    given = row(TWO, [("2", {key: written.format(2)}), ("1", {key: written.format(1)})])
    for number, call in enumerate(given["messages"][1]["tool_calls"], 1):
        call |= {"call_id": call["id"], "id": f"fc{number}"}
    _, item = parsed_row(given)
    _, asks, *told, _ = item.messages
    assert [call["id"] for call in asks["tool_calls"]] == ["x1", "x2"]
    assert {*asks["tool_calls"][0]} == {"id", "type", "function"}
    assert [(turn["content"], turn["tool_call_id"]) for turn in told] == [("1", "x1"), ("2", "x2")]
    assert {*told[0]} == {"role", "content", "tool_call_id"}
    given["messages"][2][key] = "other"
    if key != "id":  # which may be that of the turn
        with pytest.raises(RowError, match=r"\[2\].tool_call_id: expected one of a call .* x1 or x2, got str 'other'"):
            parsed_row(given)


def test_each_turn_of_calls_has_its_own_results():
    first = row(TWO, [("2", {"tool_call_id": "x2"}), ("1", {"tool_call_id": "x1"})])["messages"]
    second = row([("x1", "f"), ("x2", "g")], [("4", {"tool_call_id": "x2"}), ("3", {"tool_call_id": "x1"})])["messages"]
    assert results({"messages": [*first, *second]}) == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("calls", "told", "reason"),
    [
        (
            TWO,
            [("1", {"tool_call_id": "zzz"})],
            r"messages\[2\].tool_call_id: expected one of a call of the turn that it follows, x1 or x2, got str 'zzz'",
        ),
        (
            TWO,
            [("1", {}), ("2", {"tool_call_id": "other"})],
            r"\[3\].tool_call_id: .* x1 or x2, got str 'other'",
        ),
        (TWO, [("1", {"tool_call_id": "x1"})] * 2, r"\[3\].tool_call_id: expected one result a call, got another one"),
        (
            [("x1", "f")],
            [("1", {}), ("2", {})],
            r"\[3\]: expected one result a call, got 2 behind a turn of 1",
        ),
        (TWO, [("1", {"tool_call_id": "x1", "name": "g"})], r"\[2\].name: expected f, whose call has this id, got g"),
        ([("x1", "f")], [("1", {"name": "search"})], r"\[2\].name: expected one of a call of the turn .*, f, got str"),
        (
            [(None, "f")],
            [("1", {"name": "f"}), ("2", {"name": "f"})],
            r"\[3\].name: expected one result a call, got",
        ),
    ],
)
def test_a_result_that_answers_no_call_or_one_again_is_refused(calls, told, reason):
    with pytest.raises(RowError, match=reason):
        parsed_row(row(calls, told))


def test_a_result_before_its_call_is_refused():
    (_, asks, result, done) = row([("x1", "f")], [("1", {"tool_call_id": "x2"})])["messages"]
    later = row([("x2", "f")], [])["messages"][1]
    with pytest.raises(RowError, match=r"\[2\].tool_call_id: .* x1, got str 'x2'; correct the result or the call"):
        parsed_row({"messages": [QUESTION, asks, result, done, QUESTION, later]})


@pytest.mark.parametrize("key", ["call_id", "tool_call_id"])
def test_a_call_is_known_by_the_id_that_its_result_has(key):
    given = row([("fc1", "f")], [("1", {"tool_call_id": "c1", "name": "functions.f"})])
    given["messages"][1]["tool_calls"][0][key] = "c1"
    assert results(given) == ["1"]
    _, *behind = given["messages"]
    with pytest.raises(RowError, match="c1, got str 'c2'"):
        parsed_row({"prompt": [QUESTION], "completion": [behind[0], {**behind[1], "tool_call_id": "c2"}, behind[2]]})


def test_the_results_of_calls_in_a_prompt_may_begin_its_completion():
    question, asks, *told, done = row(TWO, [("1", {"tool_call_id": "x1"}), ("2", {"tool_call_id": "x2"})])["messages"]
    given = {"prompt": [question, asks, told[0]], "completion": [told[1], done]}
    assert results(given) == ["1", "2"]
    given["completion"][0] = {**told[1], "tool_call_id": "x1"}
    with pytest.raises(RowError, match=r"completion\[3\].tool_call_id: expected one result a call, got another one"):
        parsed_row(given)
