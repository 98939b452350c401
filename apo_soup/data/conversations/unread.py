"""What of a row and of its turns nothing here reads: counted by name, and which of the names call for a warning."""

import re
from collections.abc import Iterable
from typing import Any

from apo_soup.data.conversations.pair_scores import score_columns
from apo_soup.data.conversations.prompt_copy import is_copy
from apo_soup.data.conversations.reasoning import NO_REASONING
from apo_soup.data.conversations.turn_fields import (
    EMPTY,
    HARMLESS,
    LOSS_FLAGS,
    MODE_FIELDS,
    ROW_REASONING,
    TURN_FIELDS,
    name_words,
    told_mode,
)
from apo_soup.data.sources.rows import Fields

# Columns by which data sets say whether, or how, a row or its turns are to be used, as words that a name holds and as
# whole names. Loss flags among them are a row's own, or a list of one a turn: those of turns are read.
JUDGING_WORDS = frozenset(
    """train trained training trainable loss mask masks masked weight weights label labels kto score scores rating
    ratings reward rewards quality preference margin""".split()
)
JUDGING = frozenset(
    """chosen rejected chosen_messages rejected_messages rejected_response preferred_output non_preferred_output image
    images video videos audio audios enable_thinking end_turn correct correctness accepted verified passed valid keep
    skip exclude deleted ignore ignored""".split()
)
# Words of names that tell where a row is from, whatever else they hold.
OF_ORIGIN = frozenset("id ids idx source sources dataset split hash url language lang".split())
# Words of columns that hold what was thought before an answer, and of those that only tell of it.
THOUGHTS = frozenset(
    "think thinking reasoning thought thoughts rationale cot chain_of_thought scratchpad monologue reflection".split()
)
OF_THOUGHTS = frozenset("effort budget tokens token length mode level count enabled type style time".split())


def unread_fields(
    fields: Fields,
    messages: Iterable[Fields],
    reads: frozenset[str],
    copies: Iterable[str] = (),
    writes_names: bool = True,
) -> set[str]:
    """Fields of a row, and of its turns as `turns.NAME`, that say something and that nothing here reads; those known as
    harmless are left out.

    Args:
        reads: the fields that the row's format reads.
        copies: those of them that are not read, because they repeat what the turns say; one that says something else is
            unread.
        writes_names: the template writes the names of those who speak.
    """
    messages = [*messages]
    unread = {n for n in fields if n not in reads and n not in HARMLESS and fields[n] not in EMPTY}
    if unread:
        unread -= {name for name in unread.intersection(MODE_FIELDS) if told_mode(fields[name]) is not None}
        if "rejected" in reads:
            unread -= {name for pair in score_columns(fields) for name in pair}
    unread |= {name for name in copies if fields.get(name) not in EMPTY and not is_copy(fields[name], messages)}
    if ROW_REASONING in fields and ROW_REASONING in reads and not _is_thought(fields[ROW_REASONING], messages[-1]):
        unread.add(ROW_REASONING)  # the row does not think, or the template writes no reasoning
    asked = fields.get("input")
    if isinstance(asked, dict):  # of OpenAI's pairs
        strange = asked.keys() - HARMLESS - {"messages", "tools"}
        unread |= {f"input.{name}" for name in strange if asked[name] not in EMPTY}
    for message in messages:
        if not message.keys() <= TURN_FIELDS:
            strange = message.keys() - TURN_FIELDS - HARMLESS
            unread |= {f"turns.{name}" for name in strange if message[name] not in EMPTY}
        if len(message) > 2 and message["role"] != "assistant":
            unread |= {f"turns.{flag} of a {message['role']} turn" for flag in LOSS_FLAGS if message.get(flag)}
        if not writes_names and "name" in message and message["role"] != "tool":
            unread.add("turns.name")
    return unread


def _is_thought(column: Any, answer: Fields) -> bool:
    """Whether an answer has the reasoning of a column, in a field or in its words, or the column holds none."""
    if ROW_REASONING in answer or column in EMPTY:
        return True
    return isinstance(column, str) and (column.strip().lower() in NO_REASONING or column.strip() in answer["content"])


def judges(field: str) -> bool:
    """Whether an unread field says, by its name, whether or how a row or a turn is to be used.

    >>> [judges(name) for name in ("turns.isTrainable", "loss_weights", "is_correct", "mood", "training_source")]
    [True, True, True, False, False]
    """
    words = name_words(re.sub(r"^turns\.| of a \w+ turn$", "", field))
    if words[:1] == ["is"]:
        words = words[1:]
    return "_".join(words) in JUDGING or (not JUDGING_WORDS.isdisjoint(words) and OF_ORIGIN.isdisjoint(words))


def holds_thoughts(field: str) -> bool:
    """Whether an unread field holds, by its name, what was thought before an answer.

    >>> [holds_thoughts(name) for name in ("turns.thought", "Complex_CoT", "reasoningTrace", "reasoning_effort")]
    [True, True, True, False]
    """
    words = name_words(field.removeprefix("turns."))
    told = not THOUGHTS.isdisjoint(words) or "_".join(words) in THOUGHTS
    return told and OF_THOUGHTS.isdisjoint(words)
