"""A content that is a list of parts, as OpenAI, Anthropic, Mistral and Gemini write it: text, thoughts, calls, results.

Most turns come out as one. A user turn that brings tools' results becomes a tool turn for each, in their place.
"""

import json
from typing import Any

from apo_soup.data.conversations.call_fields import ARGUMENTS, given_arguments
from apo_soup.data.conversations.turn_fields import EMPTY, LOSS_FLAGS, REASONING
from apo_soup.data.sources.rows import Fields, RowError, described

TEXT_PARTS = ("text", "input_text", "output_text", "refusal", "developer_content")
THOUGHT_PARTS = ("thinking", "reasoning", "reasoning_text")
CALL_PARTS = ("tool_use", "tool_call")
RESULT_PARTS = ("tool_result",)
# Where the words of a text or a thought stand, whichever of these a part has.
WORDS = ("text", "thinking", "reasoning", "refusal", "instructions")
# What a part may hold beside its words without saying anything of them.
SILENT = frozenset(
    (
        *"type id cache_control citations annotations logprobs signature caller closed".split(),
        *("thoughtSignature", "thought_signature", *WORDS),
    )
)
# Gemini's names of calls and results, in both of its spellings.
GEMINI_PARTS = {
    "functionCall": "tool_use",
    "function_call": "tool_use",
    "functionResponse": "tool_result",
    "function_response": "tool_result",
}
MEDIA = ("image", "audio", "video", "file", "document", "media")


class _Draft:
    """An assistant turn while its parts are read."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.calls: list[Fields] = []

    def turn(self, beside: Fields, place: str) -> Fields:
        """The turn, with what stood beside its content; raises RowError where other reasoning stood there."""
        turn = {**beside, "content": "".join(self.texts)}
        if self.thoughts:
            thought = "\n\n".join(self.thoughts)
            if any(beside.get(name) not in (*EMPTY, thought) for name in REASONING):
                raise RowError(f"{place}: expected reasoning in the content or in a field, got two; remove one")
            turn["reasoning_content"] = thought
        if self.calls:
            turn["tool_calls"] = self.calls
        return turn


def turns_of_parts(message: Fields, place: str) -> list[Fields]:
    """The turns that a turn with a list as its content stands for.

    Raises:
        RowError: naming the part that is no text, reasoning, call or result, or stands where it may not.
    """
    beside = {k: v for k, v in message.items() if k != "content"}
    _check_texts(message["content"], f"{place}.content")
    named = [(_typed(part), f"{place}.content[{number}]") for number, part in enumerate(message["content"])]
    for part, where in named:
        beside |= _unread(part, where)
    if message.get("role") == "assistant":
        return [_assistant_turn(beside, named, place)]
    return _other_turns(beside, named)


def _typed(part: Any) -> Any:
    """A part as it is, or Gemini's calls, results and thoughts, which have no type, as parts that have one."""
    if not isinstance(part, dict) or "type" in part:
        return part
    for name, kind in GEMINI_PARTS.items():
        if isinstance(part.get(name), dict):
            beside = {k: v for k, v in part.items() if k != name}
            inside = part[name]
            if kind == "tool_use":
                return {**beside, **inside, "type": kind}
            result = {"type": kind, "content": json.dumps(inside.get("response"), ensure_ascii=False)}
            return {**beside, **result, **{k: v for k, v in inside.items() if k != "response"}}
    if part.get("thought") is True:
        return {**{k: v for k, v in part.items() if k != "thought"}, "type": "thinking"}
    return part


def _assistant_turn(beside: Fields, named: list[tuple[Any, str]], place: str) -> Fields:
    draft = _Draft()
    for part, where in named:
        kind = part_kind(part, where)
        if kind == "text":
            if draft.calls:
                raise RowError(f"{where}: expected text before the calls of a turn, got text behind one; move it")
            draft.texts.append(words_of(part, where))
        elif kind == "thought":
            thought = words_of(part, where)
            if thought.strip() and (draft.texts or draft.calls):
                raise RowError(
                    f"{where}: expected reasoning before the words and calls of a turn, as templates write it, got "
                    "reasoning behind one; move it, or make it a turn of its own"
                )
            draft.thoughts.append(thought)
        elif kind == "call":
            draft.calls.append(_call(part, where))
        else:
            raise RowError(f"{where}: expected a tool_result in a user turn, got one in an assistant turn; move it")
    if draft.calls and beside.get("tool_calls"):
        raise RowError(f"{place}: expected calls in the content or in tool_calls, got both; remove one")
    return draft.turn(beside, place)


