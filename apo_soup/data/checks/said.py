"""What a turn says, and whether a rendered text says it too, in whichever form a template writes it."""

import json
import re
from typing import Any

from apo_soup.data.conversations.reasoning import END_OF_THINKING, THINKING
from apo_soup.data.sources.rows import Fields

SPACE = re.compile(r"\s+")


def spoken_content(message: Fields) -> str:
    """The text of a turn behind its think block, without white space around it."""
    content: str = message["content"]
    return content.rpartition(END_OF_THINKING)[2].strip() if END_OF_THINKING in content else content.strip()


def spoken_reasoning(message: Fields) -> tuple[str, str]:
    """Where a turn has its reasoning, in words, and that reasoning without white space around it; empty without one."""
    reasoning = message.get("reasoning_content")
    if reasoning:
        return "reasoning_content", reasoning.strip()
    content = message["content"]
    before, closed, _ = content.partition(END_OF_THINKING)
    opened = before.lstrip()
    inline = opened.removeprefix(THINKING).strip() if closed and opened.startswith(THINKING) else ""
    return "the think block of an answer", inline


def reasons_itself(message: Fields) -> bool:
    """Whether a turn has reasoning, in a field or in a think block that is not empty; the prompt may have opened it."""
    if message.get("reasoning_content"):
        return True
    before, closed, _ = message["content"].partition(END_OF_THINKING)
    return bool(closed and before.replace("<think>", "").strip())


def same_words(said: str, text: str) -> bool:
    """Whether a text holds some words, however the white space between them is written."""
    return said in text or SPACE.sub("", said) in SPACE.sub("", text)


def written_in(said: str, text: str) -> bool:
    """Whether a text holds what somebody else than the assistant says: as it is, as JSON writes it, with other white
    space, or, of a result that is JSON, value by value.
    """
    if said in text or any(form in text for form in _json_forms(said)) or same_words(said, text):
        return True
    if said[:1] not in ("{", "["):
        return False
    try:
        value = json.loads(said)
    except ValueError:
        return False
    return all(_value_in(leaf, text) for leaf in _leaves(value))


def lacking_call(function: Fields, answer: str) -> str | None:
    """The name, argument or value of a call that an answer does not hold, or None.

    Values may stand as JSON, as Python or as they are.
    """
    if function["name"] not in answer:
        return f"its name {function['name']}"
    for name, value in function["arguments"].items():
        if name not in answer:
            return f"its argument {name}"
        if not all(_value_in(leaf, answer) for leaf in _leaves(value)):
            return f"the value of its argument {name}"
    return None


def _value_in(value: Any, text: str) -> bool:
    if isinstance(value, str):
        return value in text or any(form in text for form in _json_forms(value)) or same_words(value, text)
    return json.dumps(value) in text or str(value) in text


def _json_forms(text: str) -> tuple[str, ...]:
    """A text as JSON writes it inside quotes, also with every character in ASCII, inside a text that is JSON again, and
    as Python writes it.
    """
    once = json.dumps(text, ensure_ascii=False)[1:-1]
    return once, json.dumps(text)[1:-1], json.dumps(once, ensure_ascii=False)[1:-1], repr(text)[1:-1]


def _leaves(value: Any) -> list[Any]:
    """Every key and every value without parts of its own inside a value."""
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in (key, *_leaves(inner))]
    return [leaf for inner in value for leaf in _leaves(inner)] if isinstance(value, list) else [value]
