"""Results of calls that ran beside each other stand behind them in their order."""

import pytest
from data_helpers import parsed_row

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
        # Nobody knows which is whose.
        (TWO, [("2", {}), ("1", {})], ["2", "1"]),
        (TWO, [("2", {"tool_call_id": "x2"}), ("1", {"tool_call_id": "other"})], ["2", "1"]),
        ([("x", "f"), ("x", "f")], [("2", {"tool_call_id": "x"}), ("1", {"tool_call_id": "x"})], ["2", "1"]),
        ([("x1", "f"), ("x2", "f")], [("2", {"name": "f"}), ("1", {"name": "f"})], ["2", "1"]),
    ],
)
def test_results_are_in_the_order_of_their_calls_where_it_is_known(calls, told, expected):
    assert results(row(calls, told)) == expected


def test_each_turn_of_calls_has_its_own_results():
    first = row(TWO, [("2", {"tool_call_id": "x2"}), ("1", {"tool_call_id": "x1"})])["messages"]
    second = row([("x1", "f"), ("x2", "g")], [("4", {"tool_call_id": "x2"}), ("3", {"tool_call_id": "x1"})])["messages"]
    assert results({"messages": [*first, *second]}) == ["1", "2", "3", "4"]
