"""Template arguments of a row: tools once and with names, modes without quotes."""

import json
import math

import pytest
from data_helpers import MESSAGES, parsed_row

from apo_soup.data.conversations.unread import unread_fields
from apo_soup.data.sources.rows import RowError

F, G = {"name": "f", "parameters": {}}, {"name": "g", "parameters": {}}


def kwargs_of(own: object = None, **columns: object) -> dict:
    return parsed_row({"messages": MESSAGES, "chat_template_kwargs": own or {}, **columns})[1].kwargs


@pytest.mark.parametrize("nothing", ["null", " null\n", "", "[]", "{}", [], None])
def test_a_column_that_says_nothing_is_no_tools(nothing):
    assert kwargs_of(tools=nothing) == {}


def test_the_same_tools_twice_are_one():
    wrapped = {"type": "function", "function": F}
    assert kwargs_of({"tools": [F]}, tools=[wrapped])["tools"] == [wrapped]
    assert kwargs_of(tools=[F], xml_tools=[json.dumps(F)]) == {"tools": [F], "xml_tools": [json.dumps(F)]}
    assert kwargs_of(xml_tools=[F], python_tools=["def g(): ..."]) == {
        "xml_tools": [F],
        "python_tools": ["def g(): ..."],
    }
    assert kwargs_of(functions=[F]) == kwargs_of(functions=[F], tools=[wrapped]) == {"tools": [wrapped]}
    assert kwargs_of({"enable_thinking": False}) == {"enable_thinking": False}
    declared = {"functionDeclarations": [F, G]}
    assert kwargs_of(tools=[declared])["tools"] == [wrapped, {"type": "function", "function": G}]


@pytest.mark.parametrize(
    ("own", "columns", "reason"),
    [
        (
            {"tools": [G]},
            {"tools": [F]},
            "field tools: expected tools once, got others in chat_template_kwargs; remove",
        ),
        ({}, {"tools": [F], "xml_tools": [G]}, "fields tools, xml_tools: expected tools once, got two lists that diff"),
        ({"python_tools": ["def g(): ..."]}, {"tools": [F]}, "fields tools, python_tools: expected tools once, got"),
        ({}, {"tools": "not json"}, r"field tools\[0\]: expected a tool with a name, got str 'not json'; write a func"),
        ({}, {"tools": [5]}, r"field tools\[0\]: expected a tool with a name, got int 5; write a function schema"),
        ({}, {"tools": [F, {"foo": 1}]}, r"field tools\[1\]: expected a tool with a name, got dict {'foo': 1}; write"),
        ({}, {"tools": [{**F, "x": math.nan}]}, "field tools: expected JSON, got nan, which JSON has no word for"),
        (
            {},
            {"tools": [F], "functions": [G]},
            "fields tools, functions: expected tools once, got two lists that differ",
        ),
        ({"messages": []}, {}, "field chat_template_kwargs: expected no messages, got one; remove it"),
        (
            {"enable_thinking": True},
            {"reasoning": "off"},
            "fields reasoning, chat_template_kwargs: expected one mode of",
        ),
        ({}, {"enable_thinking": True, "think": False}, "fields enable_thinking, think: expected one mode of the row"),
        ({}, {"enable_thinking": "maybe"}, "field enable_thinking: expected true or false, got str 'maybe'; correct"),
        (
            {"enable_thinking": "false"},
            {},
            "enable_thinking: expected true or false, got str 'false'; write true or false without quotes",
        ),
    ],
)
def test_what_would_be_lost_or_misread_is_refused(own, columns, reason):
    with pytest.raises(RowError, match=reason):
        kwargs_of(own, **columns)


@pytest.mark.parametrize(
    ("column", "value", "mode"),
    [
        ("enable_thinking", False, False),
        ("enable_thinking", "True", True),
        ("reasoning", "on", True),
        ("reasoning", "Off ", False),
        ("thinking", True, True),
        ("think", 0, False),
    ],
)
def test_a_column_says_the_mode_of_its_row_and_is_read(column, value, mode):
    assert kwargs_of(**{column: value}) == {"enable_thinking": mode}
    assert kwargs_of({"enable_thinking": mode}, **{column: value}) == {"enable_thinking": mode}
    assert unread_fields({column: value}, [], frozenset()) == set()


@pytest.mark.parametrize("value", ["", "first add, then halve", None])
def test_a_thought_in_a_column_is_no_mode(value):
    assert kwargs_of(reasoning=value, thinking=value) == {}
    assert unread_fields({"reasoning": value}, [], frozenset()) == ({"reasoning"} if value else set())
