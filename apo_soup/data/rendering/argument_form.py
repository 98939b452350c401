"""In which form a chat template takes a row's template arguments: its tools, and its instructions.

Templates read tools by one of two names, most of them flat or as function schemas, some only as these. What a row says
under a name that its template does not know would be left out of the text.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from apo_soup.data.conversations.conversation import Conversation, PlainText, PreferencePair
from apo_soup.data.conversations.dialects import written_value
from apo_soup.data.sources.rows import RowError

TOOL_NAME = "probe0f0tool"
FLAT = {"name": TOOL_NAME, "description": "?", "parameters": {"type": "object", "properties": {}}}
# A name of tools, and the one by which another template reads them.
OTHER_NAMES = {"tools": "xml_tools", "xml_tools": "tools"}
INSTRUCTIONS = "custom_instructions"
AS_SYSTEM_TURN = "custom_instructions became the system turn, as the chat template does not read them"


@dataclass(frozen=True)
class ArgumentForm:
    """`reads` are the arguments that a template reads; `schemas`: it takes no tool but as a function schema."""

    reads: frozenset[str]
    schemas: bool = False

    def of(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """`arguments` with their tools in this form; those given are left as they are."""
        for name, other in OTHER_NAMES.items():
            tools = arguments.get(name)
            if tools and name not in self.reads and other in self.reads and not arguments.get(other):
                known = [_as_text(tool) if other == "xml_tools" else _as_mapping(tool) for tool in tools]
                arguments = {**{k: v for k, v in arguments.items() if k != name}, other: known}
                break
        if self.schemas and arguments.get("tools"):
            arguments = {**arguments, "tools": [_in_schema(tool) for tool in arguments["tools"]]}
        return arguments

    def unread(self, arguments: set[str]) -> set[str]:
        """Those of some arguments that the template never asks for, by whatever name, and so cannot honour."""
        return {name for name in arguments - self.reads if OTHER_NAMES.get(name) not in self.reads}


def wants_schemas(render: Callable[[list[Any]], str]) -> bool:
    """Whether `render` writes a tool only where it is a function schema."""
    return not _writes(render, FLAT) and _writes(render, _in_schema(FLAT))


def with_system_turn(item: Any) -> Any:
    """A row whose instructions are its system turn; where it has one, they are left out, as templates do that read
    both.
    """
    if isinstance(item, PlainText) or INSTRUCTIONS not in item.kwargs:
        return item
    kwargs = {k: v for k, v in item.kwargs.items() if k != INSTRUCTIONS}
    field = "prompt" if isinstance(item, PreferencePair) else "messages"
    turns = getattr(item, field)
    if item.kwargs[INSTRUCTIONS] and not (turns and turns[0]["role"] == "system"):
        turns = [{"role": "system", "content": item.kwargs[INSTRUCTIONS]}, *turns]
    changed: Conversation | PreferencePair = replace(item, kwargs=kwargs, **{field: turns})
    return changed


def _writes(render: Callable[[list[Any]], str], tool: Any) -> bool:
    try:
        return TOOL_NAME in render([tool])
    except RowError:
        return False


def _as_text(tool: Any) -> str:
    return tool if isinstance(tool, str) else json.dumps(tool, ensure_ascii=False)


def _as_mapping(tool: Any) -> Any:
    return written_value(tool) if isinstance(tool, str) else tool


def _in_schema(tool: Any) -> Any:
    tool = _as_mapping(tool)
    flat = isinstance(tool, dict) and "name" in tool and "function" not in tool
    return {"type": "function", "function": tool} if flat else tool
