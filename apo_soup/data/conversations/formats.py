"""The shapes that rows come in, and how each becomes the one this project works on.

Supervised rows become `messages`, `prompt` + `completion`, or `text`; preference rows become `chosen` and `rejected`
with or without `prompt`. Other fields (template arguments, tools) pass through.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from apo_soup.data.conversations import converters
from apo_soup.data.conversations.messages import checked_messages
from apo_soup.data.conversations.rename_guess import rename_remedy
from apo_soup.data.conversations.turn_fields import OLDER_TOOLS, ROW_REASONING, TOOL_FIELDS
from apo_soup.data.conversations.turn_order import joined_turns, usual_turns, without_leading_turns
from apo_soup.data.sources.rows import Fields, RowError

# What is done with turns in an unusual order, where a source asks for it.
ORDERS = {"join": joined_turns, "drop_leading": without_leading_turns, "refuse": usual_turns}
DONE_TO_TURNS = {
    "join": "turn_order: join made one turn of several of one role",
    "drop_leading": "turn_order: drop_leading left out what the assistant says before the first user turn",
}
# Fields that every format but plain text reads.
COMMON = ("system", "system_prompt", "chat_template_kwargs", OLDER_TOOLS, *TOOL_FIELDS)


@dataclass(frozen=True)
class Format:
    """A shape of rows: the fields that mark it, how a row of it is converted, the fields that are read of it beside
    these, and those that data sets keep as `copies` of them. `turn_order` is what a source asks for turns in an unusual
    order.
    """

    name: str
    needs: tuple[str, ...]
    convert: Callable[[Fields], Fields]
    beside: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    turn_order: str | None = None

    def fits(self, fields: Fields) -> bool:
        """Whether a row has every field that marks the format."""
        for name in self.needs:  # noqa: SIM110 - a generator costs more than the search
            if name not in fields:
                return False
        return True

    @cached_property
    def reads(self) -> frozenset[str]:
        """Every field that is read of a row, or is a copy of one."""
        return frozenset((*self.needs, *self.beside, *self.copies))


TEXT = Format("text", ("text",), converters.text_only, ())
# In the order they are tried: a row with `messages` and a copy of its first turn as `prompt` is a conversation.
SUPERVISED = (
    # HuggingFaceH4's sets keep a copy of the first turn as `prompt`.
    Format("messages", ("messages",), converters.unchanged, (*COMMON, "prompt_id"), ("prompt",)),
    Format("sharegpt", ("conversations",), converters.sharegpt, COMMON),
    Format("conversation", ("conversation",), converters.conversation, COMMON),
    # Alpaca's own file keeps the rendered prompt as `text`.
    Format(
        "alpaca", ("instruction", "output"), converters.alpaca, (*COMMON, ROW_REASONING, "input", "history"), ("text",)
    ),
    Format(
        "instruction_response",
        ("instruction", "response"),
        converters.instruction_response,
        (*COMMON, ROW_REASONING, "input", "context", "history"),
    ),
    Format("query_response", ("query", "response"), converters.query_response, (*COMMON, ROW_REASONING, "history")),
    Format("query_answers", ("query", "tools", "answers"), converters.query_answers, (*COMMON, "history")),
    Format("prompt_completion", ("prompt", "completion"), converters.unchanged, (*COMMON, ROW_REASONING)),
    TEXT,
)
PREFERENCE = (
    Format("chosen_messages", ("chosen_messages", "rejected_messages"), converters.chosen_messages, COMMON),
    Format(
        "rejected_messages", ("rejected_messages",), converters.rejected_messages, (*COMMON, *converters.CONVERSATIONS)
    ),
    Format(
        "chosen_response",
        ("chosen_response", "rejected_response"),
        converters.chosen_response,
        (*COMMON, *converters.CONVERSATIONS, *converters.QUESTIONS, "prompt", "instruction", "history"),
    ),
    Format(
        "rejected_response",
        ("rejected_response",),
        converters.rejected_response,
        (*COMMON, *converters.CONVERSATIONS, "query", "response", "history"),
    ),
    Format(
        "preferred_output",
        ("input", "preferred_output", "non_preferred_output"),
        converters.preferred_output,
        COMMON,
    ),
    Format("sharegpt_preference", ("conversations", "chosen", "rejected"), converters.sharegpt_preference, COMMON),
    Format(
        "instruction_preference",
        ("instruction", "chosen", "rejected"),
        converters.instruction_preference,
        (*COMMON, "input", "history"),
    ),
    Format("output_preference", ("instruction", "output"), converters.output_preference, (*COMMON, "input", "history")),
    # UltraFeedback's sets keep the chosen conversation as `messages`.
    Format(
        "preference",
        ("chosen", "rejected"),
        converters.preference,
        (*COMMON, "prompt", "prompt_id"),
        ("messages", *converters.QUESTIONS),
    ),
)


def formats_of(pairs: bool) -> tuple[Format, ...]:
    """The formats of preference rows, or of supervised ones."""
    return PREFERENCE if pairs else SUPERVISED


def missing_field(name: str, fields: Fields) -> RowError:
    """The error of a row without a field that it needs."""
    have = ", ".join(sorted(fields)) or "no fields"
    remedy = rename_remedy(fields, (name,)) or "map a column to it with rename, or leave the row out"
    return RowError(f"field {name}: expected a value, got a row with {have}; {remedy}")


def recognise(fields: Fields, formats: tuple[Format, ...]) -> Format | None:
    """The first format all of whose marks a row has, or None."""
    return next((f for f in formats if f.fits(fields)), None)


def format_of_row(fields: Fields, usual: Format, named: bool) -> Format:
    """The format of a row of a source of the format `usual`: that, or, where the row lacks its fields, the only other
    format that it fits. A plain text is never taken for a row of a source of conversations.

    Args:
        named: the recipe itself names the source's format, so every row has it.

    Raises:
        RowError: the row fits none but plain text.
    """
    if named or usual.fits(fields):
        return usual
    fitting = [f for f in formats_of(usual.name in {f.name for f in PREFERENCE}) if f.fits(fields)]
    others = [f for f in fitting if f.name != TEXT.name]
    if len(others) == 1:
        return replace(others[0], turn_order=usual.turn_order)
    if not fitting:
        return usual
    raise RowError(
        f"field {usual.needs[0]}: expected a row of format {usual.name}, as the first rows of its source, got one of "
        f"format {' or '.join(f.name for f in others or fitting)}; put such rows into a source of their own, whose "
        "format says what they are"
    )


def canonical(fields: Fields, row_format: Format) -> Fields:
    """A row's fields in this project's own shape; raises as `ordered_fields` does."""
    return ordered_fields(fields, row_format)[0]


def in_own_shape(fields: Fields, pairs: bool) -> Fields:
    """A preference row, or a conversation, in this project's own shape, from any that rows of training come in; one of
    none is as it was.

    Raises:
        RowError: its inside is not what its format says.
    """
    known = recognise(fields, tuple(form for form in formats_of(pairs) if form is not TEXT))
    return canonical(fields, known) if known else fields


def ordered_fields(fields: Fields, row_format: Format) -> tuple[Fields, str | None]:
    """A row's fields in this project's own shape, and how the order that its source asks for changed its turns.

    Raises:
        RowError: a field that the format needs is missing, or its inside is not what the format says.
    """
    if not row_format.fits(fields):
        raise missing_field(next(name for name in row_format.needs if name not in fields), fields)
    if "system_prompt" in fields:
        fields = {**fields, "system": one_system(fields)}
    converted = row_format.convert(fields)
    return (converted, None) if row_format.turn_order is None else _with_order(converted, row_format.turn_order)


def one_system(fields: Fields) -> Any:
    """The system text of a row, by either of its names: ms-swift's is `system_prompt`.

    Raises:
        RowError: it has both, and they differ.
    """
    system, prompt = fields.get("system"), fields.get("system_prompt")
    if system and prompt and system != prompt:
        raise RowError("fields system, system_prompt: expected one system text, got two that differ; remove one")
    return system or prompt


def _with_order(fields: Fields, order: str) -> tuple[Fields, str | None]:
    """A row's fields with each of its lists of turns changed, and what was done to them, or None."""
    if "messages" in fields:
        names = ["messages"]
    else:
        names = [n for n in ("prompt", "completion", "chosen", "rejected") if isinstance(fields.get(n), list)]
    turns = {name: checked_messages(fields[name], name) for name in names}
    changed = {name: ORDERS[order](messages, name) for name, messages in turns.items()}
    fewer = any(len(changed[name]) < len(turns[name]) for name in names)
    return {**fields, **changed}, DONE_TO_TURNS[order] if fewer else None
