"""The mask check of preference pairs: both answers are what the model would be asked to say in their mode."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from apo_soup.data.checks.mask_check import mask_check_error
from apo_soup.data.checks.row_faults import EMPTY_BLOCK, TrainedTurns, has_reasoning, others_fault, said_fault
from apo_soup.data.conversations.conversation import Conversation, PreferencePair
from apo_soup.data.documents import Array

ANSWER_SIDES = ("chosen", "rejected")


@dataclass(frozen=True)
class CheckedPair:
    """One pair as it will be trained; `texts` are the rendered prompt, and the prompt with each answer."""

    source: str
    place: str
    item: PreferencePair
    texts: list[str]
    modes: bool = True


def check_pair(pair: CheckedPair, ids: tuple[Array, ...], tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a source of pairs whose answers are not what the model would be asked to say in their mode.

    Args:
        ids: tokens `[S]` of prompt, chosen and rejected.

    Raises:
        UserError: naming source and row.
    """
    fault = pair_fault(pair, ids, tokenizer)
    if fault:
        titles = ("prompt", *(f"prompt + {side}" for side in ANSWER_SIDES))
        raise mask_check_error(pair.source, pair.place, fault, dict(zip(titles, pair.texts, strict=True)))


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
    prompt = pair.texts[0]
    if not whole.startswith(prompt):
        return f"the prompt's text is not how prompt + {name} begins"
    if answer[-1] not in tokenizer.all_special_ids:
        return f"the {name} answer does not end with the end-of-turn token {tokenizer.eos_token}"
    text = whole[len(prompt) :]
    fault = _unsaid(pair, name, whole)
    if fault:
        return f"the {name} answer: {fault}"
    if EMPTY_BLOCK.match(text):
        return f"the {name} answer trains on an empty think block; give no-think pairs enable_thinking: false"
    if pair.modes and pair.item.mode == "no_think" and has_reasoning(text):
        return f"the {name} answer of a no-think pair has reasoning"
    if pair.modes and pair.item.mode == "think" and name == "chosen" and not has_reasoning(text):
        return "the chosen answer of a think pair has no reasoning; give no-think pairs enable_thinking: false"
    return None


def _unsaid(pair: CheckedPair, name: str, whole: str) -> str | None:
    """What of a pair's prompt or answer its text does not say, or says where it is trained."""
    answer = pair.item.chosen if name == "chosen" else pair.item.rejected
    item = Conversation([*pair.item.prompt, *answer], pair.item.kwargs)
    start = len(pair.texts[0])
    turns = TrainedTurns(item, whole, [(start, len(whole))], item.answers[-1:], (), pair.modes)
    return said_fault(item, item.answers[-1], whole[start:], whole) or others_fault(turns)
