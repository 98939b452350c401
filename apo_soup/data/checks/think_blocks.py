"""Think blocks in what is trained: opened where they are closed, and closed where they are opened."""

from apo_soup.data.conversations.conversation import Conversation
from apo_soup.models.think_tags import END_OF_THINKING, THINKING

NOT_OPENED = "expected <think> before the </think> of an answer, got none; write <think> before its reasoning"
NOT_CLOSED = (
    "expected </think> in an answer before which the chat template opens a think block, got none, so the answer would "
    "be trained as reasoning; add its reasoning, or choose a chat_template that opens no think block there"
)
UNEQUAL = "expected as many <think> as </think> in an answer, got unequal numbers; correct them"


def think_block_fault(answer: str, opened: bool) -> str | None:
    """What is wrong with the think blocks of a trained text, or None.

    Args:
        opened: the text before it ends by opening a block.
    """
    closing = answer.find(END_OF_THINKING)
    if closing < 0:
        return NOT_CLOSED if opened else None
    if not opened and not 0 <= answer.find(THINKING) < closing:
        return NOT_OPENED
    return None if answer.count(END_OF_THINKING) == answer.count(THINKING) + opened else UNEQUAL


def whole_text_block_fault(item: Conversation, text: str) -> str | None:
    """What is wrong with the think blocks of a text that is trained as a whole, or None; the tags that others than the
    assistant write are theirs.
    """
    if END_OF_THINKING not in text and THINKING not in text:
        return None
    others = [message["content"] for message in item.messages if message["role"] != "assistant"]
    opened, closed = (text.count(tag) - sum(said.count(tag) for said in others) for tag in (THINKING, END_OF_THINKING))
    if opened == closed:
        return None
    if opened < closed:
        return NOT_OPENED
    own = sum(answer["content"].count(THINKING) for answer in item.answers)
    if not own:
        return NOT_CLOSED
    # An answer that only speaks of the tag has a word in it, as where answers alone are trained.
    return UNEQUAL if closed or opened > own else None


def has_reasoning(answer: str) -> bool:
    """Whether an answer begins with a think block, or closes one that the generation prompt opened."""
    return answer.lstrip().startswith(THINKING) or (END_OF_THINKING in answer and THINKING not in answer)
