"""Which `rename` would make rows of unknown columns readable, guessed from their names and values."""

import json
import re
from collections.abc import Iterable
from typing import Any

from apo_soup.data.conversations.dialects import WORD_KEYS, holds_answer, holds_turns
from apo_soup.data.conversations.reasoning import NO_REASONING, THINKING_FLAGS
from apo_soup.data.conversations.turn_fields import HARMLESS, ROW_REASONING, name_words
from apo_soup.data.conversations.unread import holds_thoughts
from apo_soup.data.sources.rows import Fields

# The words by which columns of other data sets go, the likeliest first; a name is compared without case and dashes.
NAMES = {
    "messages": ("messages", "conversations", "conversation", "dialog", "dialogue", "chat", "turns", "trajectory"),
    "chosen": ("chosen", "preferred", "accepted", "better", "win", "winner", "positive", "good"),
    "rejected": ("rejected", "dispreferred", "worse", "lose", "loser", "negative", "bad"),
    "prompt": (
        "prompt", "question", "query", "instruction", "problem", "input", "inputs", "user", "human", "request", "q",
        "message",
    ),
    "completion": (
        "completion", "response", "solution", "answer", "output", "outputs", "assistant", "gpt", "reply", "target",
        "targets", "final", "explanation", "summary", "generation", "a",
    ),
    "text": ("text", "content", "document", "body", "passage", "story"),
    "system": (
        "system", "system_prompt", "system_message", "system_instruction", "system_instructions", "instructions",
        "preamble",
    ),
    "history": ("history",),
}  # fmt: skip
# Names of answers that go with the name of a question, before all others.
GO_TOGETHER = {"input": ("output", "target"), "inputs": ("outputs", "targets")}
NAMES |= {"query": NAMES["prompt"], "response": NAMES["completion"]}
# How the names of two answers to one question end, and those of a list of answers.
RIVALS = (*((f"_{one}", f"_{two}") for one, two in ("01", "12", "ab", "AB", "jk")), ("1", "2"))
OF_ANSWERERS = frozenset("id model source".split())
LISTED = (["answers"], ["completions"], ["responses"], ["summaries"], ["generations"])
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
        together = GO_TOGETHER.get(found.get("prompt", ""), ()) if need == "completion" else ()
        column = next((name for name in together if name in fields and _fits(need, fields[name])), None)
        column = column or _column_for(need, fields, (*needs, *found.values()))
        if column:
            found[need] = column
    if len(found) < len(needs):
        return {}
    renamed = {column: need for need, column in found.items() if column != need}
    if "system" not in fields and "text" not in needs:
        system = _column_for("system", fields, (*needs, *found.values()))
        renamed |= {system: "system"} if system else {}
    answered = not {"completion", "response"}.isdisjoint(needs)
    if answered and ROW_REASONING not in fields:
        thoughts = [n for n, v in fields.items() if n not in found.values() and holds_thoughts(n) and _is_thought(v)]
        renamed |= {thoughts[0]: ROW_REASONING} if len(thoughts) == 1 else {}
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
    if pairs:
        sides = _two_answers(fields)
        if sides:
            return (
                f"no rename says which of {' and '.join(sides)} is the better; give each row that one as chosen, the "
                "other as rejected, and what they answer as prompt"
            )
    if not pairs and fields.get("prompt"):
        return "give each row its answer as completion, for they ask and nothing answers"
    texts = [name for name, value in fields.items() if isinstance(value, str) and _guessed(name, "prompt")]
    nested = any(isinstance(value, list | dict) and value for value in fields.values())
    if not pairs and len(texts) == 2 and not nested:
        return (
            f"write rename: {{{_quoted(texts[0])}: prompt, {_quoted(texts[1])}: completion}} if that is what they are"
        )
    wanted = "prompt, chosen and rejected" if pairs else "messages, prompt and completion, or text"
    return f"map their columns to {wanted} with rename, such as rename: {{question: prompt}}"


def unanswered_remedy(fields: Fields) -> str:
    """What to do with a row whose `messages` hold no answer: the `rename` that would do, or to add one.

    >>> turns = [{"role": "user", "content": "2 + 2?"}]
    >>> unanswered_remedy({"messages": turns, "answer": "4", "reasoning": "..."})
    'write rename: {messages: prompt, answer: completion, reasoning: reasoning_content} for the source'
    """
    asked = {"prompt" if name == "messages" else name: value for name, value in fields.items()}
    remedy = rename_remedy(asked, ("prompt", "completion"))
    return remedy.replace("{", "{messages: prompt, ") if remedy else "add one"


def _two_answers(fields: Fields) -> list[str]:
    """Two columns of answers of which another column tells which is the better, or one that lists several.

    >>> _two_answers({"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 1})
    ['response_0', 'response_1']
    """
    for name, value in fields.items():
        if not isinstance(value, str | list) or not OF_ANSWERERS.isdisjoint(name_words(name)):
            continue
        for first, second in RIVALS:
            other = name.removesuffix(first) + second
            if name.endswith(first) and other in fields and type(fields[other]) is type(value):
                return [name, other]
    lists = [n for n, v in fields.items() if name_words(n)[-1:] in LISTED and isinstance(v, list) and len(v) > 1]
    return [f"the {lists[0]}"] if len(lists) == 1 else []


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
    turns = [column for column in free if need in ("messages", "prompt") and holds_turns(fields[column])]
    if need == "messages" and _asks_in_turns(fields):
        return None  # they are the answer
    return turns[0] if len(turns) == 1 else None


def _asks_in_turns(fields: Fields) -> bool:
    """Whether a column of the name of a question holds turns without an answer."""
    names = {*NAMES["prompt"]}
    return any(name in names and holds_turns(value) and not holds_answer(value) for name, value in fields.items())


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


def _is_thought(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() not in (*NO_REASONING, *THINKING_FLAGS)


def _quoted(name: str) -> str:
    """A column's name as YAML takes it inside braces."""
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name) and name.lower() not in YAML_WORDS
    return name if plain else json.dumps(name, ensure_ascii=False)
