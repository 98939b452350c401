"""Think blocks as a template renders them: once, and not left out."""

from typing import Any

from apo_soup.data.conversations.reasoning import NEAR
from apo_soup.data.rendering.message_form import USER
from apo_soup.data.rendering.template import ChatTemplate, Span
from apo_soup.data.sources.rows import RowError
from apo_soup.models.think_tags import END_OF_THINKING, THINKING

THOUGHT = "probe0f0thought"


def block_fault(text: str, spans: list[Span], thinks: bool) -> str | None:
    """What is wrong with a think block of a rendered conversation, or None.

    Args:
        spans: the trained characters, one span an assistant turn.
        thinks: the row is in think mode; one that is not has no reasoning at all.
    """
    if not thinks:
        return None
    for number, (start, end) in enumerate(spans):
        closed = text.find(END_OF_THINKING, start, end)
        if closed < 0:
            continue
        opened = text.find(THINKING, start, closed)
        before = text[max(0, start - NEAR) : start].rstrip()
        if opened >= 0 and before.endswith(END_OF_THINKING):
            return (
                f"assistant turn {number + 1}: expected one think block, got an empty one of the chat template's "
                "before the one in the content; give the reasoning as reasoning_content"
            )
    return None


def renders_reasoning(template: ChatTemplate, arguments: dict[str, Any]) -> bool:
    """Whether a template renders the think block that stands in the content of a last answer."""
    answer = {"role": "assistant", "content": f"{THINKING}\n{THOUGHT}\n{END_OF_THINKING}\n\n?"}
    try:
        return THOUGHT in template.render([USER, answer], arguments)[0]
    except RowError:
        return False
