"""Tools and calls of rows, in every form that rows have them."""

import json

import pytest

from apo_soup.data.sources.rows import RowError
from apo_soup.evals.metrics import ItemRow
from apo_soup.evals.tool_calls import call_fault, first_call
from apo_soup.evals.tool_items import tool_item

ADD = {"name": "add", "parameters": {"a": "integer", "b": "integer"}}
CALL = {"name": "add", "arguments": {"a": 1, "b": 2}}


@pytest.mark.parametrize(
    "tools", [[ADD], json.dumps([ADD]), [json.dumps(ADD)], [{"type": "function", "function": ADD}]]
)
@pytest.mark.parametrize(
    "call",
    [
        CALL,
        json.loads(json.dumps(CALL)) | {"arguments": json.dumps(CALL["arguments"])},
        {"id": "c1", "type": "function", "function": CALL},
        [{"type": "function", "function": CALL | {"arguments": json.dumps(CALL["arguments"])}}],
    ],
)
def test_a_call_is_compared_whichever_way_the_row_writes_it(tools, call):
    item = tool_item(ItemRow({"tools": tools, "call": call}))
    assert item.call == CALL
    assert call_fault(item.call, item.tools) is None


def test_a_row_may_have_no_call():
    assert tool_item(ItemRow({"tools": [ADD]})).call is None
    assert tool_item(ItemRow({"tools": []})).tools == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, r"^rows\.jsonl:3: field tools: expected one, got a row with no fields"),
        (
            {"tools": [{"name": "add", "parameters": {"type": "dict", "properties": {"a": {}}}}]},
            r"tools\[0\]: parameters\.type: expected JSON Schema, got",
        ),
        (
            {"tools": [{"name": "add", "parameters": {"a": "int"}}]},
            r"tools\[0\]: parameters\.properties\.a\.type: expected JSON",
        ),
        (
            {"tools": [{"name": "add", "parameters": "a, b"}]},
            r"tools\[0\]: expected a tool with a schema of its parameters",
        ),
        ({"tools": [{"nam": "add"}]}, r"rows\.jsonl:3: field tools\[0\]: expected a tool with a name"),
        ({"tools": [ADD], "call": {"arguments": {}}}, r"field call\[0\]: expected a call with function\.name"),
        ({"tools": [ADD], "call": [CALL, CALL]}, "field call: expected one call, got 2; leave one"),
    ],
)
def test_a_row_that_no_call_can_be_held_to_is_refused(fields, told):
    with pytest.raises(RowError, match=told):
        tool_item(ItemRow(fields, "rows.jsonl:3"))


@pytest.mark.parametrize("words", ["[" * 20_000, "-" * 20_000 + "1", "f(" * 300])
def test_what_no_reader_can_take_is_no_call(words):
    assert first_call(f"<tool_call>{words}</tool_call>", "xml", [ADD]) is None
    assert first_call(f"<code>{words}</code>", "python", [ADD]) is None


@pytest.mark.parametrize(
    "part", [{"$ref": "#/nowhere"}, {"$ref": "#/properties/a"}, {"type": "string", "pattern": "["}]
)
def test_a_schema_that_breaks_under_a_call_is_told_as_the_rows(part):
    tools = [{"name": "f", "parameters": {"type": "object", "properties": {"a": part}}}]
    with pytest.raises(RowError, match=r"field tools: expected JSON Schema of f, got what is none .*; correct it"):
        call_fault({"name": "f", "arguments": {"a": "x"}}, tools)
