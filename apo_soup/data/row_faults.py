"""What is wrong with a supervised row's trained text, in checks so cheap that every row gets them."""

import re
from collections.abc import Sequence

from apo_soup.data.conversation import Conversation
from apo_soup.data.messages import END_OF_THINKING
from apo_soup.data.rows import Fields
from apo_soup.data.template import Span

EMPTY_BLOCK = re.compile(r"\s*(<\|im_start\|>\s*assistant\s*)?<think>\s*</think>")
INLINE_BLOCK = re.compile(r"<think>(.*)</think>", re.DOTALL)
MODE_FLAGS = ("/no_think", "/think", "/system_override")


def row_fault(
    item: Conversation, text: str, spans: list[Span], turns: list[Fields], ends: tuple[str, ...], modes: bool
) -> str | None:
    """What is wrong with a row behind those that the mask check looks at, or None.

    Args:
        text: the rendered row.
        spans: its trained characters, one span a trained turn.
        turns: the assistant's turns that are trained.
        ends: the special tokens that may end a turn, the end-of-turn token first.
        modes: the template knows think and no-think mode.
    """
    answers = [text[start:end] for start, end in spans]
    fault = end_fault(turns, answers, ends) or others_fault(item, text, spans)
    if fault:
        return fault
    for answer in answers:
        if answer[:1].isalnum() and not answer.startswith(ends):
            continue  # most answers: they begin with a word, so they are neither of these
        if EMPTY_BLOCK.match(answer):
            return "the empty think block of no-think mode is part of an answer"
        if without_end(answer, ends) == "":
            return "an answer is nothing but its end of turn"
    return row_mode_fault(item, answers, modes)


def row_mode_fault(item: Conversation, answers: Sequence[str], modes: bool) -> str | None:
    """How a row's trained texts break its mode; `modes` says that the template knows modes.

    Where it does not, a row is held to the mode that it or its recipe states.
    """
    if not modes and "enable_thinking" not in item.kwargs:
        return None
    if item.thinks and not any(map(has_reasoning, answers)) and not _has_reasoning_without_tags(item, answers):
        return "a think row trains on no reasoning; give no-think rows enable_thinking: false"
    if not item.thinks and any(has_reasoning(answer) or INLINE_BLOCK.search(answer) for answer in answers):
        return "a no-think row trains on reasoning (<think> in an answer)"
    return None


def end_fault(turns: Sequence[Fields], answers: Sequence[str], ends: Sequence[str]) -> str | None:
    """How the trained texts of turns miss their end. A call may end with another special token than an answer does."""
    if all(answer.endswith(ends[0]) for answer in answers):
        return None
    if not all(answer.endswith(tuple(ends)) for answer in answers):
        return f"an answer's end-of-turn token {ends[0]} is not trained (eos_token names another one)"
    if not turns[-1].get("tool_calls") and not answers[-1].endswith(ends[0]):
        written = next(end for end in ends if answers[-1].endswith(end))
        return (
            f"answers end with {written} and generation stops at {ends[0]}, which is never trained; "
            f"write eos_token: {written!r} into the recipe, or correct the template"
        )
    return None


def others_fault(item: Conversation, text: str, spans: list[Span]) -> str | None:
    """Whose words are trained though they are not the assistant's, or None.

    Every system, user and tool turn must stand, in order and unbroken, in the text that is not trained.
    """
    position = 0
    untrained = _without_spans(text, spans)
    for message in item.messages:
        if message["role"] == "assistant":
            continue
        content = without_flags(message["content"]).strip()
        start = untrained.find(content, position)
        if start >= 0:
            position = start + len(content)
        # Some templates write the system text into the last user turn, so the order need not be that of the messages.
        elif content not in untrained and content in text:
            return f"the text of a {message['role']} turn is trained"
    return None


def assistant_texts(item: Conversation) -> list[str]:
    """What the assistant says in each of its turns, reasoning in front, as rows trained as a whole hold it."""
    turns = item.answers
    thoughts = [m.get("reasoning_content") if item.thinks else None for m in turns]
    return [f"<think>{t}</think>{m['content']}" if t else m["content"] for m, t in zip(turns, thoughts, strict=True)]


def has_reasoning(answer: str) -> bool:
    """Whether an answer begins with a think block, or closes one that the generation prompt opened."""
    return answer.lstrip().startswith("<think>") or (END_OF_THINKING in answer and "<think>" not in answer)


def without_end(answer: str, ends: Sequence[str]) -> str:
    """An answer without its end of turn and white space."""
    for end in ends:
        answer = answer.removesuffix(end)
    return answer.strip()


def without_flags(text: str) -> str:
    """A text without the words that only choose a mode, as our template leaves them out."""
    if "/" not in text or not any(flag in text for flag in MODE_FLAGS):
        return text
    lines = (" ".join(word for word in line.split(" ") if word not in MODE_FLAGS) for line in text.split("\n"))
    return "\n".join(lines)


def _has_reasoning_without_tags(item: Conversation, answers: Sequence[str]) -> bool:
    """Whether a turn's reasoning is trained between other words than think tags, as in gpt-oss's template."""
    thoughts = (m.get("reasoning_content") for m in item.messages if m["role"] == "assistant")
    return any(t and t.strip() in answer for t in thoughts for answer in answers)


def _without_spans(text: str, spans: list[Span]) -> str:
    """`text` with a mark no text holds in place of each trained span."""
    parts, before = [], 0
    for start, end in spans:
        parts.append(text[before:start])
        before = end
    return "\0".join([*parts, text[before:]])