def _other_turns(beside: Fields, named: list[tuple[Any, str]]) -> list[Fields]:
    turns: list[Fields] = []
    texts: list[str] = []
    for part, where in named:
        kind = part_kind(part, where)
        if kind == "text":
            texts.append(words_of(part, where))
        elif kind == "result" and beside.get("role") in ("user", "tool"):
            if texts:
                turns.append({**beside, "content": "".join(texts)})
                texts = []
            turns.append({**_without_name(beside), **_result(part, where)})
        else:
            got = f"{part['type']} in a {beside.get('role')} turn"
            raise RowError(f"{where}: expected a part of type text, got {got}; move it to the turn that it belongs to")
    if texts or not turns:
        turns.append({**beside, "content": "".join(texts)})
    return turns


def part_kind(part: Any, where: str) -> str:
    """What a part is: `text`, `thought`, `call` or `result`.

    Raises:
        RowError: it is none of these, such as an image.
    """
    if isinstance(part, str):
        return "text"
    kind = part.get("type", "text" if isinstance(part.get("text"), str) else None) if isinstance(part, dict) else None
    for name, kinds in (
        ("text", TEXT_PARTS),
        ("thought", THOUGHT_PARTS),
        ("call", CALL_PARTS),
        ("result", RESULT_PARTS),
    ):
        if kind in kinds:
            return name
    expected = f"{where}: expected a part of type text, got"
    if kind == "redacted_thinking":
        raise RowError(f"{expected} redacted_thinking, which holds no words; remove it to train the turn without")
    if isinstance(kind, str) and any(word in kind for word in MEDIA):
        raise RowError(f"{expected} {kind}, and only text is trained; remove the part, or leave the row out")
    if isinstance(kind, str):
        raise RowError(f"{expected} {kind}, which nothing here reads; write it as text, or leave the row out")
    raise RowError(f"{expected} {described(part)}; write {{type: text, text: ...}}")


def words_of(part: Any, where: str) -> str:
    """The words of a text or a thought.

    Raises:
        RowError: it has none.
    """
    if isinstance(part, str):
        return part
    words = next((part[name] for name in WORDS if part.get(name) is not None), None)
    if isinstance(words, list):  # Mistral's thinking holds parts of its own
        return joined_text(words, where)
    if not isinstance(words, str):
        raise RowError(f"{where}: expected text in the part, got {described(words)}; correct it")
    return words


def _check_texts(parts: list[Any], where: str) -> None:
    """Raise RowError where several parts are texts and nothing else."""
    bare = sum(isinstance(part, str) for part in parts)
    if bare > 1:
        raise RowError(
            f"{where}: expected parts that say what they are, or one text, got {bare} texts, which may be "
            "parts of one or several to choose from; join them or keep one"
        )


def joined_text(parts: list[Any], where: str) -> str:
    """Parts that are text alone, as one.

    Raises:
        RowError: naming the part that is none.
    """
    texts = []
    _check_texts(parts, where)
    for number, part in enumerate(parts):
        place = f"{where}[{number}]"
        if part_kind(part, place) != "text":
            raise RowError(f"{place}: expected a part of type text, got {part['type']}; move it to a turn of its own")
        texts.append(words_of(part, place))
    return "".join(texts)


def _call(part: Fields, where: str) -> Fields:
    name = part.get("name")
    if not isinstance(name, str):
        raise RowError(f"{where}.name: expected the name of a tool, got {described(name)}; correct it")
    identity = {"id": part["id"]} if "id" in part else {}
    return {**identity, "type": "function", "function": {"name": name, "arguments": given_arguments(part, where)}}


def _result(part: Fields, where: str) -> Fields:
    """A tool turn. `is_error` stays with it, so that it is counted where no template shows it."""
    content = part.get("content", "")
    if isinstance(content, list):
        content = joined_text(content, f"{where}.content")
    turn = {"role": "tool", "content": content}
    if isinstance(part.get("name"), str):
        turn["name"] = part["name"]
    if "tool_use_id" in part:
        turn["tool_call_id"] = part["tool_use_id"]
    if part.get("is_error"):
        turn["is_error"] = True
    return turn


def _without_name(beside: Fields) -> Fields:
    return {k: v for k, v in beside.items() if k != "name"}


def _unread(part: Any, where: str) -> Fields:
    """What a part says that is not read, under names by which it is counted.

    Raises:
        RowError: a part has a flag of loss, which only whole turns can have.
    """
    if not isinstance(part, dict) or part.keys() <= SILENT:
        return {}
    known = {"name", *ARGUMENTS, "tool_use_id", "content", "is_error", "summary"}
    strange = part.keys() - SILENT - (known if part.get("type") in (*CALL_PARTS, *RESULT_PARTS) else set())
    if part.get("tools"):
        raise RowError(f"{where}.tools: expected tools as a column of the row, got some in a part; move them there")
    flag = next((name for name in LOSS_FLAGS if name in strange), None)
    if flag:
        raise RowError(f"{where}.{flag}: expected a flag on the whole turn, got one on a part of it; move it there")
    return {f"content.{name}": part[name] for name in sorted(strange)}
