"""The last check before a GPU is paid for: what is trained is what should be trained.

The gate does not trust the mask. It compares the text of the trained tokens with the words of the row's messages: all
that the assistant says must be in it, nothing that anybody else says may be. It reads the first rows of every source.
A failure stops the launch and shows the row.
"""

import re
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from corpus.conversation import Conversation, Text
from corpus.template import Span
from pipeline.errors import UserError

ROWS_PER_SOURCE = 200
EMPTY_BLOCK = re.compile(r"\s*(<\|im_start\|>\s*assistant\s*)?<think>\s*</think>")
MODE_FLAGS = re.compile(r"/no_think|/think|/system_override")
SHOWN = 1200


@dataclass(frozen=True)
class Sample:
    """One row of a source as it will be trained.

    `spans` are the characters meant to be trained, `kept` the text of the tokens that are, span by span. `whole` says
    that the recipe trains on all of the row (`assistant_only_loss: false`, or a plain text).
    """

    source: str
    place: str
    item: Conversation | Text
    text: str
    spans: list[Span]
    kept: list[str]
    whole: bool = False


def check_sample(sample: Sample, end_of_turn: str) -> None:
    """Refuse a source whose rows train on nothing, on others' words, or never on the end of turn.

    Raises:
        UserError: naming source and row, with the row as rendered and the text that would be trained.
    """
    trained = "".join(sample.kept)
    if not trained:
        _fail(sample, "no token of this row is trained")
    if sample.whole or isinstance(sample.item, Text):
        return
    for kept in sample.kept:
        if EMPTY_BLOCK.match(kept):
            _fail(sample, "the empty think block that the template prefills is trained")
        if not kept.endswith(end_of_turn):
            _fail(sample, f"an answer's end-of-turn token {end_of_turn} is not trained")
    _check_others(sample)
    _check_own(sample)
    opens = "<think>" in trained
    if sample.item.thinks and "enable_thinking" in sample.item.kwargs and not opens:
        _fail(sample, "a think row trains on no reasoning (no <think> in the answers)")
    if not sample.item.thinks and opens:
        _fail(sample, "a no-think row trains on reasoning (<think> in an answer)")


def _check_others(sample: Sample) -> None:
    """Every system, user and tool turn must stand, in order and unbroken, in the text that is not trained."""
    place = 0
    untrained = _without(sample.text, sample.spans)
    for message in sample.item.messages:
        if message["role"] == "assistant":
            continue
        content = MODE_FLAGS.sub("", message["content"]).strip()
        found = untrained.find(content, place)
        if found >= 0:
            place = found + len(content)
        elif content in sample.text:
            _fail(sample, f"the text of a {message['role']} turn is trained")


def _check_own(sample: Sample) -> None:
    """What each assistant turn says behind its reasoning must be in the trained text of its span."""
    answers = [m for m in sample.item.messages if m["role"] == "assistant"]
    for message, kept in zip(answers[-len(sample.kept) :], sample.kept, strict=True):
        said = message["content"].rpartition("</think>")[2].strip()
        if said in sample.text and said not in kept:
            _fail(sample, "an answer of the assistant is not trained")


def _without(text: str, spans: list[Span]) -> str:
    """`text` with a mark no text holds in place of each trained span."""
    parts, before = [], 0
    for start, end in spans:
        parts.append(text[before:start])
        before = end
    return "\0".join([*parts, text[before:]])


def check_pair(
    source: str, place: str, texts: list[str], ids: tuple[list[int], ...], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Refuse a source of pairs whose answers have no end of turn, or whose prompt is not how the answers begin.

    Args:
        texts: the rendered prompt, and the prompt with each answer.
        ids: tokens of prompt, chosen and rejected.

    Raises:
        UserError: naming source and row.
    """
    for name, whole, answer in zip(("chosen", "rejected"), texts[1:], ids[1:], strict=True):
        if not whole.startswith(texts[0]):
            fault = f"the prompt's text is not how prompt + {name} begins"
        elif answer[-1] != tokenizer.eos_token_id:
            fault = f"the {name} answer does not end with the end-of-turn token {tokenizer.eos_token}"
        else:
            continue
        shown = f"--- prompt ---\n{_short(texts[0])}\n--- prompt + {name} ---\n{_short(whole)}"
        raise UserError(f"gate: source {source}, row {place}: {fault}. Correct the rows or the chat template.\n{shown}")


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN] + " ..."


def _fail(sample: Sample, what: str) -> None:
    raise UserError(
        f"gate: source {sample.source}, row {sample.place}: {what}. Correct the rows or the chat template.\n"
        f"--- the row as rendered ---\n{_short(sample.text)}\n"
        f"--- the text that would be trained ---\n{_short(' | '.join(sample.kept))}"
    )
