"""A row's tools, as the function schemas that templates write, whichever way they were declared."""

from collections.abc import Iterable
from typing import Any

from apo_soup.data.conversations.dialects import written_value
from apo_soup.data.conversations.json_values import check_json
from apo_soup.data.sources.rows import Fields, RowError, described


def row_tools(tools: Any, name: str) -> list[Any]:
    """The tools of the field `name`: a list, its JSON text, or one tool's text; none where it says nothing.

    Raises:
        RowError: it is no list, or something in it is no tool.
    """
    if isinstance(tools, str):
        if tools.strip() in ("", "[]", "{}", "null", "None"):
            return []
        found = written_value(tools)
        tools = [tools] if isinstance(found, str) else found
    if not tools:
        return []
    if not isinstance(tools, list):
        raise RowError(f"field {name}: expected a list of tools, got {described(tools)}; write a list")
    tools = [declared for tool in tools for declared in _declarations(tool)]
    check_json(tools, f"field {name}")
    for number, tool in enumerate(tools):
        _check_tool(tool, name, f"field {name}[{number}]")
    return [function_schema(tool) for tool in tools]


def _declarations(tool: Any) -> list[Any]:
    """The tools of Gemini's list of declarations, or the one tool that there is."""
    if isinstance(tool, dict):
        for spelling in ("functionDeclarations", "function_declarations"):
            if isinstance(tool.get(spelling), list) and tool.keys() == {spelling}:
                return [{"type": "function", "function": declared} for declared in tool[spelling]]
    return [tool]


def same_tools(some: list[Any], others: list[Any]) -> bool:
    """Whether two lists declare the same tools, flat or as function schemas."""
    return [_bare(tool) for tool in some] == [_bare(tool) for tool in others]


def calls_undeclared(messages: Iterable[Fields], arguments: dict[str, Any]) -> bool:
    """Whether a call names a tool that is not among those of the row's template arguments, where it has some.

    >>> called = [{"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {}}}]}]
    >>> calls_undeclared(called, {"tools": [{"name": "add"}]}), calls_undeclared(called, {"tools": [{"name": "sub"}]})
    (False, True)
    """
    tools = [*(arguments.get("tools") or ()), *(arguments.get("xml_tools") or ())]
    if not tools or not all(isinstance(tool, dict) for tool in tools):
        return False
    names = {_bare(tool).get("name") for tool in tools}
    return any(call["function"]["name"] not in names for m in messages for call in m.get("tool_calls") or ())


def _bare(tool: Any) -> Any:
    found = written_value(tool) if isinstance(tool, str) else tool
    return found.get("function", found) if isinstance(found, dict) else found


def _check_tool(tool: Any, name: str, place: str) -> None:
    """Raise RowError where a tool is no mapping with a name, as JSON or not; a Python tool may be any text."""
    if isinstance(tool, str) and name == "python_tools" and tool.strip():
        return
    # Not parsed, which would cost more than the rest of the row: a text that is a mapping with a name in it.
    if isinstance(tool, str) and tool.strip()[:1] == "{" and "name" in tool:
        return
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"].strip():
        raise RowError(f"{place}: expected a tool with a name, got {described(tool)}; write a function schema")


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
