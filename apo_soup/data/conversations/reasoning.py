"""The reasoning of an assistant's turn: as one, though it may stand in several fields and in its words, and told from
what else the turn says.
"""

import re
from typing import Any

from apo_soup.data.conversations.turn_fields import REASONING, REASONING_IN_PARTS
from apo_soup.data.sources.rows import Fields, RowError, described
from apo_soup.models.think_tags import END_OF_THINKING, THINKING

# A think block without a thought, as no-think mode prefills it.
EMPTY_BLOCK = re.compile(rf"\s*{THINKING}\s*{END_OF_THINKING}\s*")
# What tables write where there is no value, and words that say whether or how much is to be thought.
NO_REASONING = ("", "none", "null", "nan", "n/a", "undefined", "<na>")
THINKING_FLAGS = frozenset(
    """true false yes no on off enabled disabled enable disable auto adaptive default minimal low medium high xhigh max
    think no_think /think /no_think thinking nothink 0 1""".split()
)
REASONING_PARTS = ("text", "summary_text", "reasoning_text", "reasoning.text", "reasoning.summary", "thinking")
# What a part of reasoning is in where it is not for reading, and where its words are.
SEALED = ("data", "encrypted_content", "signature")
WORDS_OF_PARTS = ("text", "thinking", "summary", "content")
NO_THOUGHT = "write the thought itself, or leave the field out and give the row enable_thinking"
# What a thought ends with where its closing tag follows at once; words about the tag have a space or a quote there.
ENDS_OF_THOUGHTS = ".!?:;)]}*。！？"
# Characters in which a tag and the white space behind it find room.
NEAR = 40


def one_reasoning(message: Fields, content: str, place: str) -> Fields:
    """An assistant's turn with its reasoning once: in its content, or under the names that templates read.

    Raises:
        RowError: the reasoning is no text, there are two that differ, or one holds marks of its own.
    """
    if len(message) == 2:  # a role and a content, as most turns
        return message
    if not message.keys().isdisjoint(REASONING_IN_PARTS):
        message = _without_parts(message, place)
    given = {name: message[name] for name in REASONING if message.get(name) is not None}
    if not given:
        return message
    for name, value in given.items():
        given[name] = _thought(value, f"{place}.{name}")
    told = {name: value for name, value in given.items() if value.strip()}
    if len({value.strip() for value in told.values()}) > 1:
        raise RowError(f"{place}: expected one reasoning, got {' and '.join(told)} that differ; remove one")
    if not told:  # templates ask whether a field is there, and would write an empty block for it
        return {name: value for name, value in message.items() if name not in REASONING}
    reasoning = next(iter(told.values()))
    if content.lstrip().startswith(THINKING):
        block = content.lstrip().removeprefix(THINKING).partition(END_OF_THINKING)[0]
        if block.strip() != reasoning.strip():
            raise RowError(
                f"{place}: expected reasoning in the content or in a field of its own, got it in both; remove one"
            )
        return {name: value for name, value in message.items() if name not in REASONING}
    return {"thinking": reasoning, **message, **dict.fromkeys(given, reasoning), "reasoning_content": reasoning}


def _without_parts(message: Fields, place: str) -> Fields:
    """A turn whose reasoning in parts is one of the fields that hold it whole; raises RowError as `_thought` does."""
    told = {k: _thought(v, f"{place}.{k}") for k, v in message.items() if k in REASONING_IN_PARTS and v is not None}
    whole = {k: v for k, v in message.items() if k not in REASONING_IN_PARTS}
    known = next((v for k, v in whole.items() if k in REASONING and isinstance(v, str) and v.strip()), None)
    for name, thought in told.items():
        if known is None and thought.strip():
            whole, known = {**whole, REASONING[0]: thought}, thought
        elif thought.split() and "".join(thought.split()) != "".join(_bare(known or "", place).split()):
            raise RowError(f"{place}: expected one reasoning, got another one in {name}; remove one")
    return whole


def _thought(value: Any, place: str) -> str:
    """The text of a field of reasoning, which may be in parts, as OpenAI's responses have their summaries; empty where
    the field says that there is none.

    Raises:
        RowError: it is no thought, but says whether or how much is to be thought.
    """
    if isinstance(value, dict) and any(value.get(name) for name in ("summary", "content")):
        value = value.get("content") or value["summary"]
    if _is_sealed(value):
        return ""
    parts = [_part_text(part) for part in value] if isinstance(value, list) else [None]
    if None not in parts:
        value = "\n\n".join(part for part in parts if part)
    if value == {}:
        return ""
    if not isinstance(value, str):
        raise RowError(f"{place}: expected reasoning as text, got {described(value)}; {NO_THOUGHT}")
    thought = _bare(value, place)
    word = thought.strip().lower()
    if word in NO_REASONING:
        return ""
    if word in THINKING_FLAGS:
        raise RowError(
            f"{place}: expected reasoning as text, got {described(value)}, which is no thought; {NO_THOUGHT}"
        )
    return thought


