"""In which form a chat template takes a row's template arguments: its tools, and its instructions.

Templates read tools by one of two names, most of them flat or as function schemas, some only as these. What a row says
under a name that its template does not know would be left out of the text.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from apo_soup.data.conversations.conversation import (
    Conversation,
    PlainText,
    PreferencePair,
    says_instructions,
)
from apo_soup.data.conversations.dialects import written_value
from apo_soup.data.sources.rows import Fields, RowError

TOOL_NAME = "probe0f0tool"
FLAT = {"name": TOOL_NAME, "description": "?", "parameters": {"type": "object", "properties": {}}}
# A name of tools, and the one by which another template reads them.
OTHER_NAMES = {"tools": "xml_tools", "xml_tools": "tools"}
INSTRUCTIONS = "custom_instructions"
AS_SYSTEM_TURN = "custom_instructions became the system turn, as the chat template does not read them"
GAVE_WAY = "custom_instructions were left out, as the row has a system turn that says something else"


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

    def instructed(self, turns: list[Fields], arguments: dict[str, Any]) -> tuple[list[Fields], dict[str, Any]]:
        """Turns and arguments as the template takes them: instructions that it does not read are the system turn, and
        are left out where there is one, as templates do that read both.
        """
        if INSTRUCTIONS not in arguments or INSTRUCTIONS in self.reads:
            return turns, arguments
        told = arguments[INSTRUCTIONS]
        if told and not begins_with_system(turns):
            turns = [{"role": "system", "content": told}, *turns]
        return turns, {k: v for k, v in arguments.items() if k != INSTRUCTIONS}

    def unread(self, arguments: set[str]) -> set[str]:
        """Those of some arguments that the template never asks for, by whatever name, and so cannot honour."""
        others = arguments - self.reads - {INSTRUCTIONS}
        return {name for name in others if OTHER_NAMES.get(name) not in self.reads}


def as_served(turns: list[Fields], arguments: dict[str, Any], sent: bool) -> tuple[list[Fields], dict[str, Any]]:
    """Turns and arguments for a server, of whose template nothing is known: instructions are the system turn, which
    every template reads, and tools are function schemas.

    Args:
        sent: whether the server is given the arguments themselves; else tools have the request's own field alone.
    """
    turns, arguments = ArgumentForm(frozenset()).instructed(turns, arguments)
    tools = arguments.get("tools") or (None if sent else arguments.get("xml_tools"))
    return turns, {**arguments, "tools": [_in_schema(tool) for tool in tools]} if tools else arguments


def wants_schemas(render: Callable[[list[Any]], str]) -> bool:
    """Whether `render` writes a tool only where it is a function schema."""
    return not _writes(render, FLAT) and _writes(render, _in_schema(FLAT))


def begins_with_system(turns: list[Fields]) -> bool:
    """Whether turns begin with a system turn."""
    return bool(turns) and turns[0]["role"] == "system"


def with_instructions(item: Any, form: ArgumentForm) -> tuple[Any, str | None]:
    """A row as `form` has its instructions, and what is to be said of them, or None."""
    if isinstance(item, PlainText) or not item.kwargs.get(INSTRUCTIONS):
        return item, None
    field = "prompt" if isinstance(item, PreferencePair) else "messages"
    turns, kwargs = form.instructed(getattr(item, field), item.kwargs)
    remark = AS_SYSTEM_TURN if INSTRUCTIONS not in form.reads else None
    if begins_with_system(item.in_order):
        same = says_instructions(item.in_order[0]["content"], item.kwargs[INSTRUCTIONS])
        remark = None if same else GAVE_WAY
    if kwargs is not item.kwargs:
        changed: Conversation | PreferencePair = replace(item, kwargs=kwargs, **{field: turns})
        item = changed
    return item, remark


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
