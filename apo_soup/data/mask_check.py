"""The last check before a GPU is paid for: what is trained is what should be trained.

The gate does not trust the mask. It compares the trained text with the words of the row's messages: all that the
assistant says must be in the decoded tokens, and what anybody else says must stand outside the trained spans. It reads
the first rows of every source. A failure stops the launch and shows the row.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from apo_soup.data.conversation import Conversation, Pair, Text
from apo_soup.data.template import Span
from apo_soup.errors import UserError

# The gate looks at so many rows of a source, and at no more than so much text, so that it stays within seconds.
ROWS_PER_SOURCE = 200
CHARACTERS_PER_SOURCE = 600_000
EMPTY_BLOCK = re.compile(r"\s*(<\|im_start\|>\s*assistant\s*)?<think>\s*</think>")
SIDES = ("chosen", "rejected")
MODE_FLAGS = ("/no_think", "/think", "/system_override")
INLINE = re.compile(r"<think>(.*)</think>", re.DOTALL)
SHOWN = 1200


@dataclass(frozen=True)
class Sample:
    """One row of a source as it will be trained.

    `spans` are the characters meant to be trained, `kept` the text of the tokens that are, span by span. `whole` says
    that the recipe trains on all of the row (`assistant_only_loss: false`, or a plain text), `modes` that the template
    knows think and no-think mode.
    """

    source: str
    place: str
    item: Conversation | Text
    text: str
    spans: list[Span]
    kept: list[str]
    whole: bool = False
    modes: bool = True


def check_sample(sample: Sample, ends: Sequence[str]) -> None:
    """Refuse a source whose rows train on nothing, on others' words, or never on the end of turn.

    Args:
        ends: the special tokens that may end a turn, the end-of-turn token first.

    Raises:
        UserError: naming source and row, with the row as rendered and the text that would be trained.
    """
    if not "".join(sample.kept):
        _fail(sample, "no token of this row is trained")
    if isinstance(sample.item, Text):
        return
    if sample.whole:
        fault = mode_fault(sample.item, said(sample.item), sample.modes)
        if fault:
            _fail(sample, fault)
        return
    if any(EMPTY_BLOCK.match(kept) for kept in sample.kept):
        _fail(sample, "the empty think block that the template prefills is trained")
    fault = end_fault(sample.item, sample.kept, ends) or others_fault(sample.item, sample.text, sample.spans)
    if fault:
        _fail(sample, fault)
    _check_own(sample, ends)
    fault = mode_fault(sample.item, sample.kept, sample.modes)
    if fault:
        _fail(sample, fault)


def row_fault(item: Conversation, text: str, spans: list[Span], ends: tuple[str, ...], modes: bool) -> str | None:
    """What is wrong with a row that the gate does not look at, or None.

    The gate reads the first rows of a source; these checks cost so little that every other row gets them.
    """
    answers = [text[start:end] for start, end in spans]
    fault = end_fault(item, answers, ends) or others_fault(item, text, spans)
    if fault:
        return fault
    for answer in answers:
        if answer[:1].isalnum() and not answer.startswith(ends):
            continue  # most answers: they begin with a word, so they are neither of these
        if EMPTY_BLOCK.match(answer):
            return "the empty think block of no-think mode is part of an answer"
        if _bare(answer, ends) == "":
            return "an answer is nothing but its end of turn"
    return mode_fault(item, answers, modes)


def mode_fault(item: Conversation, answers: Sequence[str], modes: bool) -> str | None:
    """How a row's trained texts break its mode; `modes` says that the template knows modes.

    Where it does not, a row is held to the mode that it or its recipe states.
    """
    if not modes and "enable_thinking" not in item.kwargs:
        return None
    if item.thinks and not any(_reasons(answer) for answer in answers) and not _reasons_otherwise(item, answers):
        return "a think row trains on no reasoning; give no-think rows enable_thinking: false"
    if not item.thinks and any(_reasons(answer) or INLINE.search(answer) for answer in answers):
        return "a no-think row trains on reasoning (<think> in an answer)"
    return None


def end_fault(item: Conversation, answers: Sequence[str], ends: Sequence[str]) -> str | None:
    """How the trained answers miss their end of turn. A call may end with another special token than an answer does."""
    if all(answer.endswith(ends[0]) for answer in answers):
        return None
    if not all(answer.endswith(tuple(ends)) for answer in answers):
        return f"an answer's end-of-turn token {ends[0]} is not trained (eos_token names another one)"
    last = next(m for m in reversed(item.messages) if m["role"] == "assistant")
    if not last.get("tool_calls") and not answers[-1].endswith(ends[0]):
        found = next(end for end in ends if answers[-1].endswith(end))
        return (
            f"answers end with {found} and generation stops at {ends[0]}, which is never trained; "
            f"write eos_token: {found!r} into the recipe, or correct the template"
        )
    return None


def said(item: Conversation) -> list[str]:
    """What the assistant says in each of its turns, reasoning in front, as rows trained as a whole hold it."""
    turns = [m for m in item.messages if m["role"] == "assistant"]
    thoughts = [m.get("reasoning_content") if item.thinks else None for m in turns]
    return [f"<think>{t}</think>{m['content']}" if t else m["content"] for m, t in zip(turns, thoughts, strict=True)]


def _reasons_otherwise(item: Conversation, answers: Sequence[str]) -> bool:
    """Whether a turn's reasoning is trained between other words than think tags, as in gpt-oss's template."""
    thoughts = (m.get("reasoning_content") for m in item.messages if m["role"] == "assistant")
    return any(t and t.strip() in answer for t in thoughts for answer in answers)


def _reasons(answer: str) -> bool:
    """Whether an answer begins with a think block, or closes one that the generation prompt opened."""
    return answer.lstrip().startswith("<think>") or ("</think>" in answer and "<think>" not in answer)


def _bare(answer: str, ends: Sequence[str]) -> str:
    """An answer without its end of turn and white space."""
    for end in ends:
        answer = answer.removesuffix(end)
    return answer.strip()


def others_fault(item: Conversation, text: str, spans: list[Span]) -> str | None:
    """Whose words are trained though they are not the assistant's, or None.

    Every system, user and tool turn must stand, in order and unbroken, in the text that is not trained.
    """
    place = 0
    untrained = _without(text, spans)
    for message in item.messages:
        if message["role"] == "assistant":
            continue
        content = without_flags(message["content"]).strip()
        found = untrained.find(content, place)
        if found >= 0:
            place = found + len(content)
        # Some templates write the system text into the last user turn, so the order need not be that of the messages.
        elif content not in untrained and content in text:
            return f"the text of a {message['role']} turn is trained"
    return None


def _check_own(sample: Sample, ends: Sequence[str]) -> None:
    """What each assistant turn says, its calls included, must be in the trained text of its span."""
    answers = [m for m in sample.item.messages if m["role"] == "assistant"]
    rendered = _plain(sample.text)
    for message, kept in zip(answers[-len(sample.kept) :], sample.kept, strict=True):
        found = _plain(kept)
        said = _plain(message["content"].rpartition("</think>")[2].strip())
        if said in rendered and said not in found:
            _fail(sample, "an answer of the assistant is not trained")
        if any(call["function"]["name"] not in found for call in message.get("tool_calls") or []):
            _fail(sample, "the chat template does not render a tool call, so it is not trained")
        if not _bare(found, ends):
            _fail(sample, "the chat template renders nothing of an answer but its end of turn")
    if not sample.item.thinks:
        return
    inline = INLINE.match(answers[-1]["content"].lstrip())
    for name, reasoning in (
        ("reasoning_content", answers[-1].get("reasoning_content")),
        ("the think block of the last answer", inline and inline[1]),
    ):
        if reasoning and _plain(reasoning.strip()) not in _plain(sample.kept[-1]):
            _fail(sample, f"the chat template does not render {name}, so it is not trained")


def without_flags(text: str) -> str:
    """A text without the words that only choose a mode, as our template leaves them out."""
    if "/" not in text or not any(flag in text for flag in MODE_FLAGS):
        return text
    lines = (" ".join(word for word in line.split(" ") if word not in MODE_FLAGS) for line in text.split("\n"))
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text in the normal form that some tokenizers (Qwen's) bring it to."""
    return unicodedata.normalize("NFC", text)


