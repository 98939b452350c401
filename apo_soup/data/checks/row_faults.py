"""What is wrong with a supervised row's trained text, in checks so cheap that every row gets them.

They trust neither the template nor the loss mask: what each trained turn of the assistant says stands in its own span,
and what anybody else says stands outside of all of them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from apo_soup.data.checks.said import lacking_call, same_words, says_reasoning, written_in
from apo_soup.data.checks.think_blocks import has_reasoning, think_block_fault, whole_text_block_fault
from apo_soup.data.conversations.conversation import Conversation
from apo_soup.data.conversations.reasoning import (
    EMPTY_BLOCK,
    is_one_block_first,
    opens_block_at,
    spoken_content,
    spoken_reasoning,
    think_blocks,
)
from apo_soup.data.conversations.system_turn import without_flags
from apo_soup.data.cures import (
    CORRECT_TEMPLATE,
    IN_CONTENT,
    INTO_USER,
    NO_THINK_CURE,
    OTHER_TEMPLATE,
    THINK_CURE,
)
from apo_soup.data.rendering.template import Span
from apo_soup.data.sources.rows import Fields
from apo_soup.models.think_tags import END_OF_THINKING

INLINE_BLOCK = re.compile(r"<think>(.*)</think>", re.DOTALL)
NOT_ALL = (
    f"expected all of an answer in what the chat template writes, got less, so it is not trained; {OTHER_TEMPLATE}"
)
# A fault of a row that speaks of tags, whatever is right of the others of its source.
TAGS_AMONG_WORDS = (
    "expected no reasoning in a no-think row, got <think> and </think> among the words of an answer; take them out, or "
    "give the row enable_thinking: true if it thinks"
)
IN_NO_THINK = (
    f"expected no reasoning in a no-think row, got some that the chat template writes; {THINK_CURE.format('rows')}"
)


@dataclass(slots=True)  # one a row, and a frozen one takes four times as long to make
class TrainedTurns:
    """A conversation as it is trained: its text, the characters `spans` that carry loss, and the assistant's `turns`
    that these are, one a span.

    `ends` are the special tokens that may end a turn, the end-of-turn token first; `modes` says that the template knows
    think and no-think mode, `ends_inside` that the recipe allows an end of turn inside a text.
    """

    item: Conversation
    text: str
    spans: list[Span]
    turns: list[Fields]
    ends: Sequence[str]
    modes: bool = True
    ends_inside: bool = False

    def answers(self) -> list[str]:
        """The trained texts, one a turn."""
        return [self.text[start:end] for start, end in self.spans]


def row_fault(row: TrainedTurns) -> str | None:
    """What is wrong with a row whose assistant turns are trained, or None."""
    answers = row.answers()
    ends_row = row.turns[-1] is row.item.messages[-1]
    fault = end_fault(row.turns, answers, row.ends, ends_row) or others_fault(row)
    if fault:
        return fault
    for number, answer in enumerate(answers):
        fault = said_fault(row.item, row.turns[number], answer, row.text) or _turn_fault(row, number, answer)
        if fault:
            return fault
    return row_mode_fault(row.item, row.turns, answers, row.modes)


def whole_row_fault(item: Conversation, text: str, modes: bool) -> str | None:
    """What is wrong with a row all of whose text is trained, or None."""
    for message in item.messages:
        if message["role"] == "assistant":
            fault = said_fault(item, message, text, text)
        else:
            rendered = any(written_in(said, text) for said in _spoken_forms(message))
            fault = None if rendered else _not_rendered(message)
        if fault:
            return fault
    fault = whole_text_block_fault(item, text) or row_mode_fault(item, (), assistant_texts(item), modes)
    if fault or item.thinks or not _is_held_to_mode(item, modes):
        return fault
    return IN_NO_THINK if any(says_reasoning(turn, text) for turn in item.answers) else None


def _turn_fault(row: TrainedTurns, number: int, answer: str) -> str | None:
    """What is wrong with a trained turn, whatever it says: its end, its think block, or that it is empty."""
    end = row.ends[0]
    if not row.ends_inside and answer.find(end, 0, -len(end)) >= 0:
        return f"expected the end-of-turn token {end} at the end of an answer alone, got one inside; remove it"
    opened = opens_block_at(row.text, row.spans[number][0])
    fault = think_block_fault(answer, opened) if opened or END_OF_THINKING in answer else None
    if fault:
        return fault if opened or row.item.thinks else TAGS_AMONG_WORDS
    if answer[:1].isalnum() and not answer.startswith(tuple(row.ends)):
        return None  # most answers: they begin with a word, so they are neither of these
    if without_end(answer, row.ends) == "":
        return f"expected an answer in what the chat template writes, got its end of turn alone; {OTHER_TEMPLATE}"
    return empty_block_fault(row.turns[number], answer)


def empty_block_fault(message: Fields, answer: str) -> str | None:
    """What is wrong with a trained text that begins with an empty think block, or None."""
    if not EMPTY_BLOCK.match(answer):
        return None
    if EMPTY_BLOCK.match(message["content"]):
        return "expected words first in an answer, got an empty think block; remove it from the row"
    return (
        "expected no loss on the empty think block that the template prefills, got it among what is trained; "
        f"{CORRECT_TEMPLATE}"
    )


def said_fault(item: Conversation, message: Fields, answer: str, text: str) -> str | None:
    """What an assistant turn says, its reasoning and its calls included, must be in its trained text.

    Reasoning of earlier turns may be left out of the text altogether, as templates that shorten the history do it.
    """
    content = spoken_content(message)
    if content not in answer and not same_words(content, answer):
        if same_words(content, text):
            return f"expected loss on every answer, got one that is not trained; {CORRECT_TEMPLATE}"
        return NOT_ALL
    calls = message.get("tool_calls") or ()
    for call in calls:
        lacking = lacking_call(call["function"], answer)
        if not lacking and len(calls) > 1:
            names = [other["function"]["name"] for other in calls]
            name = call["function"]["name"]
            lacking = f"a second one of {name}" if answer.count(name) < names.count(name) else None
        if lacking:
            return (
                f"expected all of a tool call in what the chat template writes, got it without {lacking}, so it is not "
                f"trained; {OTHER_TEMPLATE}"
            )
    name, reasoning = spoken_reasoning(message)
    if reasoning in answer and is_one_block_first(message["content"]):
        return None
    blocks = think_blocks(message["content"])
    if not all(same_words(words, answer) for words, _ in blocks):
        return NOT_ALL
    for thought in (reasoning, *(thought for _, thought in blocks[1:])):
        if same_words(thought, answer):
            continue
        if message is item.answers[-1]:
            in_field = f"{IN_CONTENT}, or choose another chat_template" if item.thinks else THINK_CURE.format("rows")
            cure = in_field if name == "reasoning_content" else OTHER_TEMPLATE
            return f"expected {name} in what the chat template writes, got none, so it is not trained; {cure}"
        if thought in text:
            return (
                "expected the reasoning of an earlier answer trained or left out, got it written and not trained; "
                f"{CORRECT_TEMPLATE}"
            )
    return None


def row_mode_fault(item: Conversation, turns: Sequence[Fields], answers: Sequence[str], modes: bool) -> str | None:
    """How a row's trained texts break its mode; `modes` says that the template knows modes.

    Where it does not, a row is held to the mode that it or its recipe states.

    Args:
        turns: those of `answers`, where each has a text of its own.
    """
    if not _is_held_to_mode(item, modes):
        return None
    if item.thinks and not (item.reasons_elsewhere or any(map(has_reasoning, answers)) or item.reasons):
        return f"expected reasoning in a think row, got none; {NO_THINK_CURE.format('rows')}"
    if item.thinks:
        return None
    if any(map(has_reasoning, answers)):
        return f"expected no reasoning in a no-think row, got <think> in an answer; {THINK_CURE.format('rows')}"
    inline = any(INLINE_BLOCK.search(turn["content"]) for turn in item.answers)  # in a call it is no reasoning
    if inline and any(map(INLINE_BLOCK.search, answers)):
        return TAGS_AMONG_WORDS
    if any(says_reasoning(turn, answer) for turn, answer in zip(turns, answers, strict=False)):
        return IN_NO_THINK
    return None


def _is_held_to_mode(item: Conversation, modes: bool) -> bool:
    return modes or "enable_thinking" in item.kwargs


def end_fault(turns: Sequence[Fields], answers: Sequence[str], ends: Sequence[str], ends_row: bool) -> str | None:
    """How the trained texts of turns miss their end. A call may end with another special token than an answer does, and
    an earlier answer with another one than the last, so only the last turn of a row (`ends_row`) says how answers end.
    """
    for answer in answers:
        if not answer.endswith(ends[0]):
            break
    else:
        return None
    if not all(answer.endswith(tuple(ends)) for answer in answers):
        return (
            f"expected the end-of-turn token {ends[0]} at the end of every answer, got one without; write into "
            "eos_token what the template ends a turn with"
        )
    if ends_row and not turns[-1].get("tool_calls") and not answers[-1].endswith(ends[0]):
        written = next(end for end in ends if answers[-1].endswith(end))
        return (
            f"expected {ends[0]}, at which generation stops, behind the last answer, got {written}, so it is never "
            f"trained; write eos_token: {written!r} into the recipe, or correct the template"
        )
    return None


def others_fault(row: TrainedTurns) -> str | None:
    """Whose words are trained though they are not a trained turn's, or are not in the text at all; None if nobody's.

    Every other turn must stand, in order and unbroken, in the text between the trained turns that it stands between.
    """
    parts, behind = [], 0
    for start, end in row.spans:
        parts.append(row.text[behind:start])
        behind = end
    parts.append(row.text[behind:])
    trained = {id(turn) for turn in row.turns}
    passed = position = 0
    for message in row.item.messages:
        if id(message) in trained:
            passed, position = passed + 1, 0
            continue
        answers = message["role"] == "assistant"
        lacking = _lacking_of_context(message, row.text) if answers else None
        if lacking:
            return lacking
        said = spoken_content(message) if answers else message["content"].strip()
        start = parts[passed].find(said, position)
        if start >= 0:
            position = start + len(said)
            continue
        fault = _misplaced(row, message, said, passed, parts)
        if fault:
            return fault
    return None


def _lacking_of_context(message: Fields, text: str) -> str | None:
    """What of the calls of an assistant turn that is not trained is not in the text, which the turns behind it go on
    from; None where all is.
    """
    for call in message.get("tool_calls") or ():
        lacking = lacking_call(call["function"], text)
        if lacking:
            return (
                f"expected all of a tool call in what the chat template writes, got a text without {lacking}, so what "
                f"follows the call would follow nothing; {OTHER_TEMPLATE}"
            )
    return None


def _misplaced(row: TrainedTurns, message: Fields, said: str, passed: int, parts: list[str]) -> str | None:
    """What is wrong with a turn whose words do not stand, as they are, in the text behind `passed` trained turns."""
    role = message["role"]
    if any(written_in(form, parts[passed]) for form in _spoken_forms(message)):
        return None
    # Some templates write the system text into the last user turn, so the order need not be that of the messages.
    neighbours = [] if role == "system" else row.spans[max(0, passed - 1) : passed + 1]
    forms = _spoken_forms(message)
    if any(form in row.text[start:end] for form in forms for start, end in neighbours):
        return _trained(role)
    if any(written_in(form, part) for form in _spoken_forms(message) for part in parts):
        return None
    if any(form in row.text for form in forms):
        return _trained(role)
    return None if role == "assistant" else _not_rendered(message)


def _spoken_forms(message: Fields) -> tuple[str, ...]:
    """What a turn says, as templates may write it: a system text also without the words that choose a mode."""
    if message["role"] == "assistant":
        return (spoken_content(message),)
    said = message["content"].strip()
    return (said, without_flags(said).strip()) if message["role"] == "system" else (said,)


def _not_rendered(message: Fields) -> str:
    return (
        f"expected the text of a {message['role']} turn in what the chat template writes, got a text without it; "
        f"{INTO_USER if message['role'] == 'system' else OTHER_TEMPLATE}"
    )


def _trained(role: str) -> str:
    return f"expected no loss on the text of this {role} turn, got it among what is trained; {CORRECT_TEMPLATE}"


def assistant_texts(item: Conversation) -> list[str]:
    """What the assistant says in each of its turns, reasoning in front, as rows trained as a whole hold it."""
    turns = item.answers
    thoughts = [m.get("reasoning_content") if item.thinks else None for m in turns]
    return [f"<think>{t}</think>{m['content']}" if t else m["content"] for m, t in zip(turns, thoughts, strict=True)]


def without_end(answer: str, ends: Sequence[str]) -> str:
    """An answer without its end of turn and white space."""
    for end in ends:
        answer = answer.removesuffix(end)
    return answer.strip()
