"""A raw row as a conversation, a plain text or a preference pair, checked field by field."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from apo_soup.data.formats import Fields, found, with_system
from apo_soup.data.rows import RowError

ROLES = ("system", "user", "assistant", "tool")
# The names that a message's reasoning goes by; templates read the first, gpt-oss's reads `thinking`.
REASONING = ("reasoning_content", "thinking", "reasoning")
TOOL_KEYS = ("tools", "xml_tools", "python_tools")


@dataclass(frozen=True)
class Conversation:
    """Messages in order, the row's template arguments, and how many assistant turns came as its `completion`."""

    messages: list[Fields]
    kwargs: dict[str, Any] = field(default_factory=dict)
    completion_turns: int = 0

    @cached_property
    def thinks(self) -> bool:
        """Whether the row is in think mode, as the template will decide it."""
        system = self.kwargs.get("custom_instructions") or ""
        if self.messages and self.messages[0]["role"] == "system":
            system = self.messages[0]["content"]
        words = system.split()
        if "/no_think" in words:
            return False
        if "/think" in words:
            return True
        return bool(self.kwargs.get("enable_thinking", True))

    @property
    def mode(self) -> str:
        return "think" if self.thinks else "no_think"


@dataclass(frozen=True)
class Text:
    """A row of plain text, all of it trained; no template is laid over it."""

    text: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    mode: str = "text"


@dataclass(frozen=True)
class Pair:
    """A preference: the prompt's messages and the two answers that follow it."""

    prompt: list[Fields]
    chosen: list[Fields]
    rejected: list[Fields]
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def mode(self) -> str:
        return Conversation(self.prompt, self.kwargs).mode


def supervised(fields: Fields, defaults: dict[str, Any]) -> Conversation | Text:
    """The conversation or text of a row in canonical fields (`apo_soup.data.formats.canonical`); raises RowError."""
    if "messages" in fields or "text" not in fields:
        return conversation(fields, defaults)
    text = fields["text"]
    if not isinstance(text, str):
        raise RowError(f"field text: expected text, found {found(text)}")
    if not text.strip():
        raise RowError("field text: it is empty")
    return Text(text)


def conversation(fields: Fields, defaults: dict[str, Any]) -> Conversation:
    """The conversation of a row with `messages`, or with `prompt` and `completion`.

    Raises:
        RowError: naming the field, what was found and what was expected.
    """
    completion_turns = 0
    system = fields.get("system")
    if "messages" in fields:
        messages = ordered(with_system(system, checked_messages(fields["messages"], "messages")), "messages")
    elif "prompt" in fields and "completion" in fields:
        prompt, completion = fields["prompt"], fields["completion"]
        messages = with_system(system, as_messages(prompt, "user", "prompt"))
        answers = as_messages(completion, "assistant", "completion")
        completion_turns = sum(m["role"] == "assistant" for m in answers)
        messages = ordered(messages + answers, "prompt + completion")
    else:
        raise RowError(f"field messages is missing; the row has {', '.join(sorted(fields)) or 'no fields'}")
    if not any(m["role"] == "assistant" for m in messages):
        raise RowError("field messages: no assistant turn, so nothing would be trained")
    item = Conversation(messages, template_kwargs(fields, defaults), completion_turns)
    for number, message in enumerate(messages):
        content = message["content"]
        if message["role"] == "assistant" and item.thinks and content.rfind("<think>") > content.rfind("</think>"):
            raise RowError(f"field messages[{number}].content: a think block is opened and never closed")
    return item


def pair(fields: Fields, defaults: dict[str, Any]) -> Pair:
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
        while shared < min(len(chosen), len(rejected)) - 1 and _words(chosen[shared]) == _words(rejected[shared]):
            shared += 1
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
        if not prompt or chosen[0]["role"] != "assistant" or rejected[0]["role"] != "assistant":
            raise RowError("fields chosen and rejected: they do not share a prompt that ends before an assistant turn")
        given = fields.get("prompt")
        if isinstance(given, list) and given and given[0].get("role") == "system" and prompt[0]["role"] != "system":
            prompt = [checked_message(given[0], "field prompt[0]", 0), *prompt]
    prompt = with_system(fields.get("system"), prompt)
    if [_words(m) for m in chosen] == [_words(m) for m in rejected]:
        raise RowError("fields chosen and rejected: both sides are the same")
    for side, answer in (("chosen", chosen), ("rejected", rejected)):
        ordered(prompt + answer, f"prompt + {side}")
        content = answer[-1]["content"]
        if content.rfind("<think>") > content.rfind("</think>"):
            raise RowError(f"field {side}: a think block is opened and never closed")
        if len(answer) > 1:
            raise RowError(
                f"field {side}: {len(answer)} turns follow the prompt and only the assistant's answer may; "
                "conversations that part before their last turn are no pair"
            )
    return Pair(prompt, chosen, rejected, template_kwargs(fields, defaults))


