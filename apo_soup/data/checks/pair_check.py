"""The mask check of preference pairs: both answers are what the model would be asked to say in their mode."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from apo_soup.data.checks.mask_check import mask_check_error
from apo_soup.data.checks.row_faults import TrainedTurns, others_fault, said_fault
from apo_soup.data.checks.said import says_reasoning
from apo_soup.data.checks.think_blocks import NOT_OPENED, has_reasoning, think_block_fault
from apo_soup.data.conversations.conversation import Conversation, PreferencePair
from apo_soup.data.conversations.reasoning import EMPTY_BLOCK, opens_block_at, reasons_itself, spoken_reasoning
from apo_soup.data.cures import (
    INTO_USER,
    NO_BLOCK_TEMPLATE,
    NO_THINK_CURE,
    OTHER_TEMPLATE,
    OTHERWISE_TRAINED,
    REASONING_TEMPLATE,
    THINK_CURE,
)
from apo_soup.data.documents import Array
from apo_soup.data.rendering.turn_frame import parting
from apo_soup.models.think_tags import END_OF_THINKING, THINKING

ANSWER_SIDES = ("chosen", "rejected")


@dataclass(frozen=True)
class CheckedPair:
    """One pair as it will be trained; `texts` are the rendered prompt, and the prompt with each answer."""

    place: str
    item: PreferencePair
    texts: list[str]
    modes: bool = True


def check_pair(pair: CheckedPair, ids: tuple[Array, ...], tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a source of pairs whose answers are not what the model would be asked to say in their mode.

    Args:
        ids: tokens `[S]` of prompt, chosen and rejected.

    Raises:
        UserError: naming the row.
    """
    fault = pair_fault(pair, ids, tokenizer)
    if fault:
        titles = ("prompt", *(f"prompt + {side}" for side in ANSWER_SIDES))
        raise mask_check_error(pair.place, fault, dict(zip(titles, pair.texts, strict=True)))


def pair_fault(pair: CheckedPair, ids: tuple[Array, ...], tokenizer: PreTrainedTokenizerBase) -> str | None:
    """What is wrong with the answers of a pair, or None; every pair is asked, not only those the check stops at.

    Args:
        ids: tokens `[S]` of prompt, chosen and rejected.
    """
    _, *wholes = pair.texts
    faults = (_side_fault(pair, *side, tokenizer) for side in zip(ANSWER_SIDES, wholes, ids[1:], strict=True))
    return next((fault for fault in faults if fault), None)


def _side_fault(
    pair: CheckedPair, name: str, whole: str, answer: Array, tokenizer: PreTrainedTokenizerBase
) -> str | None:
    start = len(pair.texts[0])
    turn = (pair.item.chosen if name == "chosen" else pair.item.rejected)[-1]
    fault = _end_fault(answer[-1], bool(turn.get("tool_calls")), tokenizer)
    if fault:
        return f"field {name}: {fault}"
    text = whole[start:]
    fault = _unsaid(pair, name, whole) or think_block_fault(text, opens_block_at(whole, start))
    return f"field {name}: {fault}" if fault else _mode_fault(pair, name, text)


def _end_fault(last: int, calls: bool, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """What is wrong with the last token of an answer, or None; a call may end with another special one (gpt-oss)."""
    if last == tokenizer.eos_token_id:
        return None
    token = tokenizer.added_tokens_decoder.get(last)
    if token is None or not token.special:
        return f"expected the end-of-turn token {tokenizer.eos_token} at the end, got none; {OTHER_TEMPLATE}"
    if calls:
        return None
    return (
        f"expected {tokenizer.eos_token}, at which generation stops, at the end, got {token.content}, so the first is "
        f"never trained; give the tokenizer the eos_token {token.content}, or correct the template"
    )


def prompt_fault(item: PreferencePair, name: str, prompt: str, whole: str) -> str | None:
    """Why the text of a prompt is not how the text of prompt + answer begins, or None where it is."""
    parted = parting(prompt, whole)
    if parted is None:
        return None
    answer = (item.chosen if name == "chosen" else item.rejected)[-1]
    if item.mode == "no_think" and reasons_itself(answer):
        return reasoning_in_no_think(item, name)
    asked, written = parted
    if opens_block_at(prompt, len(prompt)):
        if not reasons_itself(answer):
            return (
                f"field {name}: expected reasoning, as the chat template's prompt opens a think block before every "
                f"answer, got none; {NO_BLOCK_TEMPLATE}"
            )
        if spoken_reasoning(answer)[1] not in whole:
            return (
                f"field {name}: expected its reasoning in what the chat template writes, as its prompt opens a "
                f"think block, got a text without it; {REASONING_TEMPLATE}"
            )
        if END_OF_THINKING in answer["content"] and THINKING not in answer["content"]:
            return f"field {name}: {NOT_OPENED}"
    system = item.prompt[0]["content"].strip() if item.prompt[0]["role"] == "system" else ""
    if system and prompt.find(system) != whole.find(system):
        return (
            f"field {name}: expected the system text before the answer where the prompt has it, got it elsewhere or "
            f"left out, {OTHERWISE_TRAINED}; {INTO_USER}"
        )
    return (
        f"field {name}: expected {asked!r} before the answer, with which the chat template asks for it, got "
        f"{written!r}, {OTHERWISE_TRAINED}; correct the template or the answer"
    )


def reasoning_in_no_think(item: PreferencePair, name: str) -> str:
    """What to do about an answer with reasoning in a no-think pair."""
    cure = THINK_CURE.format("pairs") if item.reasons else "take it off, or leave the pair out"
    return f"field {name}: expected no reasoning in a no-think pair, got some; {cure}"


def _mode_fault(pair: CheckedPair, name: str, text: str) -> str | None:
    """How an answer breaks the mode of its pair; one whose template knows none has the mode that it gives."""
    item = pair.item
    if EMPTY_BLOCK.match(text) and item.mode == "think" and name == "rejected":
        return (
            f"field {name}: expected reasoning in a think pair, got the empty think block, which would be trained; "
            "give it some, or leave the pair out"
        )
    if EMPTY_BLOCK.match(text) and item.mode == "no_think":
        return f"field {name}: expected words first, got an empty think block; remove it, or correct the template"
    if not pair.modes and "enable_thinking" not in item.kwargs and not EMPTY_BLOCK.match(text):
        return None
    reasons = has_reasoning(text) or says_reasoning((item.chosen if name == "chosen" else item.rejected)[-1], text)
    if item.mode == "no_think" and reasons:
        return reasoning_in_no_think(item, name)
    if item.mode == "think" and name == "chosen" and (EMPTY_BLOCK.match(text) or not reasons):
        return f"field {name}: expected reasoning in a think pair, got none; {NO_THINK_CURE.format('pairs')}"
    return None


def _unsaid(pair: CheckedPair, name: str, whole: str) -> str | None:
    """What of a pair's prompt or answer its text does not say, or says where it is trained."""
    answer = pair.item.chosen if name == "chosen" else pair.item.rejected
    item = Conversation([*pair.item.prompt, *answer], pair.item.kwargs)
    start = len(pair.texts[0])
    turns = TrainedTurns(item, whole, [(start, len(whole))], item.answers[-1:], (), pair.modes)
    return said_fault(item, item.answers[-1], whole[start:], whole) or others_fault(turns)
