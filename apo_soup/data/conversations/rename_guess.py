"""Which `rename` would make rows of unknown columns readable, guessed from their names and values."""

import json
import re
from collections.abc import Iterable
from typing import Any

from apo_soup.data.conversations.dialects import WORD_KEYS, holds_answer, holds_turns
from apo_soup.data.conversations.turn_fields import HARMLESS, name_words
from apo_soup.data.sources.rows import Fields

# The words by which columns of other data sets go, the likeliest first; a name is compared without case and dashes.
NAMES = {
    "messages": ("messages", "conversations", "conversation", "dialog", "dialogue", "chat", "turns", "trajectory"),
    "chosen": ("chosen", "preferred", "accepted", "better", "win", "winner", "positive", "good"),
    "rejected": ("rejected", "dispreferred", "worse", "lose", "loser", "negative", "bad"),
    "prompt": (
        "prompt", "question", "query", "instruction", "problem", "input", "user", "human", "request", "q", "message",
    ),
    "completion": (
        "completion", "response", "solution", "answer", "output", "assistant", "gpt", "reply", "target", "final",
        "explanation", "summary", "generation", "a",
    ),
    "text": ("text", "content", "document", "body", "passage", "story"),
    "system": (
        "system", "system_prompt", "system_message", "system_instruction", "system_instructions", "instructions",
        "preamble",
    ),
    "history": ("history",),
}  # fmt: skip
NAMES |= {"query": NAMES["prompt"], "response": NAMES["completion"]}
SHAPES = (("query", "response", "history"), ("messages",), ("prompt", "completion"), ("text",))
PAIR_SHAPES = (("prompt", "chosen", "rejected"), ("chosen", "rejected"))

# Words that YAML does not read as text.
YAML_WORDS = ("yes", "no", "on", "off", "y", "n", "true", "false", "null")


def rename_remedy(fields: Fields, needs: tuple[str, ...]) -> str | None:
    """`write rename: {...}` for the fields that are needed, or None where no column looks like each of them."""
    renamed = [f"{_quoted(column)}: {need}" for column, need in _guess(fields, needs).items()]
    return f"write rename: {{{', '.join(renamed)}}} for the source" if renamed else None


def guessed_rename(fields: Fields, pairs: bool) -> dict[str, str]:
    """The `rename` that would make rows of no known format readable; empty where none is near."""
    return next(filter(None, (_guess(fields, needs) for needs in (PAIR_SHAPES if pairs else SHAPES))), {})


def _guess(fields: Fields, needs: tuple[str, ...]) -> dict[str, str]:
    """Columns and the needed fields that they are likely to be; empty where one looks like none, or all are there."""
    found: dict[str, str] = {}
    for need in needs:
        column = _column_for(need, fields, (*needs, *found.values()))
        if column:
            found[need] = column
    if len(found) < len(needs):
        return {}
    renamed = {column: need for need, column in found.items() if column != need}
    if "system" not in fields and "text" not in needs:
        system = _column_for("system", fields, (*needs, *found.values()))
        renamed |= {system: "system"} if system else {}
    return renamed


def format_remedy(fields: Fields, pairs: bool) -> str:
    """What to do with rows of no known format: the `rename` that would do, or what a rename would have to name."""
    if not pairs and {"chosen", "rejected"} <= fields.keys():
        return "train on pairs with apo.yaml, or write rename: {chosen: completion} to train on the better answers"
    for needs in PAIR_SHAPES if pairs else SHAPES:
        remedy = rename_remedy(fields, needs)
        if remedy:
            return remedy
    if pairs and not {"chosen", "rejected"} & fields.keys() and any(fields.keys() >= set(shape) for shape in SHAPES):
        return (
            "train on rows of one answer with sft.yaml, or give each a better and a worse answer as chosen and rejected"
        )
    texts = [name for name, value in fields.items() if isinstance(value, str) and _guessed(name, "prompt")]
    if not pairs and len(texts) == 2:
        return (
            f"write rename: {{{_quoted(texts[0])}: prompt, {_quoted(texts[1])}: completion}} if that is what they are"
        )
    wanted = "prompt, chosen and rejected" if pairs else "messages, prompt and completion, or text"
    return f"map their columns to {wanted} with rename, such as rename: {{question: prompt}}"


def likely_column(fields: Fields, need: str) -> str | None:
    """The column of a row that is most likely meant by a field of ours, or None.

    >>> likely_column({"answer": "4", "Question": "2 + 2?"}, "prompt")
    'Question'
    """
    return _column_for(need, fields, ())


def _column_for(need: str, fields: Fields, taken: Iterable[str]) -> str | None:
    """The column that is most likely meant by a field of ours: one of its own name, or of a name that is close."""
    if need in fields:
        return need
    free = {n: name_words(n) for n, v in fields.items() if n not in taken and _guessed(n, need) and _fits(need, v)}
    for name in NAMES.get(need, ()):
        same = [column for column, words in free.items() if words == [*name.split("_")]]
        if same:
            return same[0]
    for name in NAMES.get(need, ()):
        close = [column for column, words in free.items() if len(name) > 1 and name in words]
        if len(close) == 1:
            return close[0]
    turns = [column for column in free if need == "messages" and holds_turns(fields[column])]
    return turns[0] if len(turns) == 1 else None


def _guessed(column: str, need: str) -> bool:
    """Whether a column may be guessed to be a field of ours: none that tells of the row, nor a system text or what was
    said before as another field.
    """
    words = name_words(column)
    other = {"system": "_".join(words) in NAMES["system"], "history": "history" in words}
    return column not in HARMLESS and not any(is_one and need != name for name, is_one in other.items())


def _fits(need: str, value: Any) -> bool:
    """Whether a value may be what a field of ours holds."""
    if need == "history":
        return isinstance(value, list)
    if need == "messages":
        return holds_turns(value) and holds_answer(value)
    if need == "system" and isinstance(value, dict):
        return not value.keys().isdisjoint(WORD_KEYS)
    turns = need in ("chosen", "rejected", "prompt", "completion") and holds_turns(value)
    return turns or (isinstance(value, str) and bool(value.strip()))


def _quoted(name: str) -> str:
    """A column's name as YAML takes it inside braces."""
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name) and name.lower() not in YAML_WORDS
    return name if plain else json.dumps(name, ensure_ascii=False)