def _without(text: str, spans: list[Span]) -> str:
    """`text` with a mark no text holds in place of each trained span."""
    parts, before = [], 0
    for start, end in spans:
        parts.append(text[before:start])
        before = end
    return "\0".join([*parts, text[before:]])


@dataclass(frozen=True)
class PairSample:
    """One pair as it will be trained; `texts` are the rendered prompt, and the prompt with each answer."""

    source: str
    place: str
    item: Pair
    texts: list[str]
    modes: bool = True


def check_pair(sample: PairSample, ids: tuple[list[int], ...], tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a source of pairs whose answers are not what the model would be asked to say in their mode.

    Args:
        ids: tokens of prompt, chosen and rejected.

    Raises:
        UserError: naming source and row.
    """
    prompt, *wholes = sample.texts
    fault = pair_fault(sample, ids, tokenizer)
    if fault:
        shown = "".join(f"\n--- prompt + {n} ---\n{_short(w)}" for n, w in zip(SIDES, wholes, strict=True))
        raise UserError(
            f"gate: source {sample.source}, row {sample.place}: {fault}. Correct the rows or the chat template.\n"
            f"--- prompt ---\n{_short(prompt)}{shown}"
        )


def pair_fault(sample: PairSample, ids: tuple[list[int], ...], tokenizer: PreTrainedTokenizerBase) -> str | None:
    """What is wrong with the answers of a pair, or None; every pair is asked, not only those the gate shows."""
    _, *wholes = sample.texts
    faults = (_side_fault(sample, *side, tokenizer) for side in zip(SIDES, wholes, ids[1:], strict=True))
    return next((fault for fault in faults if fault), None)


def _side_fault(
    sample: PairSample, name: str, whole: str, answer: list[int], tokenizer: PreTrainedTokenizerBase
) -> str | None:
    prompt = sample.texts[0]
    if not whole.startswith(prompt):
        return f"the prompt's text is not how prompt + {name} begins"
    if answer[-1] not in tokenizer.all_special_ids:
        return f"the {name} answer does not end with the end-of-turn token {tokenizer.eos_token}"
    said = whole[len(prompt) :]
    if EMPTY_BLOCK.match(said):
        return f"the {name} answer trains on an empty think block; give no-think pairs enable_thinking: false"
    if sample.modes and sample.item.mode == "no_think" and _reasons(said):
        return f"the {name} answer of a no-think pair holds reasoning"
    if sample.modes and sample.item.mode == "think" and name == "chosen" and not _reasons(said):
        return "the chosen answer of a think pair holds no reasoning; give no-think pairs enable_thinking: false"
    return None


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN] + " ..."


def _fail(sample: Sample, what: str) -> None:
    raise UserError(
        f"gate: source {sample.source}, row {sample.place}: {what}. Correct the rows or the chat template.\n"
        f"--- the row as rendered ---\n{_short(sample.text)}\n"
        f"--- the text that would be trained ---\n{_short(' | '.join(sample.kept))}"
    )
