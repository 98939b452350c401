"""Tool calls as models write them, against their schemas."""

import pytest

from apo_soup.evals.items.tool_requests import OFFERED_TOOLS
from apo_soup.evals.tool_calls import call_fault, first_call

SHORT = [{"name": "add", "parameters": {"a": "integer", "b": "integer"}}]


@pytest.mark.parametrize(
    ("text", "tool_format", "tools", "fault"),
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
        ("<code>set_timer(minutes=0)</code>", "python", list(OFFERED_TOOLS), "less than the minimum"),
        ('<code>convert_currency(5, "EUR", "XXX")</code>', "python", list(OFFERED_TOOLS), "is not one of"),
        ('<code>get_weather("Rome", 3)</code>', "python", [{"type": "function", "function": OFFERED_TOOLS[0]}], None),
    ],
)
def test_calls_are_held_to_their_schema(text, tool_format, tools, fault):
    found = call_fault(first_call(text, tool_format, tools), tools)
    assert found is None if fault is None else fault in found
