"""What a row of a tool task offers and expects: tools with schemas that can judge a call, and the row's own call."""

from dataclasses import dataclass
from typing import Any

import jsonschema

from apo_soup.data.conversations.dialects import written_value
from apo_soup.data.conversations.messages import checked_calls
from apo_soup.data.conversations.tool_schemas import row_tools
from apo_soup.data.sources.rows import RowError, described
from apo_soup.errors import first_line
from apo_soup.evals.metrics import ItemRow
from apo_soup.evals.tool_calls import Call, parameters_schema


@dataclass(frozen=True)
class ToolItem:
    """The tools of a row, in any form that rows of training have them, and its call, where it has one."""

    tools: list[dict[str, Any]]
    call: Call | None


def tool_item(row: ItemRow) -> ToolItem:
    """The tools and the call of a row.

    Raises:
        RowError: a tool has no schema that a call can be held to, or the call cannot be read.
    """
    tools, calls = row["tools"], row.get("call")
    try:
        offered = [written_value(tool) if isinstance(tool, str) else tool for tool in row_tools(tools, "tools")]
        expected = checked_calls(calls if isinstance(calls, list) else [calls], "field call") if calls else []
    except RowError as error:
        raise row.refusal(str(error)) from None
    if len(expected) > 1:
        raise row.refusal(f"field call: expected one call, got {len(expected)}; leave one")
    for number, tool in enumerate(offered):
        told = _tool_fault(tool)
        if told:
            raise row.refusal(f"field tools[{number}]: {told}")
    return ToolItem(offered, expected[0]["function"] if expected else None)


def _tool_fault(tool: Any) -> str | None:
    """Why no call can be held to a tool, or None."""
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    parameters = function.get("parameters") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(parameters, dict | None):
        return f"expected a tool with a schema of its parameters, got {described(tool)}; write a function schema"
    schema = parameters_schema(str(function.get("name")), [tool]) or {}
    try:
        jsonschema.validators.validator_for(schema).check_schema(schema)
    except jsonschema.exceptions.SchemaError as error:
        place = ".".join(["parameters", *map(str, error.absolute_path)])
        return f"{place}: expected JSON Schema, got what is none ({first_line(error)[:120]}); correct it"
    return None
