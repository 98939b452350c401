"""A raw row as a conversation or a preference pair, checked field by field."""

import json
from dataclasses import dataclass, field
from typing import Any

from corpus.rows import RowError

ROLES = ("system", "user", "assistant", "tool")
TOOL_KEYS = ("tools", "xml_tools", "python_tools")


@dataclass(frozen=True)
class Conversation:
    """Messages in order, the row's template arguments, and how many assistant turns came as its `completion`."""

    messages: list[dict[str, Any]]
    kwargs: dict[str, Any] = field(default_factory=dict)
    completion_turns: int = 0

    @property
    def thinks(self) -> bool:
        """Whether the row is in think mode, as the template will decide it."""
        system = self.kwargs.get("custom_instructions") or ""
        if self.messages and self.messages[0]["role"] == "system":
            system = self.messages[0]["content"]
        if "/no_think" in system:
            return False
        if "/think" in system:
            return True
        return bool(self.kwargs.get("enable_thinking", True))


@dataclass(frozen=True)
class Pair:
    """A preference: the prompt's messages and the two answers that follow it."""

    prompt: list[dict[str, Any]]
    chosen: list[dict[str, Any]]
    rejected: list[dict[str, Any]]
    kwargs: dict[str, Any] = field(default_factory=dict)


def conversation(fields: dict[str, Any], defaults: dict[str, Any]) -> Conversation:
    """The conversation of a row with `messages`, or with `prompt` and `completion`.

    Raises:
        RowError: naming the field, what was found and what was expected.
    """
    completion_turns = 0
    if "messages" in fields:
        messages = checked_messages(fields["messages"], "messages")
    elif "prompt" in fields and "completion" in fields:
        prompt, completion = fields["prompt"], fields["completion"]
        messages = as_messages(prompt, "user", "prompt")
        answers = as_messages(completion, "assistant", "completion")
        completion_turns = sum(m["role"] == "assistant" for m in answers)
        messages = messages + answers
    else:
        raise RowError(f"field messages is missing; the row has {', '.join(sorted(fields)) or 'no fields'}")
    if not any(m["role"] == "assistant" for m in messages):
        raise RowError("field messages: no assistant turn, so nothing would be trained")
    return Conversation(messages, template_kwargs(fields, defaults), completion_turns)


def pair(fields: dict[str, Any], defaults: dict[str, Any]) -> Pair:
    """The pair of a row with `chosen` and `rejected`, with or without an explicit `prompt`.

    Where both sides are whole conversations, the prompt is what they share up to the last assistant turn; a `prompt`
    string beside them is only a copy of the first user turn (as the Tulu3 mixture ships it) and is not needed.
    """
    for name in ("chosen", "rejected"):
        if name not in fields:
            raise RowError(f"field {name} is missing; the row has {', '.join(sorted(fields)) or 'no fields'}")
    chosen = as_messages(fields["chosen"], "assistant", "chosen")
    rejected = as_messages(fields["rejected"], "assistant", "rejected")
    if chosen[0]["role"] == "assistant":
        if "prompt" not in fields:
            raise RowError("field prompt is missing, and chosen begins with the assistant")
        prompt = as_messages(fields["prompt"], "user", "prompt")
    else:
        shared = 0
        while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
            shared += 1
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
        if not prompt or chosen[0]["role"] != "assistant" or rejected[0]["role"] != "assistant":
            raise RowError("fields chosen and rejected: they do not share a prompt that ends before an assistant turn")
    if chosen == rejected:
        raise RowError("fields chosen and rejected: both sides are the same")
    return Pair(prompt, chosen, rejected, template_kwargs(fields, defaults))


def template_kwargs(fields: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Template arguments: the recipe's, then the row's `chat_template_kwargs`, then its tool columns."""
    own = fields.get("chat_template_kwargs") or {}
    if isinstance(own, str):
        try:
            own = json.loads(own)
        except json.JSONDecodeError:
            raise RowError(f"field chat_template_kwargs: expected a mapping, found text {own[:40]!r}") from None
    if not isinstance(own, dict):
        raise RowError(f"field chat_template_kwargs: expected a mapping, found {type(own).__name__}")
    merged = {**defaults, **own}
    for key in TOOL_KEYS:
        tools = fields.get(key, merged.get(key))
        if isinstance(tools, str):
            try:
                tools = json.loads(tools)
            except json.JSONDecodeError:
                tools = [tools]
        if tools:
            merged[key] = tools
    return merged


def as_messages(value: Any, role: str, name: str) -> list[dict[str, Any]]:
    """A message list as it is, or a plain string as one turn of `role`."""
    if isinstance(value, str):
        value = [{"role": role, "content": value}]
    return checked_messages(value, name)


def checked_messages(messages: Any, name: str) -> list[dict[str, Any]]:
    """`messages` if every turn is sound; raises RowError with the turn and the fault otherwise."""
    if not isinstance(messages, list) or not messages:
        raise RowError(f"field {name}: expected a list of turns, found {_found(messages)}")
    for number, message in enumerate(messages):
        place = f"field {name}[{number}]"
        if not isinstance(message, dict):
            raise RowError(f"{place}: expected a mapping with role and content, found {_found(message)}")
        role = message.get("role")
        if role not in ROLES:
            raise RowError(f"{place}.role: expected one of {', '.join(ROLES)}, found {role!r}")
        if role == "system" and number > 0:
            raise RowError(f"{place}.role: a system turn may only come first")
        content, calls = message.get("content"), message.get("tool_calls")
        if role == "assistant" and calls and content is None:
            continue
        if not isinstance(content, str):
            raise RowError(f"{place}.content: expected text, found {_found(content)}")
        if role == "assistant" and not content.strip() and not calls and not message.get("reasoning_content"):
            raise RowError(f"{place}.content: the assistant turn is empty")
        if role == "assistant" and "<think>" in content and "</think>" not in content:
            raise RowError(f"{place}.content: the think block is opened and never closed")
    return messages


def _found(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text[:40]}{'...' if len(text) > 40 else ''}"
