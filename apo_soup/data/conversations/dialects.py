"""A list of turns in whatever dialect, as turns of `role` and `content`, each with the place it was written at.

Read are turns of `role` and `content`, of `from` and `value` (ShareGPT), exchanges that hold question and answer in one
(ms-swift, xtuner), OpenAI's response items, calls in turns of their own, contents in parts and channels. Whether the
words are sound is checked behind it, in `apo_soup.data.conversations.messages`.
"""

import ast
import json
from typing import Any

from apo_soup.data.conversations.call_fields import read_call
from apo_soup.data.conversations.channels import Placed, folded_channels, in_channels
from apo_soup.data.conversations.content_blocks import joined_text, turns_of_parts
from apo_soup.data.conversations.turn_fields import LOSS_FLAGS
from apo_soup.data.sources.json_text import RepeatedKeyError, json_value
from apo_soup.data.sources.rows import Fields, RowError, described
from apo_soup.errors import first_line

ROLES = ("system", "user", "assistant", "tool")
SPEAKERS = {
    "system": "system",
    "developer": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "chatbot": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "function_call": "function_call",
    "tool_call": "function_call",
    "observation": "tool",
    "observations": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "function": "tool",
    "tool": "tool",
    "ipython": "tool",
}
# The keys of an exchange: ms-swift's and xtuner's, the latter's flag that masks its answer among them.
ASKED = ("human", "user", "input")
ANSWERED = ("assistant", "gpt", "bot", "output")
# The keys of a turn's speaker and of its words: ShareGPT's, OpenAI's, Gemini's, LangChain's, Cohere's.
SPEAKER_KEYS = ("from", "role", "speaker", "type")
WORD_KEYS = ("value", "content", "parts", "text", "message")
ITEMS = ("function_call", "function_call_output", "reasoning")


def plain_turns(turns: list[Any]) -> bool:
    """Whether turns are messages as they stand, so that there is nothing to translate."""
    for turn in turns:
        if type(turn) is not dict or type(turn.get("content")) is not str or turn.get("role") not in ROLES:
            return False
        if len(turn) > 2 and ("channel" in turn or "recipient" in turn):
            return False
    return True


def turn_list(turns: Any) -> Any:
    """Turns as a list: of one turn alone, and of columns of turns, as tables write a sequence of mappings."""
    if not isinstance(turns, dict):
        return turns
    columns = list(turns.values())
    if columns and all(isinstance(c, list) and len(c) == len(columns[0]) for c in columns):
        return [dict(zip(turns, values, strict=True)) for values in zip(*columns, strict=True)]
    return [turns]


def told_turns(turns: list[Any], name: str) -> list[Placed]:
    """The turns of the field `name` and their places.

    Raises:
        RowError: naming the turn that is none.
    """
    told: list[Placed] = []
    for number, written in enumerate(turns):
        place = f"field {name}[{number}]"
        if not isinstance(written, dict):
            raise RowError(
                f"{place}: expected a mapping with role and content, got {described(written)}; correct the turn"
            )
        for turn in _exchange(written, place):
            _add(told, _with_role(turn, place), place)
    return folded_channels(told) if in_channels(told) else told


def written_value(text: str) -> Any:
    """The list or mapping that a text holds as JSON, or as Python writes it; other text as it is."""
    if text[:1].isspace():
        text = text.strip()
    if text[:1] not in ("[", "{"):
        return text
    try:
        found = json_value(text)
    except RepeatedKeyError:
        return text  # which turns it holds is not sure; whoever needs them refuses a text
    except (ValueError, RecursionError):
        try:
            # Keys become text, as JSON has them.
            found = json.loads(json.dumps(ast.literal_eval(text)))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return text
    return found if isinstance(found, list | dict) else text


def holds_turns(value: Any) -> bool:
    """Whether a value is a list that begins with a turn."""
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], dict)
        and bool(value[0].keys() & {"role", "from"})
    )


def holds_answer(turns: list[Any]) -> bool:
    """Whether turns may be a whole conversation: one of them is the assistant's, or nobody knows whose."""
    speakers = (turn.get("role", turn.get("from")) for turn in turns if isinstance(turn, dict))
    return any(SPEAKERS.get(str(speaker).lower(), "assistant") == "assistant" for speaker in speakers)


def _add(told: list[Placed], turn: Fields, place: str) -> None:
    """Add one turn of a role; a call in a turn of its own joins the assistant's turn before it."""
    if turn["role"] != "function_call":
        told += [(place, t) for t in turns_of_parts(turn, place)] if _has_parts(turn) else [(place, turn)]
        return
    value, beside = turn["content"], {k: v for k, v in turn.items() if k not in ("role", "content")}
    calls = calls_of_json(value, f"{place}.value")
    before_place, before = told[-1] if told else ("", {})
    if before.get("role") != "assistant" or not isinstance(before.get("tool_calls") or [], list):
        told.append((place, {**beside, "role": "assistant", "content": "", "tool_calls": calls}))
        return
    if any(before.get(flag) != beside.get(flag) for flag in LOSS_FLAGS):
        raise RowError(f"{place}: expected the flags of the turn before it, got others; give both the same")
    told[-1] = (before_place, {**beside, **before, "tool_calls": [*(before.get("tool_calls") or []), *calls]})


