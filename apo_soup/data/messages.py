"""Messages checked turn by turn: roles, order, content, reasoning and tool calls; older ways of saying the same."""

import json
from typing import Any

from apo_soup.data.rows import Fields, RowError, described
from apo_soup.data.turn_fields import REASONING

END_OF_THINKING = "</think>"
ROLES = ("system", "user", "assistant", "tool")
# OpenAI's older name of a tool's turn, and its newer one of a system turn.
OTHER_ROLES = {"function": "tool", "developer": "system"}
MAY_FOLLOW = {"user": ("system", "assistant", None), "assistant": ("user", "tool"), "tool": ("assistant", "tool")}


def as_messages(value: Any, role: str, name: str) -> list[Fields]:
    """A message list as it is, or a plain string as one turn of `role`; checked as `checked_messages` does."""
    if isinstance(value, str):
        value = [{"role": role, "content": value}]
    return checked_messages(value, name)


def checked_messages(messages: Any, name: str) -> list[Fields]:
    """The turns of the field `name`, with calls in one shape.

    Raises:
        RowError: naming the turn and its fault.
    """
    if not isinstance(messages, list) or not messages:
        raise RowError(f"field {name}: expected a list of turns, got {described(messages)}")
    return [checked_message(m, f"field {name}[{number}]", number) for number, m in enumerate(messages)]


def checked_message(message: Any, place: str, number: int) -> Fields:
    """One turn; a call's arguments become a mapping, and a turn of calls alone gets empty content.

    Raises:
        RowError: beginning with `place`, the name of the turn.
    """
    if not isinstance(message, dict):
        raise RowError(f"{place}: expected a mapping with role and content, got {described(message)}")
    message = _current_form(message, place)
    role, content, calls = message.get("role"), message.get("content"), message.get("tool_calls")
    if role not in ROLES:
        raise RowError(f"{place}.role: expected one of {', '.join(ROLES)}, got {role!r}")
    if role == "system" and number > 0:
        raise RowError(f"{place}.role: expected a system turn in the first place only, got one in place {number}")
    if calls:
        if role != "assistant":
            raise RowError(f"{place}.tool_calls: expected calls in assistant turns only, got some in a {role} turn")
        message = {**message, "content": content or "", "tool_calls": checked_calls(calls, f"{place}.tool_calls")}
        content = message["content"]
    if not isinstance(content, str):
        raise RowError(f"{place}.content: expected text, got {described(content)}")
    return _checked_answer(message, content, place) if role == "assistant" else message


def _current_form(message: Fields, place: str) -> Fields:
    """A turn with today's role names, one call list and one text, whichever way they were written."""
    role = message.get("role")
    changed: dict[str, Any] = {}
    if isinstance(role, str) and role in OTHER_ROLES:
        changed["role"] = OTHER_ROLES[role]
    if isinstance(message.get("content"), list):
        changed["content"] = _joined_text(message["content"], place)
    if message.get("function_call"):
        if message.get("tool_calls"):
            raise RowError(f"{place}: expected tool_calls or function_call, got both; remove one")
        changed["tool_calls"] = [{"type": "function", "function": message["function_call"]}]
    if not changed and message.get("tool_calls") != [] and "function_call" not in message:
        return message
    kept = {k: v for k, v in message.items() if k != "function_call" and not (k == "tool_calls" and v == [])}
    return {**kept, **changed}


def _joined_text(parts: list[Any], place: str) -> str:
    """A content of text parts, as OpenAI writes it, as one text.

    Raises:
        RowError: a part is no text, such as an image.
    """
    texts = []
    for number, part in enumerate(parts):
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part
        if not isinstance(text, str):
            raise RowError(f"{place}.content[{number}]: expected a part of type text, got {described(part)}")
        texts.append(text)
    return "".join(texts)


def _checked_answer(message: Fields, content: str, place: str) -> Fields:
    """An assistant turn with its reasoning under the names that templates read."""
    reasoning = next((message[n] for n in REASONING if message.get(n) is not None), None)
    if reasoning is not None:
        if not isinstance(reasoning, str):
            raise RowError(f"{place}.reasoning_content: expected text, got {described(reasoning)}")
        if reasoning.strip() and content.lstrip().startswith("<think>"):
            raise RowError(
                f"{place}: expected reasoning in the content or in a field of its own, got it in both; remove one"
            )
        message = {"thinking": reasoning, **message, "reasoning_content": reasoning}
    if not content.strip() and not message.get("tool_calls") and not reasoning:
        raise RowError(f"{place}.content: expected an answer, got an assistant turn that is empty")
    if content.lstrip().startswith("<think>") and END_OF_THINKING not in content:
        raise RowError(f"{place}.content: expected </think>, got a think block that is never closed")
    return message


def checked_calls(calls: Any, place: str) -> list[Fields]:
    """Structured calls, their arguments as mappings whichever way they were written.

    Raises:
        RowError: naming the call that is none.
    """
    if not isinstance(calls, list):
        raise RowError(f"{place}: expected a list of calls, got {described(calls)}")
    checked = []
    for number, call in enumerate(calls):
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RowError(f"{place}[{number}]: expected a call with function.name, got {described(call)}")
        arguments = call_arguments(function.get("arguments", {}), f"{place}[{number}].function.arguments")
        identity = {"id": call["id"]} if "id" in call else {}
        named = {"name": function["name"], "arguments": arguments}
        checked.append({**identity, "type": "function", "function": named})
    return checked


def call_arguments(arguments: Any, place: str) -> Fields:
    """The arguments of a call as a mapping; JSON text is decoded, and once more where a text was written as JSON.

    Raises:
        RowError: they are no mapping, or hold a number that JSON has no word for.
    """
    decoded = arguments
    for _ in range(2):
        if isinstance(decoded, str):
            try:
                decoded = json.loads(decoded, parse_constant=_no_constant)
            except ValueError as error:
                told = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                raise RowError(f"{place}: expected JSON, got {described(arguments)} ({told})") from None
    if not isinstance(decoded, dict):
        raise RowError(f"{place}: expected a mapping of arguments, got {described(arguments)}")
    return decoded


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def ordered_messages(messages: list[Fields], name: str) -> list[Fields]:
    """`messages` if their roles follow one another as in a conversation.

    Behind an optional system turn the user begins; the assistant answers a user or a tool, a tool answers the
    assistant or follows another tool, and the user speaks again only when answered.

    Raises:
        RowError: naming the first turn that may not stand where it does.
    """
    before = None
    for number, message in enumerate(messages):
        role = message["role"]
        if role != "system" and before not in MAY_FOLLOW[role]:
            expected = " or ".join(r if r else "the beginning" for r in MAY_FOLLOW[role])
            got = f"one behind a {before} turn" if before else "one that comes first"
            raise RowError(f"field {name}[{number}].role: expected {role} behind {expected}, got {got}")
        before = role
    return messages


def opens_unclosed_block(content: str) -> bool:
    """Whether a text opens a think block that it never closes."""
    return content.rfind("<think>") > content.rfind(END_OF_THINKING)
