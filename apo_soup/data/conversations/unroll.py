"""One sample for each answer of a conversation, ending with it, so that it is trained as it will be asked: behind the
history as the template shortens it, with its own reasoning.
"""

from dataclasses import replace

from apo_soup.data.conversations.conversation import Conversation
from apo_soup.data.documents import Document, Refused


def samples_of(item: Conversation, turns: list[int]) -> list[Conversation]:
    """The conversation up to each of some assistant turns, given by their numbers among the assistant's."""
    places = [number for number, message in enumerate(item.messages) if message["role"] == "assistant"]
    return [
        replace(
            item,
            messages=item.messages[: places[turn] + 1],
            masked_turns=frozenset(masked for masked in item.masked_turns if masked < turn),
            reasons_elsewhere=item.reasons,
        )
        for turn in turns
    ]


def joined_samples(first: Document | Refused, second: Document | Refused) -> Document | Refused:
    """What becomes of a row of which two samples became this.

    A sample at fault makes the row one. A sample that is dropped for its length counts as tokens lost.
    """
    for one in (first, second):
        if isinstance(one, Refused) and one.kind == "rejected":
            return one
    if isinstance(first, Document) and isinstance(second, Document):
        return replace(
            second,
            parts=first.parts + second.parts,
            tokens=first.tokens + second.tokens,
            trained=first.trained + second.trained,
            reasoning=first.reasoning + second.reasoning,
            lost=first.lost + second.lost,
            samples=first.samples + second.samples,
            shortened=0,
        )
    if isinstance(first, Refused) and isinstance(second, Refused):
        return replace(first, lost=first.lost + second.lost)
    kept, dropped = (first, second) if isinstance(first, Document) else (second, first)
    assert isinstance(kept, Document)
    return replace(kept, lost=kept.lost + dropped.lost)
