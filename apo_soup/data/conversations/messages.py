"""Turns checked one by one: content, reasoning and tool calls. What dialect they are in is `dialects.py`'s work."""

import json
import re
from typing import Any

from apo_soup.data.conversations.blank_text import is_blank
from apo_soup.data.conversations.call_fields import read_call
from apo_soup.data.conversations.dialects import (
    holds_turns,
    plain_turns,
    system_text,
    told_turns,
    turn_list,
    written_value,
)
from apo_soup.data.conversations.json_values import check_json
from apo_soup.data.conversations.reasoning import one_reasoning
from apo_soup.data.conversations.tool_results import in_call_order
from apo_soup.data.sources.json_text import json_value
from apo_soup.data.sources.rows import Fields, RowError, described
from apo_soup.errors import first_line
from apo_soup.models.think_tags import END_OF_THINKING, THINKING

# How a call begins that stands in a content as the templates of families write it.
CALL_MARK = re.compile(r"<(?:tool_call|function_call|functioncall)>|<function=|\[TOOL_CALLS\]|<｜tool▁calls▁begin｜>")


def as_messages(value: Any, role: str, name: str) -> list[Fields]:
    """A message list as it is, or a plain string as one turn of `role`; checked as `checked_messages` does.

    Raises:
        RowError: naming the turn and its fault, or a text that is a list of turns.
    """
    if isinstance(value, str):
        if value[:1] == "[" and holds_turns(written_value(value)):
            raise RowError(f"field {name}: expected text or turns, got turns written as text; store them as a list")
        value = [{"role": role, "content": value}]
    return checked_messages(value, name)


def checked_messages(messages: Any, name: str) -> list[Fields]:
    """The turns of the field `name`, in whatever dialect they are written, with calls in one shape.

    Raises:
        RowError: naming the turn and its fault.
    """
    if isinstance(messages, str):
        messages = written_value(messages)
    messages = turn_list(messages)
    if not isinstance(messages, list) or not messages:
        raise RowError(f"field {name}: expected a list of turns, got {described(messages)}; correct the row")
    if plain_turns(messages):
        turns = [checked_message(m, f"field {name}[{number}]") for number, m in enumerate(messages)]
    else:
        turns = [checked_message(turn, place) for place, turn in told_turns(messages, name)]
    return in_call_order(turns, name)


def checked_message(message: Fields, place: str) -> Fields:
    """One turn of a role; a call's arguments become a mapping, and a turn of calls alone gets empty content.

    Raises:
        RowError: beginning with `place`, the name of the turn.
    """
    message = _current_form(message, place)
    role, content, calls = message["role"], message.get("content"), message.get("tool_calls")
    if calls:
        if role != "assistant":
            raise RowError(
                f"{place}.tool_calls: expected calls in assistant turns only, got some in a {role} turn; correct it"
            )
        message = {**message, "content": content or "", "tool_calls": checked_calls(calls, f"{place}.tool_calls")}
        content = message["content"]
        written = CALL_MARK.search(content.rpartition(END_OF_THINKING)[2]) if isinstance(content, str) else None
        if written:
            raise RowError(
                f"{place}: expected calls in tool_calls or in the content, got {written[0]} in the content beside "
                "tool_calls; remove one"
            )
    if not isinstance(content, str):
        refused = isinstance(message.get("refusal"), str)
        cure = "write its refusal there if it is to be trained, or leave the row out" if refused else "correct the turn"
        raise RowError(f"{place}.content: expected text, got {described(content)}; {cure}")
    if role == "user" and is_blank(content):
        raise RowError(f"{place}.content: expected words, got a user turn that is empty; fill it, or leave the row out")
    return _checked_answer(message, content, place) if role == "assistant" else message


def _current_form(message: Fields, place: str) -> Fields:
    """A turn with one call list, whichever way calls were written, and none where there are none.

    Tables hold them as text, for their arguments have no one shape. A field that is null is none: clients write every
    field that a turn may have, and templates ask whether one is there.
    """
    if any(value is None for value in message.values()):
        message = {k: v for k, v in message.items() if v is not None or k in ("role", "content")}
    calls = message.get("tool_calls")
    if isinstance(calls, str):
        found = written_value(calls) if calls.strip() not in ("", "null", "None") else []
        calls = [found] if isinstance(found, dict) else found
        message = {**message, "tool_calls": calls}
    if "function_call" not in message and calls != []:
        return message
    kept = {k: v for k, v in message.items() if k != "function_call" and not (k == "tool_calls" and v == [])}
    if message.get("function_call"):
        older = [{"type": "function", "function": message["function_call"]}]
        if message.get("tool_calls") and _functions(message["tool_calls"], place) != _functions(older, place):
            raise RowError(f"{place}: expected tool_calls or function_call, got both; remove one")
        kept.setdefault("tool_calls", older)
    return kept


def _functions(calls: Any, place: str) -> list[Fields]:
    return [call["function"] for call in checked_calls(calls, place)]


def with_system(system: Any, messages: list[Fields]) -> list[Fields]:
    """`messages` below a system turn, where a row has a system text and no system turn of its own.

    Raises:
        RowError: the system text is none, or the row has a system turn that says something else.
    """
    if system is None:
        return messages
    system = system_text(system)
    if not system:
        return messages
    if messages and messages[0]["role"] == "system":
        if messages[0]["content"].strip() != system.strip():
            raise RowError(
                "field system: expected the text of the row's own system turn, got another text; remove one of them"
            )
        return messages
    return [{"role": "system", "content": system}, *messages]


def _checked_answer(message: Fields, content: str, place: str) -> Fields:
    """An assistant turn with its reasoning under the names that templates read."""
    message = one_reasoning(message, content, place)
    if is_blank(content) and not message.get("tool_calls") and is_blank(message.get("reasoning_content") or ""):
        raise RowError(f"{place}.content: expected an answer, got an assistant turn that is empty; fill or remove it")
    if content.lstrip().startswith(THINKING) and END_OF_THINKING not in content:
        raise RowError(f"{place}.content: expected </think>, got a think block that is never closed; close it")
    return message


def checked_calls(calls: Any, place: str) -> list[Fields]:
    """Structured calls, their arguments as mappings whichever way they were written.

    Raises:
        RowError: naming the call that is none.
    """
    if not isinstance(calls, list):
        raise RowError(f"{place}: expected a list of calls, got {described(calls)}; write a list")
    checked = [read_call(call, f"{place}[{number}]") for number, call in enumerate(calls)]
    for number, call in enumerate(checked):
        where = f"{place}[{number}].function.arguments"
        call["function"]["arguments"] = call_arguments(call["function"]["arguments"], where)
        check_json(call["function"]["arguments"], where)
    return checked


def call_arguments(arguments: Any, place: str) -> Fields:
    """The arguments of a call as a mapping; JSON text is decoded, and once more where a text was written as JSON. An
    empty text and the JSON text `null` are no arguments.

    Raises:
        RowError: they are no mapping, or hold a number that JSON has no word for.
    """
    decoded = arguments
    for _ in range(2):
        if isinstance(decoded, str):
            if decoded.strip() in ("", "null"):
                return {}
            try:
                decoded = json_value(decoded, strict=True)
            except (ValueError, RecursionError) as error:
                told = error.msg if isinstance(error, json.JSONDecodeError) else first_line(error)
                raise RowError(f"{place}: expected JSON, got {described(arguments)} ({told}); correct it") from None
    if not isinstance(decoded, dict):
        raise RowError(f"{place}: expected a mapping of arguments, got {described(arguments)}; write one")
    return decoded
