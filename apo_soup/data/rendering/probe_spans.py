"""Spans of a template that has neither marks nor a loop over its messages: each answer in turn is replaced by a word,
to see where it stands.

What stands before the word and behind it must be what stands around the answer. So this holds where a template shortens
old answers (Qwen3 strips their reasoning) or writes the date into the last turn. A conversation is rendered twice a
turn.
"""

from typing import Any, Protocol

from apo_soup.data.conversations.conversation import Conversation
from apo_soup.data.cures import OTHER_TEMPLATE
from apo_soup.data.rendering.message_form import PROBE
from apo_soup.data.rendering.template import Span
from apo_soup.data.rendering.trim import end_at
from apo_soup.data.rendering.turn_frame import TurnFrame
from apo_soup.data.sources.rows import Fields, RowError

# Characters before an answer by which the end of a header is known again.
HEADER_END = 4


class RendersConversations(Protocol):
    """What probing needs of a renderer."""

    ends: tuple[str, ...]

    def frames_of(self, item: Conversation) -> list[TurnFrame]:
        """What the template writes around each assistant turn."""

    def cure(self, otherwise: str) -> str:
        """What helps where spans cannot be found."""

    def render(self, messages: list[Fields], kwargs: dict[str, Any]) -> tuple[str, Any]:
        """The text of a conversation."""

    def prompt(self, messages: list[Fields], kwargs: dict[str, Any]) -> str:
        """The text with its generation prompt."""


def probed_spans(renderer: RendersConversations, text: str, item: Conversation) -> list[Span]:
    """The spans of the assistant's turns in `text`, which is the whole conversation.

    Raises:
        RowError: a turn cannot be told from what stands around it.
    """
    turns = [number for number, message in enumerate(item.messages) if message["role"] == "assistant"]
    frames = renderer.frames_of(item)
    return [_span_of(renderer, text, item, n, frame.headers) for n, frame in zip(turns, frames, strict=True)]


def _span_of(renderer: RendersConversations, text: str, item: Conversation, number: int, headers: list[str]) -> Span:
    probe = {"role": "assistant", "content": PROBE}
    around = renderer.render([*item.messages[:number], probe, *item.messages[number + 1 :]], item.kwargs)[0]
    before, found, behind = around.partition(PROBE)
    header = next((h for h in headers if before.endswith(h)), "")
    base = len(before) - len(header)
    if not found or text[:base] != before[:base] or not text.endswith(behind):
        raise RowError(
            f"chat_template: expected generation marks, or the same text around turn {number} whatever the turn says, "
            "got neither, so its trained span cannot be located; " + renderer.cure("add {% generation %} marks to it")
        )
    start = base + next((len(h) for h in headers if text.startswith(h, base)), 0)
    # White space that the template puts before an answer is the model's to write where its prompt ends before it.
    # Only what stands just before the answer is compared: the text further up may depend on which turn is the last.
    prompt = renderer.prompt(item.messages[:number], item.kwargs)
    written, asked = text[:start].rstrip(), prompt.rstrip()
    gap, own = text[len(written) : start], prompt[len(asked) :]
    if gap.startswith(own) and written.endswith(asked[-HEADER_END:]):
        start = len(written) + len(own)
    end = len(text) - len(behind)
    if end < start:
        raise RowError(f"expected turn {number} in what the chat template writes, got nothing of it; {OTHER_TEMPLATE}")
    return start, end + end_at(text, end, renderer.ends)
