"""Think and no-think mode in generated text: where the answer is, and whether the mode was kept."""

import re

from apo_soup.data.conversations.blank_text import is_blank
from apo_soup.models.think_tags import END_OF_THINKING, THINKING

# What opens a turn in the common templates; a model that writes it goes on to speak for somebody else.
TURN_HEADER = re.compile(r"<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>|<\|start\|>")

BLOCK_FIRST = re.compile(rf"\s*{THINKING}(.*?)(?:{END_OF_THINKING}(.*))?$", re.DOTALL)


def answer_part(text: str) -> str:
    """What stands behind the reasoning; text without a think block is all answer, and one never closed holds none."""
    _, closed, answer = text.rpartition(END_OF_THINKING)
    return "" if not closed and THINKING in answer else answer.strip()


def obeys(text: str, think: bool) -> bool:
    """Whether generated text keeps the mode: a filled, closed think block and then an answer, or no block at all."""
    return mode_fault(text, think) is None


def mode_fault(text: str, think: bool) -> str | None:
    """How generated text breaks its mode, in a few words, or None."""
    if TURN_HEADER.search(text):
        return "the header of another turn"
    if not think:
        if THINKING in text or END_OF_THINKING in text:
            return "a think block in no-think mode"
        return "empty answer" if is_blank(text) else None
    block = BLOCK_FIRST.match(text)
    if not block or is_blank(block[1]):
        return "no think block"
    if block[2] is None:
        return "think block not closed"
    if text.count(THINKING) != 1 or text.count(END_OF_THINKING) != 1:
        return "more than one think block"
    return "empty answer" if is_blank(answer_part(text)) else None
