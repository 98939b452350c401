"""The fields of a row and of its turns: which say nothing of the words, and which mask a turn."""

import re
from typing import Any

from apo_soup.data.sources.rows import Fields, RowError, described

# Flags by which data sets say whether an assistant turn carries loss: OpenAI's (weight), axolotl's (train, training),
# verl's and others' (trainable, loss, loss_mask), ms-swift's (loss, loss_scale).
LOSS_FLAGS = ("weight", "train", "training", "trainable", "loss", "loss_mask", "loss_scale")
# The names that a message's reasoning goes by; templates read the first, gpt-oss's reads `thinking`.
REASONING = ("reasoning_content", "thinking", "reasoning")
# Names of it in parts, as OpenRouter, litellm and others give them, often beside one of those above.
REASONING_IN_PARTS = ("reasoning_details", "thinking_blocks", "reasoning_text")
# The column of a row of texts that holds what was thought before its answer.
ROW_REASONING = "reasoning_content"
# The same, beside the messages that rows of texts become: rows of messages may have a column of that name.
ANSWER_REASONING = "reasoning of the answer"
TOOL_FIELDS = ("tools", "xml_tools", "python_tools")
# OpenAI's older name of the tools, beside its older calls.
OLDER_TOOLS = "functions"
# Columns by which data sets say whether a row thinks; the last three may hold a thought instead.
MODE_FIELDS = ("enable_thinking", "think", "thinking", "reasoning")
MODE_WORDS = {"on": True, "true": True, "off": False, "false": False}
TURN_FIELDS = frozenset(
    (
        *("role", "content", "name", "tool_calls", "tool_call_id", "function_call"),
        *REASONING,
        *REASONING_IN_PARTS,
        *LOSS_FLAGS,
    )
)
# What names a row, a turn or its origin, and judges nothing.
HARMLESS = frozenset(
    """id idx index uid uuid hash row_id message_id conversation_id conversation_hash source sources dataset subset
    split origin license url turn turn_id timestamp created_at date language lang""".split()
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


def name_words(name: str) -> list[str]:
    """The words of a field's name, whichever way they are joined.

    >>> name_words("userPrompt"), name_words("chosen-rating"), name_words("Complex_CoT")
    (['user', 'prompt'], ['chosen', 'rating'], ['complex', 'cot'])
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name.replace("CoT", "Cot"))
    return re.findall(r"[^\W_]+", spaced.lower())
