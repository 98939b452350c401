"""Answers whose reasoning stands between tags of another name, as think blocks where a template knows these alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from apo_soup.data.conversations.conversation import Conversation, PlainText, RowItem
from apo_soup.data.conversations.turn_fields import REASONING
from apo_soup.data.sources.rows import Fields
from apo_soup.models.think_tags import BEGINNINGS_OF_TAGS, END_OF_THINKING, THINKING, TaggedThought, tagged_thought

TaggedItemT = TypeVar("TaggedItemT", bound=RowItem)
READ_AS_BLOCK = "reasoning between {} and {} was read as a think block"
FRAME_TAKEN_OFF = "{} and {} around the words of an answer were taken off, as the tags of its reasoning were"
STILL_ASKED_FOR = (
    "warning: a system text speaks of {}, which the answers no longer have, as their reasoning is in a think block; "
    "write system_turn: drop for the source, or correct the text"
)

KEPT_AS_ASKED = "warning: {} stays words, as a turn or the instructions of its row ask for it or speak of it"


def with_think_blocks(item: TaggedItemT, is_known: Callable[[str], bool]) -> tuple[TaggedItemT, list[str]]:
    """A row whose answers have their reasoning in think blocks, and what is to be said of it. One that is said not to
    think keeps the tags as words, and so does one that speaks of them elsewhere than in its first system turn.

    Args:
        is_known: whether the tokenizer or the template knows a tag, which is then theirs to read.
    """
    if isinstance(item, PlainText) or item.stated_mode is False:
        return item, []
    names = ("messages",) if isinstance(item, Conversation) else ("prompt", "chosen", "rejected")
    changed: dict[str, Any] = {}
    tags: set[tuple[str, str]] = set()
    frames: set[tuple[str, str]] = set()
    kept: set[str] = set()
    spoken = _words_around(item)
    for name in names:
        turns: list[Fields] = getattr(item, name)
        for number, turn in enumerate(turns):
            # Most answers begin with a word or a think block.
            if turn["role"] != "assistant" or turn["content"][:1].isalnum() or turn["content"].startswith(THINKING):
                continue
            found = _thought_of(turn)
            if found and not is_known(found.opening) and not is_known(found.closing):
                if found.opening in spoken:
                    kept.add(found.opening)
                    continue
                changed.setdefault(name, list(turns))[number] = {**turn, "content": found.text}
                tags.add((found.opening, found.closing))
                frames |= {found.frame} if found.frame else set()
    told = [KEPT_AS_ASKED.format(opening) for opening in sorted(kept)]
    if not changed:
        return item, told
    remarks = told + [READ_AS_BLOCK.format(*pair) for pair in sorted(tags)]
    remarks += [FRAME_TAKEN_OFF.format(*pair) for pair in sorted(frames)]
    first = item.in_order[0]
    if first["role"] == "system":
        remarks += [STILL_ASKED_FOR.format(opening) for opening, _ in sorted(tags) if opening in first["content"]]
    return replace(item, **changed), remarks


def _words_around(item: RowItem) -> str:
    """What a row says beside its answers and its first system turn, where a format may be asked for."""
    if isinstance(item, PlainText):
        return ""
    turns = item.messages if isinstance(item, Conversation) else item.prompt
    later = turns[1:] if turns and turns[0]["role"] == "system" else turns
    words = [str(turn["content"]) for turn in later if turn["role"] != "assistant"]
    return "\n".join([*words, str(item.kwargs.get("custom_instructions") or "")])


def _thought_of(turn: Fields) -> TaggedThought | None:
    """The thought with which the words of an assistant's turn begin; None where it has one in a field."""
    content: str = turn["content"]
    if not content.lstrip().startswith(BEGINNINGS_OF_TAGS) or any(turn.get(name) for name in REASONING):
        return None
    found = tagged_thought(content)
    if found and found.text.rstrip().endswith(END_OF_THINKING) and not turn.get("tool_calls"):
        return None  # it is all that the turn says, so it is the answer
    return found