def _has_parts(turn: Fields) -> bool:
    return isinstance(turn.get("content"), list)


def _exchange(turn: Fields, place: str) -> list[Fields]:
    """A turn, or the turns of an exchange: its system text, its question where there is one, and its answer."""
    if turn.keys() & {*SPEAKER_KEYS, *WORD_KEYS}:
        return [turn]
    asked, answered = (next((key for key in keys if key in turn), None) for keys in (ASKED, ANSWERED))
    if answered is None and asked is None:
        return [turn]
    own = {"system", "output_with_loss", asked, answered}
    beside = {k: v for k, v in turn.items() if k not in own}
    if turn.get("output_with_loss") is not None:
        beside["loss"] = turn["output_with_loss"]
    turns = [{"role": "system", "content": turn["system"]}] if turn.get("system") else []
    if asked and turn[asked] != "":
        turns.append({"role": "user", "content": turn[asked]})
    if answered:
        turns.append({**beside, "role": "assistant", "content": turn[answered]})
    return turns


def _with_role(turn: Fields, place: str) -> Fields:
    """A turn whose speaker and words stand under `role` and `content`."""
    if turn.get("type") in ITEMS and "role" not in turn:
        return _item(turn, place)
    name = next((key for key in SPEAKER_KEYS if key in turn), "role")
    speaker = turn.get(name)
    role = SPEAKERS.get(speaker.lower().replace("-", "_")) if isinstance(speaker, str) else None
    if role is None:
        raise RowError(f"{place}.{name}: expected one of {', '.join(SPEAKERS)}, got {speaker!r}; correct the speaker")
    _check_one_speaker(turn, name, role, place)
    said = next((key for key in WORD_KEYS if key in turn), "content")
    content = turn.get(said)
    beside = {k: v for k, v in turn.items() if k not in (name, said)}
    if beside.get("type") == "message":
        del beside["type"]
    # One part alone, in place of a list of them.
    content = [content] if isinstance(content, dict) and "type" in content and role != "function_call" else content
    return {**beside, "role": role, "content": content}


def _check_one_speaker(turn: Fields, name: str, role: str, place: str) -> None:
    """Raise RowError where a second key names another speaker than `role`; a call is the assistant's."""
    for other in SPEAKER_KEYS[:3]:
        if other != name and isinstance(turn.get(other), str):
            second = SPEAKERS.get(turn[other].lower().replace("-", "_"), role)
            if {second, role} not in ({role}, {"function_call", "assistant"}):
                raise RowError(
                    f"{place}: expected one speaker, got {name} {turn[name]!r} and {other} {turn[other]!r}; remove one"
                )


def _item(item: Fields, place: str) -> Fields:
    """An item of OpenAI's responses that is no message: a call, a tool's answer, or reasoning."""
    kind = item["type"]
    beside = {k: v for k, v in item.items() if k in LOSS_FLAGS}
    if kind == "function_call_output":
        answered = {"tool_call_id": item["call_id"]} if "call_id" in item else {}
        return {"role": "tool", "content": item.get("output"), **answered, **beside}
    if kind == "function_call":
        identity = {"id": item["call_id"]} if "call_id" in item else {}
        call = {k: v for k, v in item.items() if k not in ("type", "id", "call_id", *LOSS_FLAGS)}
        call = {**identity, **call}
        return {"role": "function_call", "content": call, **beside}
    parts = item.get("content") or item.get("summary") or []
    if not isinstance(parts, list) or any(not isinstance(p, dict) or not isinstance(p.get("text"), str) for p in parts):
        raise RowError(f"{place}: expected reasoning in parts with text, got {described(parts)}; correct the item")
    if not parts:
        raise RowError(f"{place}: expected reasoning in parts with text, got none; remove the item")
    return {"role": "assistant", "channel": "analysis", "content": "".join(p["text"] for p in parts), **beside}


def calls_of_json(value: Any, place: str) -> list[Fields]:
    """A function call written as JSON (one, or a list of several) as structured `tool_calls`.

    Raises:
        RowError: it is no call.
    """
    try:
        calls = json_value(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        told = error.msg if isinstance(error, json.JSONDecodeError) else first_line(error)
        raise RowError(
            f"{place}: expected a function call as JSON, got {described(value)} ({told}); correct it"
        ) from None
    calls = calls if isinstance(calls, list) else [calls]
    structured = [read_call(call, place) for call in calls]
    if not structured:
        raise RowError(f"{place}: expected a function call with name and arguments, got an empty list; correct it")
    return structured


def system_text(system: Any) -> str | None:
    """The text of a `system` column: text, or a list of text parts as Anthropic writes it, or a turn as Gemini does.

    Raises:
        RowError: it is neither.
    """
    if isinstance(system, dict):
        system = next((system[key] for key in WORD_KEYS if key in system), system)
    if isinstance(system, list):
        return joined_text(system, "field system")
    if system is not None and not isinstance(system, str):
        raise RowError(f"field system: expected text, got {described(system)}; correct it")
    return system
