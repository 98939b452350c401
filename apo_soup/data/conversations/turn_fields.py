"""The fields of a row and of its turns: which are read, which say nothing of the words, and which mask a turn."""

from collections.abc import Iterable
from typing import Any

from apo_soup.data.sources.rows import Fields, RowError, described

# Flags by which data sets say whether an assistant turn carries loss: OpenAI's (weight), axolotl's (train, training),
# verl's and others' (trainable, loss, loss_mask), ms-swift's (loss, loss_scale).
LOSS_FLAGS = ("weight", "train", "training", "trainable", "loss", "loss_mask", "loss_scale")
# The names that a message's reasoning goes by; templates read the first, gpt-oss's reads `thinking`.
REASONING = ("reasoning_content", "thinking", "reasoning")
TOOL_FIELDS = ("tools", "xml_tools", "python_tools")
# OpenAI's older name of the tools, beside its older calls.
OLDER_TOOLS = "functions"
# Columns by which data sets say whether a row thinks; the last three may hold a thought instead.
MODE_FIELDS = ("enable_thinking", "think", "thinking", "reasoning")
MODE_WORDS = {"on": True, "true": True, "off": False, "false": False}
TURN_FIELDS = frozenset(
    ("role", "content", "name", "tool_calls", "tool_call_id", "function_call", *REASONING, *LOSS_FLAGS)
)
# What names a row, a turn or its origin, and judges nothing.
HARMLESS = frozenset(
    """id idx index uid uuid hash row_id message_id conversation_id conversation_hash source sources dataset subset
    split origin license url turn turn_id timestamp created_at date language lang""".split()
)
# Columns by which data sets say whether, or how, a row or its turns are to be used; a warning names them. Loss flags
# among them are a row's own, or a list of one a turn: those of turns are read.
JUDGING = frozenset(LOSS_FLAGS) | frozenset(
    """label labels kto_tag score scores rating reward quality preference chosen rejected chosen_messages
    rejected_messages rejected_response preferred_output non_preferred_output image images video videos
    audio audios enable_thinking mask masks loss_masks loss_weight loss_weights sample_weight assistant_mask
    assistant_masks train_on_input train_on_inputs train_on_prompt mask_history end_turn correct is_correct correctness
    accepted is_accepted verified is_verified passed valid is_valid keep skip exclude deleted ignore ignored masked
    no_loss do_train trained""".split()
)
# Columns that hold what was thought before an answer; a warning names them too.
THOUGHTS = frozenset(
    "think thinking reasoning reasoning_content thought thoughts rationale cot chain_of_thought".split()
)
# Values of a field that says nothing, as in the rows without it of a set that has some. False and 0 say something.
EMPTY: tuple[Any, ...] = (None, "", [], {})


def carries_loss(message: Fields, place: str) -> bool:
    """Whether an assistant turn is trained, as its flags say; without a flag it is.

    Raises:
        RowError: a flag that is neither yes nor no, or flags that disagree.
    """
    marks = {name: message[name] for name in LOSS_FLAGS if message.get(name) is not None}
    if not marks:
        return True
    for name, value in marks.items():
        if value not in (0, 1):  # true and false are 1 and 0
            raise RowError(f"{place}.{name}: expected true, false, 0 or 1, got {described(value)}; write one of them")
    if len({bool(value) for value in marks.values()}) > 1:
        told = ", ".join(f"{name} {value}" for name, value in marks.items())
        raise RowError(f"{place}: expected flags that agree, got {told}; keep one")
    return bool(next(iter(marks.values())))


def told_mode(value: Any) -> bool | None:
    """Whether the value of a column says that its row thinks: true, false, on or off; None where it says neither."""
    return (
        MODE_WORDS.get(value.strip().lower()) if isinstance(value, str) else value if value in (True, False) else None
    )


def unread_fields(
    fields: Fields, messages: Iterable[Fields], reads: frozenset[str], writes_names: bool = True
) -> set[str]:
    """Fields of a row, and of its turns as `turns.NAME`, that say something and that nothing here reads; those known as
    harmless are left out.

    Args:
        reads: the fields that the row's format reads, copies of them included.
        writes_names: the template writes the names of those who speak.
    """
    unread = {name for name in fields.keys() - reads - HARMLESS if fields[name] not in EMPTY}
    if unread:
        unread -= {name for name in unread.intersection(MODE_FIELDS) if told_mode(fields[name]) is not None}
    for message in messages:
        if not message.keys() <= TURN_FIELDS:
            strange = message.keys() - TURN_FIELDS - HARMLESS
            unread |= {f"turns.{name}" for name in strange if message[name] not in EMPTY}
        if len(message) > 2 and message["role"] != "assistant":
            unread |= {f"turns.{flag} of a {message['role']} turn" for flag in LOSS_FLAGS if message.get(flag)}
        if not writes_names and "name" in message and message["role"] != "tool":
            unread.add("turns.name")
    return unread
