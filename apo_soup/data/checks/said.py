"""Whether a rendered text says what a turn says, in whichever form a template writes it."""

import json
import re
from typing import Any

from apo_soup.data.conversations.conversation import Conversation
from apo_soup.data.conversations.reasoning import spoken_reasoning
from apo_soup.data.sources.rows import Fields

SPACE = re.compile(r"\s+")


def same_words(said: str, text: str) -> bool:
    """Whether a text holds some words, however the white space between them is written."""
    return said in text or SPACE.sub("", said) in SPACE.sub("", text)


def says_reasoning(turn: Fields, text: str) -> bool:
    """Whether a text holds a turn's reasoning, however the template marks it: with think tags or as a channel."""
    thought = spoken_reasoning(turn)[1]
    return bool(thought) and same_words(thought, text)


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


def shortened_turns(item: Conversation, text: str) -> int:
    """How many answers before the last had reasoning that the template left out of the text."""
    thoughts = (spoken_reasoning(answer)[1] for answer in item.answers[:-1])
    return sum(1 for thought in thoughts if thought and not same_words(thought, text))


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
