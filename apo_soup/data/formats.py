"""The shapes that rows come in, and how each becomes the one this project works on.

Supervised rows become `messages`, `prompt` + `completion`, or `text`; preference rows become `chosen` and `rejected`
with or without `prompt`. Other fields (template arguments, tools) pass through. A converter changes names and nesting
only; whether the words are sound is checked behind it, in `apo_soup.data.conversation`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from apo_soup.data.messages import OTHER_ROLES
from apo_soup.data.rows import Fields, RowError, described
from apo_soup.data.turn_fields import LOSS_FLAGS, TOOL_FIELDS

SPEAKERS = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "function_call": "function_call",
    "tool_call": "function_call",
    "observation": "tool",
    "function_response": "tool",
    "tool": "tool",
    "ipython": "tool",
    **OTHER_ROLES,
}


# Fields that every format but plain text reads.
COMMON = ("system", "chat_template_kwargs", *TOOL_FIELDS)


@dataclass(frozen=True)
class Format:
    """A shape of rows: the fields that mark it, how a row of it is converted, and the fields that are read of it beside
    these; copies of them that data sets keep count as read.
    """

    name: str
    needs: tuple[str, ...]
    convert: Callable[[Fields], Fields]
    beside: tuple[str, ...] = ()

    @cached_property
    def reads(self) -> frozenset[str]:
        """Every field that is read of a row."""
        return frozenset((*self.needs, *self.beside))


def sharegpt(fields: Fields) -> Fields:
    """`conversations` of `from` and `value`, with `function_call` and `observation` turns, and a `system` column."""
    messages = sharegpt_messages(fields["conversations"], "conversations")
    rest = {k: v for k, v in fields.items() if k not in ("conversations", "system")}
    return {**rest, "messages": with_system(fields.get("system"), messages)}


def sharegpt_preference(fields: Fields) -> Fields:
    """A ShareGPT prompt, and one turn of `from` and `value` each for `chosen` and `rejected`."""
    prompt = with_system(fields.get("system"), sharegpt_messages(fields["conversations"], "conversations"))
    rest = {k: v for k, v in fields.items() if k not in ("conversations", "system", "chosen", "rejected")}
    sides = {}
    for side in ("chosen", "rejected"):
        value = fields[side]
        sides[side] = (
            value if isinstance(value, str) else sharegpt_messages(value if isinstance(value, list) else [value], side)
        )
    return {**rest, "prompt": prompt, **sides}


def alpaca(fields: Fields) -> Fields:
    """`instruction`, an optional `input` below it, `output`; also `system`, and `history` as question-answer lists."""
    messages: list[Fields] = []
    history = fields.get("history") or []
    if not isinstance(history, list) or any(not isinstance(h, list) or len(h) != 2 for h in history):
        raise RowError(f"field history: expected a list of [question, answer], got {described(history)}")
    for question, answer in history:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    instruction, context = fields["instruction"], fields.get("input") or ""
    for name, value in (("instruction", instruction), ("input", context)):
        if not isinstance(value, str):
            raise RowError(f"field {name}: expected text, got {described(value)}")
    asked = f"{instruction}\n\n{context}" if context.strip() else instruction
    messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": fields["output"]}]
    rest = {k: v for k, v in fields.items() if k not in ("instruction", "input", "output", "system", "history", "text")}
    return {**rest, "messages": with_system(fields.get("system"), messages)}


def unchanged(fields: Fields) -> Fields:
    """The fields of a row that already has one of our shapes."""
    return fields


def text_only(fields: Fields) -> Fields:
    """The text alone: template arguments have no template to go to."""
    return {"text": fields["text"]}


# In the order they are tried: a row with `messages` and a copy of its first turn as `prompt` is a conversation.
SUPERVISED = (
    # HuggingFaceH4's sets keep a copy of the first turn as `prompt`.
    Format("messages", ("messages",), unchanged, (*COMMON, "prompt", "prompt_id")),
    Format("sharegpt", ("conversations",), sharegpt, COMMON),
    # Alpaca's own file keeps the rendered prompt as `text`.
    Format("alpaca", ("instruction", "output"), alpaca, (*COMMON, "input", "history", "text")),
    Format("prompt_completion", ("prompt", "completion"), unchanged, COMMON),
    Format("text", ("text",), text_only, ()),
)
PREFERENCE = (
    Format("sharegpt_preference", ("conversations", "chosen", "rejected"), sharegpt_preference, COMMON),
    # UltraFeedback's sets keep the chosen conversation as `messages`.
    Format("preference", ("chosen", "rejected"), unchanged, (*COMMON, "prompt", "prompt_id", "messages")),
)


def formats_of(pairs: bool) -> tuple[Format, ...]:
    """The formats of preference rows, or of supervised ones."""
    return PREFERENCE if pairs else SUPERVISED


def missing_field(name: str, fields: Fields) -> RowError:
    """The error of a row without a field that it needs."""
    have = ", ".join(sorted(fields)) or "no fields"
    return RowError(f"field {name}: expected a value, got a row with {have}; map a column to it with rename")


def recognise(fields: Fields, formats: tuple[Format, ...]) -> Format | None:
    """The first format all of whose marks a row has, or None."""
    return next((f for f in formats if all(name in fields for name in f.needs)), None)


def canonical(fields: Fields, row_format: Format) -> Fields:
    """A row's fields in this project's own shape.

    Raises:
        RowError: a field that the format needs is missing, or its inside is not what the format says.
    """
    for name in row_format.needs:
        if name not in fields:
            raise missing_field(name, fields)
    return row_format.convert(fields)


def sharegpt_messages(turns: Any, name: str) -> list[Fields]:
    """Turns of `from` and `value` (or `role` and `content`) as messages; calls become structured `tool_calls`.

    Raises:
        RowError: naming the turn of the field `name` that is none.
    """
    if not isinstance(turns, list):
        raise RowError(f"field {name}: expected a list of turns, got {described(turns)}")
    messages: list[Fields] = []
    for number, turn in enumerate(turns):
        if not isinstance(turn, dict):
            raise RowError(f"field {name}[{number}]: expected a mapping with from and value, got {described(turn)}")
        speaker, value = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
        beside = {k: v for k, v in turn.items() if k not in ("from", "value", "role", "content")}
        role = SPEAKERS.get(speaker) if isinstance(speaker, str) else None
        if role is None:
            raise RowError(f"field {name}[{number}].from: expected one of {', '.join(SPEAKERS)}, got {speaker!r}")
        if role == "function_call":
            calls = calls_of_json(value, f"field {name}[{number}].value")
            before = messages[-1] if messages else {}
            if isinstance(before.get("tool_calls"), list) and before["tool_calls"]:
                if any(before.get(flag) != beside.get(flag) for flag in LOSS_FLAGS):
                    raise RowError(f"field {name}[{number}]: expected the flags of the call before it, got others")
                messages[-1] = {**beside, **before, "tool_calls": [*before["tool_calls"], *calls]}
            else:
                messages.append({**beside, "role": "assistant", "content": "", "tool_calls": calls})
        else:
            messages.append({**beside, "role": role, "content": value})
    return messages


def calls_of_json(value: Any, place: str) -> list[Fields]:
    """A function call written as JSON (one, or a list of several) as structured `tool_calls`."""
    try:
        calls = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError as error:
        raise RowError(f"{place}: expected a function call as JSON, got {described(value)} ({error.msg})") from None
    calls = calls if isinstance(calls, list) else [calls]
    if not calls or any(not isinstance(c, dict) or not isinstance(c.get("name"), str) for c in calls):
        raise RowError(f"{place}: expected a function call with name and arguments, got {described(value)}")
    return [{"type": "function", "function": {"name": c["name"], "arguments": c.get("arguments", {})}} for c in calls]


def with_system(system: Any, messages: list[Fields]) -> list[Fields]:
    """`messages` below a system turn, where a row has a system text and no system turn of its own.

    Raises:
        RowError: the system text is none.
    """
    if system is not None and not isinstance(system, str):
        raise RowError(f"field system: expected text, got {described(system)}")
    if not system or (messages and messages[0]["role"] == "system"):
        return messages
    return [{"role": "system", "content": system}, *messages]
