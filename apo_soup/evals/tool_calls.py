"""Tool calls as models write them, parsed and checked against the schemas of the tools they were offered.

Two formats, SmolLM3's: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, and Python between `<code>` and
`</code>`, of which a single call with plain values counts.
"""

import ast
import json
import re
from typing import Any

import jsonschema
from referencing.exceptions import Unresolvable

from apo_soup.data.sources.rows import RowError
from apo_soup.errors import first_line

Call = dict[str, Any]
_XML_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
_PYTHON_CALL = re.compile(r"<code>\s*(.*?)\s*</code>", re.DOTALL)


def first_call(text: str, tool_format: str, tools: list[dict[str, Any]]) -> Call | None:
    """The first call of an answer with `name` and `arguments`, or None where there is none that can be read.

    Args:
        tool_format: `xml` or `python`.
    """
    match = (_XML_CALL if tool_format == "xml" else _PYTHON_CALL).search(text)
    if not match:
        return None
    return _from_json(match[1]) if tool_format == "xml" else _from_python(match[1], tools)


def every_call(text: str) -> list[Call] | None:
    """All calls of an answer in XML tags, in order; None where one of them cannot be read."""
    calls = [_from_json(found) for found in _XML_CALL.findall(text)]
    read = [call for call in calls if call is not None]
    return read if len(read) == len(calls) else None


def _from_json(text: str) -> Call | None:
    try:
        call = json.loads(text)
    except (ValueError, RecursionError):
        return None
    named = isinstance(call, dict) and isinstance(call.get("name"), str) and isinstance(call.get("arguments"), dict)
    return {"name": call["name"], "arguments": call["arguments"]} if named else None


def _from_python(text: str, tools: list[dict[str, Any]]) -> Call | None:
    """A call as `name(1, key="x")`; values by position take the names of the tool's parameters in their order."""
    try:
        node = ast.parse(text, mode="eval").body
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            return None
        schema = parameters_schema(node.func.id, tools) or {}
        names = list(schema.get("properties", {}))
        if len(node.args) > len(names) or any(k.arg is None for k in node.keywords):
            return None
        arguments = {n: ast.literal_eval(v) for n, v in zip(names, node.args, strict=False)}
        arguments |= {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None
    return {"name": node.func.id, "arguments": arguments}


def parameters_schema(name: str, tools: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The JSON Schema of a tool's parameters, or None for a tool that was not offered.

    A tool may stand as it is or under `function`, as OpenAI writes it; `{"a": "integer"}` is short for an object whose
    parts are all required.
    """
    for entry in tools:
        described = entry.get("function", entry)
        if described.get("name") == name:
            schema = described.get("parameters") or {}
            if schema and all(isinstance(v, str) for v in schema.values()) and schema.get("type") != "object":
                properties = {key: {"type": kind} for key, kind in schema.items()}
                return {"type": "object", "properties": properties, "required": list(schema),
                        "additionalProperties": False}  # fmt: skip
            return schema
    return None


def call_fault(call: Call | None, tools: list[dict[str, Any]]) -> str | None:
    """Why a call is not valid, in a few words, or None.

    Raises:
        RowError: the tool's schema points at nothing, or has a pattern that is none, or goes round in a circle.
    """
    if call is None:
        return "no call that can be read"
    schema = parameters_schema(call["name"], tools)
    if schema is None:
        return f"no tool is called {call['name']}"
    validator = jsonschema.validators.validator_for(schema)(schema)
    try:
        error = jsonschema.exceptions.best_match(validator.iter_errors(call["arguments"]))
    except (re.error, Unresolvable, RecursionError) as fault:
        told = f"expected JSON Schema of {call['name']}, got what is none ({first_line(fault)[:120]})"
        raise RowError(f"field tools: {told}; correct it") from fault
    return None if error is None else error.message
