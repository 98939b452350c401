"""A row's tools, as the function schemas that templates write, whichever way they were declared."""

from typing import Any

from apo_soup.data.conversations.dialects import written_value
from apo_soup.data.sources.rows import Fields, RowError, described


def row_tools(tools: Any, name: str) -> list[Any]:
    """The tools of the field `name`: a list, its JSON text, or one tool's text; none where it says nothing.

    Raises:
        RowError: it is no list.
    """
    if isinstance(tools, str):
        if tools.strip() in ("", "[]"):
            return []
        found = written_value(tools)
        tools = [tools] if isinstance(found, str) else found
    if not tools:
        return []
    if not isinstance(tools, list):
        raise RowError(f"field {name}: expected a list of tools, got {described(tools)}; write a list")
    return [function_schema(tool) for tool in tools]


def function_schema(tool: Any) -> Any:
    """Anthropic's `input_schema`, and the flat form of OpenAI's responses, as a function schema; other tools as they
    are.
    """
    if not isinstance(tool, dict) or not isinstance(tool.get("name"), str) or "function" in tool:
        return tool
    if "input_schema" in tool:
        return _schema(tool, tool["input_schema"])
    if tool.get("type") == "function":
        return _schema(tool, tool.get("parameters"))
    return tool


def _schema(tool: Fields, parameters: Any) -> Fields:
    said = {"name": tool["name"], "description": tool.get("description"), "parameters": parameters}
    return {"type": "function", "function": {k: v for k, v in said.items() if v is not None}}