def _words(message: Fields) -> tuple[Any, ...]:
    """What a turn says, without the marks that data sets put beside it, such as an id or a time."""
    return tuple(message.get(key) for key in ("role", "content", "tool_calls", "reasoning_content"))


def template_kwargs(fields: Fields, defaults: dict[str, Any]) -> dict[str, Any]:
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
    if "add_generation_prompt" in merged:
        raise RowError("chat_template_kwargs: add_generation_prompt is not a row's to give")
    if not isinstance(merged.get("custom_instructions") or "", str):
        raise RowError(f"custom_instructions: expected text, found {found(merged['custom_instructions'])}")
    for key in TOOL_KEYS:
        tools = fields.get(key)
        # An empty column says nothing, as in the rows without tools of a set that has some.
        if not tools or (isinstance(tools, str) and tools.strip() in ("", "[]")):
            tools = merged.get(key)
        if isinstance(tools, str):
            try:
                tools = json.loads(tools)
            except json.JSONDecodeError:
                tools = [tools]
        if tools and not isinstance(tools, list):
            raise RowError(f"field {key}: expected a list of tools, found {found(tools)}")
        if tools:
            merged[key] = tools
        else:
            merged.pop(key, None)
    return merged


def as_messages(value: Any, role: str, name: str) -> list[Fields]:
    """A message list as it is, or a plain string as one turn of `role`."""
    if isinstance(value, str):
        value = [{"role": role, "content": value}]
    return checked_messages(value, name)


def checked_messages(messages: Any, name: str) -> list[Fields]:
    """Sound turns, with calls in one shape; raises RowError with the turn and the fault otherwise."""
    if not isinstance(messages, list) or not messages:
        raise RowError(f"field {name}: expected a list of turns, found {found(messages)}")
    return [checked_message(m, f"field {name}[{number}]", number) for number, m in enumerate(messages)]


def checked_message(message: Any, place: str, number: int) -> Fields:
    """One turn; a call's arguments become a mapping, and a turn of calls alone gets empty content."""
    if not isinstance(message, dict):
        raise RowError(f"{place}: expected a mapping with role and content, found {found(message)}")
    role, content, calls = message.get("role"), message.get("content"), message.get("tool_calls")
    if role not in ROLES:
        raise RowError(f"{place}.role: expected one of {', '.join(ROLES)}, found {role!r}")
    if role == "system" and number > 0:
        raise RowError(f"{place}.role: a system turn may only come first")
    if calls:
        if role != "assistant":
            raise RowError(f"{place}.tool_calls: only the assistant calls tools, found them in a {role} turn")
        message = {**message, "content": content or "", "tool_calls": checked_calls(calls, f"{place}.tool_calls")}
        content = message["content"]
    if not isinstance(content, str):
        raise RowError(f"{place}.content: expected text, found {found(content)}")
    reasoning = (
        next((message[n] for n in REASONING if message.get(n) is not None), None) if role == "assistant" else None
    )
    if reasoning is not None:
        if not isinstance(reasoning, str):
            raise RowError(f"{place}.reasoning_content: expected text, found {found(reasoning)}")
        if reasoning.strip() and content.lstrip().startswith("<think>"):
            raise RowError(f"{place}: reasoning stands both in the content's think block and in a field of its own")
        message = {"thinking": reasoning, **message, "reasoning_content": reasoning}
    if role == "assistant":
        if not content.strip() and not calls and not reasoning:
            raise RowError(f"{place}.content: the assistant turn is empty")
        if content.lstrip().startswith("<think>") and "</think>" not in content:
            raise RowError(f"{place}.content: the think block is opened and never closed")
    return message


def checked_calls(calls: Any, place: str) -> list[Fields]:
    """Structured calls, their arguments as mappings whichever way they were written."""
    if not isinstance(calls, list):
        raise RowError(f"{place}: expected a list of calls, found {found(calls)}")
    checked = []
    for number, call in enumerate(calls):
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RowError(f"{place}[{number}]: expected a call with function.name, found {found(call)}")
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except json.JSONDecodeError as error:
                raise RowError(
                    f"{place}[{number}].function.arguments: expected JSON, found {found(arguments)} ({error.msg})"
                ) from None
        identity = {"id": call["id"]} if "id" in call else {}
        named = {"name": function["name"], "arguments": arguments}
        checked.append({**identity, "type": "function", "function": named})
    return checked


def ordered(messages: list[Fields], name: str) -> list[Fields]:
    """`messages` if their roles follow one another as speech does; raises RowError at the first that does not.

    Behind an optional system turn the user begins; the assistant answers a user or a tool, a tool answers the
    assistant or follows another tool, and the user speaks again only when answered.
    """
    may_follow = {"user": ("system", "assistant", None), "assistant": ("user", "tool"), "tool": ("assistant", "tool")}
    before = None
    for number, message in enumerate(messages):
        role = message["role"]
        if role != "system" and before not in may_follow[role]:
            behind = f"follows a {before} turn" if before else "comes first"
            raise RowError(f"field {name}[{number}].role: wrong order, {role} {behind}")
        before = role
    return messages
