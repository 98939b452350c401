"""Calls under the names that data sets use: nothing of one is lost, and what cannot be written is refused."""

import math

import pytest
from data_helpers import PROMPT, parsed_row

from apo_soup.data.sources.rows import RowError

ADD = {"a": 1, "b": 2}
ANSWER = {"role": "assistant", "content": "3"}


def function_of(call: dict) -> dict:
    turn = {"role": "assistant", "content": "", "tool_calls": [call]}
    return parsed_row({"messages": [*PROMPT, turn]})[1].messages[1]["tool_calls"][0]["function"]


@pytest.mark.parametrize("name", ["arguments", "parameters", "args", "input", "kwargs"])
def test_arguments_are_read_under_every_name(name):
    call = {"name": "add", name: ADD}
    expected = {"name": "add", "arguments": ADD}
    item = {"type": "function_call", "call_id": "c", "id": "fc", "status": "completed", **call}
    for turn in (
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c", "type": "function", "function": call}]},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add"}, name: ADD}]},
        {"role": "assistant", "content": "", "function_call": call},
        {"role": "assistant", "content": [{"type": "tool_use", **call}]},
        {"role": "function_call", "content": call},
        item,
    ):
        message = parsed_row({"messages": [*PROMPT, turn, {"role": "tool", "content": "3"}, ANSWER]})[1].messages[1]
        assert message["tool_calls"][0]["function"] == expected, turn


def test_the_same_arguments_twice_are_one():
    assert function_of({"name": "add", "arguments": ADD, "parameters": '{"a": 1, "b": 2}'})["arguments"] == ADD
    assert function_of({"name": "add", "arguments": None, "args": ADD})["arguments"] == ADD


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"name": "f", "arguments": {}, "args": ADD}, "expected one set of arguments, got arguments and args that"),
        ({"name": "f", "params": ADD}, r"tool_calls\[0\].params: expected a name and arguments in a call, got dict"),
        ({"function": {"name": "f"}, "weight": 0}, r"\[0\].weight: expected a name and arguments in a call, got int 0"),
        ({"name": " "}, "expected a call with function.name, got an empty name; name it"),
        ({"name": "f", "arguments": {"a": [math.nan]}}, "arguments: expected JSON, got nan, which JSON has no word"),
        ({"name": "f", "arguments": {"a": -math.inf}}, "arguments: expected JSON, got -inf, which JSON has no word"),
    ],
)
def test_a_call_that_cannot_be_written_whole_is_refused(call, reason):
    with pytest.raises(RowError, match=reason):
        function_of(call)


def test_calls_that_a_table_holds_as_text_are_calls():
    call = '{"name": "add", "arguments": {"a": 1, "b": 2}}'
    for text in (f"[{call}]", call, str([{"function": {"name": "add", "arguments": ADD}}])):
        turn = {"role": "assistant", "content": "", "tool_calls": text}
        message = parsed_row({"messages": [*PROMPT, turn, {"role": "tool", "content": "3"}, ANSWER]})[1].messages[1]
        assert message["tool_calls"][0]["function"] == {"name": "add", "arguments": ADD}
    for text in ("", "[]", "null"):
        assert "tool_calls" not in parsed_row({"messages": [*PROMPT, {**ANSWER, "tool_calls": text}]})[1].messages[1]
    with pytest.raises(RowError, match=r"tool_calls: expected a list of calls, got str 'add\(1\)'"):
        parsed_row({"messages": [*PROMPT, {**ANSWER, "tool_calls": "add(1)"}]})


def test_arguments_too_deep_are_refused():
    value: object = 1
    for _ in range(700):
        value = [value]
    with pytest.raises(RowError, match="expected at most 100 lists and mappings in one another, got more; flatten"):
        function_of({"name": "f", "arguments": {"a": value}})
