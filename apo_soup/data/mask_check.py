"""The mask check: the last one before a GPU is paid for, that what is trained is what should be trained.

It does not trust the loss mask. It compares the trained text with the words of the row's messages: all that the
assistant says must be in the decoded tokens, and what anybody else says must stand outside the trained spans. It reads
the first rows of every source; a failure stops the launch and shows the row. Rows behind them get the cheap checks of
`row_faults.py`, and pairs those of `pair_check.py`.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from apo_soup.data.conversation import Conversation, SupervisedItem
from apo_soup.data.row_faults import (
    EMPTY_BLOCK,
    INLINE_BLOCK,
    assistant_texts,
    end_fault,
    others_fault,
    row_mode_fault,
    without_end,
)
from apo_soup.data.rows import Fields
from apo_soup.data.template import Span
from apo_soup.errors import UserError

# It looks at so many rows of a source, and at no more than so much text, so that it stays within seconds.
ROWS_PER_SOURCE = 200
CHARACTERS_PER_SOURCE = 600_000
SHOWN_CHARACTERS = 1200


@dataclass(frozen=True)
class CheckedRow:
    """One row of a source as it will be trained.

    `spans` are the characters meant to be trained, `trained_texts` the text of the tokens that are, span by
    span, and `turns` the assistant's turns that these are.
    `whole` says that the recipe trains on all of the row (`assistant_only_loss: false`, or a plain text), `modes` that
    the template knows think and no-think mode.
    """

    source: str
    place: str
    item: SupervisedItem
    text: str
    spans: list[Span]
    trained_texts: list[str]
    turns: list[Fields]
    whole: bool = False
    modes: bool = True


def check_row(row: CheckedRow, ends: Sequence[str]) -> None:
    """Refuse a source whose rows train on nothing, on others' words, or never on the end of turn.

    Args:
        ends: the special tokens that may end a turn, the end-of-turn token first.

    Raises:
        UserError: naming source and row, with the row as rendered and the text that would be trained.
    """
    fault = checked_row_fault(row, ends)
    if fault:
        raise mask_check_error(
            row.source,
            row.place,
            fault,
            {"the row as rendered": row.text, "the text that would be trained": " | ".join(row.trained_texts)},
        )


def checked_row_fault(row: CheckedRow, ends: Sequence[str]) -> str | None:
    """What is wrong with a row's trained text, or None."""
    item, answers = row.item, row.trained_texts
    if not "".join(answers):
        return "no token of this row is trained"
    if not isinstance(item, Conversation):
        return None
    if row.whole:
        return row_mode_fault(item, assistant_texts(item), row.modes)
    if any(EMPTY_BLOCK.match(answer) for answer in answers):
        return "the empty think block that the template prefills is trained"
    return (
        end_fault(row.turns, answers, ends)
        or others_fault(item, row.text, row.spans)
        or _unrendered_fault(item, row, ends)
        or row_mode_fault(item, answers, row.modes)
    )


def _unrendered_fault(item: Conversation, row: CheckedRow, ends: Sequence[str]) -> str | None:
    """What each assistant turn says, its calls included, must be in the trained text of its span."""
    answers = row.turns
    rendered = _normal_form(row.text)
    for message, trained in zip(answers, row.trained_texts, strict=True):
        trained = _normal_form(trained)
        content = _normal_form(message["content"].rpartition("</think>")[2].strip())
        if content in rendered and content not in trained:
            return "an answer of the assistant is not trained"
        if any(call["function"]["name"] not in trained for call in message.get("tool_calls") or []):
            return "the chat template does not render a tool call, so it is not trained"
        if not without_end(trained, ends):
            return "the chat template renders nothing of an answer but its end of turn"
    if not item.thinks:
        return None
    inline = INLINE_BLOCK.match(answers[-1]["content"].lstrip())
    for name, reasoning in (
        ("reasoning_content", answers[-1].get("reasoning_content")),
        ("the think block of the last answer", inline and inline[1]),
    ):
        if reasoning and _normal_form(reasoning.strip()) not in _normal_form(row.trained_texts[-1]):
            return f"the chat template does not render {name}, so it is not trained"
    return None


def mask_check_error(source: str, place: str, fault: str, texts: dict[str, str]) -> UserError:
    """The error of a row that fails the check, with its texts below their titles."""
    remedy = "" if ";" in fault else "; correct the rows or the chat template"
    below = "".join(f"\n--- {title} ---\n{_shortened(text)}" for title, text in texts.items())
    return UserError(f"mask check: source {source}, row {place}: {fault}{remedy}{below}")


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " ..."


def _normal_form(text: str) -> str:
    """Text in the normal form that some tokenizers (Qwen's) bring it to."""
    return unicodedata.normalize("NFC", text)