def _part_text(part: Any) -> str | None:
    """The text of a part of reasoning, empty where it holds no words; None where it is no such part."""
    if _is_sealed(part):
        return ""
    if not isinstance(part, dict) or part.get("type", "text") not in REASONING_PARTS:
        return part if isinstance(part, str) else None
    text = next((part[name] for name in ("text", "thinking", "summary") if name in part), None)
    return text if isinstance(text, str) else "" if "type" in part and text is None else None


def _is_sealed(part: Any) -> bool:
    """Whether a part of reasoning is encrypted, or a signature, and holds no words."""
    if not isinstance(part, dict) or any(part.get(name) for name in WORDS_OF_PARTS):
        return False
    return any(part.get(name) for name in SEALED)


def _bare(reasoning: str, place: str) -> str:
    """Reasoning without the think marks around the whole of it."""
    if THINKING not in reasoning and END_OF_THINKING not in reasoning:
        return reasoning
    whole = reasoning.strip()
    inside = whole.removeprefix(THINKING).removesuffix(END_OF_THINKING)
    marked = whole.startswith(THINKING) and whole.endswith(END_OF_THINKING)
    if not marked or THINKING in inside or END_OF_THINKING in inside:
        raise RowError(
            f"{place}: expected reasoning without {THINKING} and {END_OF_THINKING}, which the template writes, got "
            f"{described(reasoning)}; remove them"
        )
    return inside.strip()


def spoken_content(message: Fields) -> str:
    """The text of a turn behind its think blocks, without white space around it."""
    content: str = message["content"]
    return content.rpartition(END_OF_THINKING)[2].strip() if END_OF_THINKING in content else content.strip()


def spoken_reasoning(message: Fields) -> tuple[str, str]:
    """Where a turn has its reasoning, in words, and that reasoning without white space around it; empty without one.

    Where it stands in the content, it is that of the first block, which the prompt may have opened.
    """
    reasoning = message.get("reasoning_content")
    if reasoning:
        return "reasoning_content", reasoning.strip()
    before, closed, _ = message["content"].partition(END_OF_THINKING)
    return "the think block of an answer", before.rpartition(THINKING)[2].strip() if closed else ""


def reasons_itself(message: Fields) -> bool:
    """Whether a turn has reasoning, in a field or in a think block that is not empty."""
    if message.get("reasoning_content"):
        return True
    before, closed, behind = message["content"].partition(END_OF_THINKING)
    if not closed:
        return False
    if before.rpartition(THINKING)[2].strip():
        return True
    return END_OF_THINKING in behind and any(thought for _, thought in think_blocks(behind))


def thinks_first(message: Fields) -> bool:
    r"""Whether a turn has its reasoning where models write it: in a field, or in front of its words in a block that the
    prompt may have opened. A tag among the words may be one that they speak of.

    >>> told = ("<think>a</think>b", "a\n</think>\nb", "So 4.</think>4", "</think> ends it", "It ends with </think>.")
    >>> [thinks_first({"content": content}) for content in told]
    [True, True, True, False, False]
    """
    if opens_with_reasoning(message):
        return True
    before, closed, behind = message["content"].partition(END_OF_THINKING)
    if not closed or THINKING in before or not before.strip():
        return False
    return before.endswith("\n") or behind.startswith("\n") or before[-1].isalnum() or before[-1] in ENDS_OF_THOUGHTS


def opens_with_reasoning(message: Fields) -> bool:
    """Whether a turn has reasoning that no words can be taken for: in a field, or in a block that it opens first."""
    before, opened, _ = message["content"].partition(THINKING)
    return bool(message.get("reasoning_content")) or bool(opened and not before.strip())


def think_blocks(content: str) -> list[tuple[str, str]]:
    """The think blocks of a text: the words before each, and the thought in it, without white space around them.

    >>> think_blocks("<think>a</think>One <think>b</think>Two")
    [('', 'a'), ('One', 'b')]

    A block that is closed and not opened is one that the prompt opens.
    """
    blocks = []
    for closed in content.split(END_OF_THINKING)[:-1]:
        words, opened, thought = closed.rpartition(THINKING)
        blocks.append((words.strip() if opened else "", thought.strip()))
    return blocks


def is_one_block_first(content: str) -> bool:
    """Whether a text is one think block and what stands behind it, as most with a block are, or has none."""
    closing = content.find(END_OF_THINKING)
    return closing < 0 or (content.startswith(THINKING) and content.find(END_OF_THINKING, closing + 1) < 0)


def opens_unclosed_block(content: str) -> bool:
    """Whether a text opens a think block that it never closes."""
    return THINKING in content and content.rfind(THINKING) > content.rfind(END_OF_THINKING)


def opens_block_at(text: str, position: int) -> bool:
    """Whether what stands before a position of a text ends by opening a think block."""
    first = max(0, position - NEAR)
    return text.find(THINKING, first, position) >= 0 and text[first:position].rstrip().endswith(THINKING)
