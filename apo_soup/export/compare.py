"""Whether a GGUF file is the model: the same tokens, and the log-probabilities that its type allows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.data.sources.rows import RowError
from apo_soup.errors import UserError
from apo_soup.export.llama_file import LlamaFile
from apo_soup.export.probes import held_out, prompts
from apo_soup.models.tokenizer import encode_ids
from apo_soup.tables import text_table

# The most that a token's log-probability may differ on average between transformers in float32 and llama.cpp with the
# same weights in 16 bits; what was seen stands in docs/serve.md.
CONVERTED = 0.03
# The most that a conversation's tokens may lose on average to a type, beside the file of 16 bits. Small models lost up
# to 0.04 and 0.17 where this was tried; a file that loses more than this is broken.
LOST = {"q8_0": 0.2, "q4_k_m": 0.7}
_SHOWN = 60


@dataclass(frozen=True)
class LogprobGap:
    """Log-probabilities of the tokens of one conversation beside those of another program or file.

    Attributes:
        name: of the conversation.
        mean: of the reference, a token.
        lost: by how much the reference is above on average.
        apart: the mean of the absolute differences.
        largest: the largest of them.
    """

    name: str
    tokens: int
    mean: float
    lost: float
    apart: float
    largest: float

    @classmethod
    def of(cls, name: str, reference: Sequence[float], found: Sequence[float]) -> "LogprobGap":
        """The difference of two lists, token by token.

        >>> LogprobGap.of("think", [-1.0, -2.0], [-1.5, -1.9])
        LogprobGap(name='think', tokens=2, mean=-1.5, lost=0.2, apart=0.3, largest=0.5)
        """
        gaps = [a - b for a, b in zip(reference, found, strict=True)]
        count = len(gaps)
        figures = (sum(reference) / count, sum(gaps) / count, sum(map(abs, gaps)) / count, max(map(abs, gaps)))
        return cls(name, count, *(round(figure, 6) for figure in figures))


@dataclass(frozen=True)
class ComparedText:
    """A conversation as token ids, of which those from the place `first` on are compared."""

    name: str
    ids: list[int]
    first: int = 1


def require_same_tokens(file: LlamaFile, renderer: Renderer) -> tuple[int, int]:
    """How many prompts and tokens llama.cpp and the model's tokenizer agree on.

    Raises:
        UserError: they do not agree on one of them.
    """
    texts = [
        text for text in (_rendered(renderer, p.messages, p.arguments) for p in prompts(renderer.knows_modes)) if text
    ]
    ours = [encoding.ids for encoding in encode_ids(renderer.tokenizer, texts)]
    for text, ids in zip(texts, ours, strict=True):
        theirs = file.tokens(text)
        if theirs != ids:
            raise UserError(_told_tokens(renderer.tokenizer, ids, theirs))
    return len(texts), sum(map(len, ours))


def _rendered(renderer: Renderer, messages: list[dict[str, Any]], arguments: dict[str, Any]) -> str | None:
    """The prompt, or None where the template refuses it: not every one takes a system message."""
    try:
        return renderer.prompt(messages, arguments)
    except RowError:
        return None


def _told_tokens(tokenizer: PreTrainedTokenizerBase, ours: list[int], theirs: list[int]) -> str:
    place = next((n for n, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), len(ours))
    before = str(tokenizer.decode(ours[max(0, place - 8) : place]))[-_SHOWN:]
    shown = [repr(str(tokenizer.decode(ids[place : place + 4]))) for ids in (ours, theirs)]
    return (
        f"MODEL: expected llama.cpp to cut a prompt as the model's tokenizer does, got {shown[1]} for {shown[0]} "
        f"behind {before!r}; serve this model with transformers or vLLM"
    )


def conversations(renderer: Renderer, longest: int) -> list[ComparedText]:
    """The conversations of `held_out`, a text that no training has seen, each cut to `longest` tokens."""
    found = []
    for mode, prompt in held_out(renderer.knows_modes).items():
        try:
            text = renderer.render(prompt.messages, prompt.arguments)[0]
        except RowError:  # the template takes no system message
            text = renderer.render(prompt.messages[1:], prompt.arguments)[0]
        found.append(ComparedText(f"{mode}: a text", encode_ids(renderer.tokenizer, [text])[0].ids[:longest]))
    return found


def own_answers(file: LlamaFile, renderer: Renderer, ends: set[int], longest: int) -> list[ComparedText]:
    """What a model itself answers to the question of each conversation, its likeliest token at each place: what people
    will read of it, and so what a loss is told on.
    """
    found = []
    for mode, prompt in held_out(renderer.knows_modes).items():
        asked = [message for message in prompt.messages if message["role"] == "user"]
        ids = encode_ids(renderer.tokenizer, [renderer.prompt(asked, prompt.arguments)])[0].ids[: longest // 2]
        found.append(ComparedText(f"{mode}: its answer", ids + file.answer(ids, ends, longest // 2), len(ids)))
    return found


@torch.inference_mode()
def reference_logprobs(model: PreTrainedModel, given: Sequence[ComparedText]) -> dict[str, list[float]]:
    """The log-probability of each compared token of each conversation, by its name, under transformers."""
    found = {}
    for one in given:
        ids = torch.tensor([one.ids], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits[0, one.first - 1 : -1]
        found[one.name] = logits.double().log_softmax(-1).gather(1, ids[0, one.first :, None])[:, 0].tolist()
    return found


def file_logprobs(file: LlamaFile, given: Sequence[ComparedText]) -> dict[str, list[float]]:
    """As `reference_logprobs`, under llama.cpp."""
    return {one.name: file.logprobs(one.ids)[one.first - 1 :] for one in given}


def logprob_gaps(reference: dict[str, list[float]], found: dict[str, list[float]]) -> list[LogprobGap]:
    """The differences of two results, by conversation."""
    return [LogprobGap.of(name, values, found[name]) for name, values in reference.items()]


def require_same(found: Sequence[LogprobGap]) -> None:
    """Refuse a file of 16 bits that is another model than the folder.

    Raises:
        UserError: tokens differ by more than rounding.
    """
    worst = max(found, key=lambda one: one.apart)
    if not worst.apart <= CONVERTED:  # a figure that is none is refused too
        raise UserError(
            f"MODEL: expected log-probabilities in llama.cpp within {CONVERTED} of those in transformers, got "
            f"{worst.apart:.3f} a token ({worst.name}); serve this model with transformers or vLLM"
        )


def require_bearable(kind: str, found: Sequence[LogprobGap]) -> None:
    """Refuse a type that leaves nothing of the model.

    Raises:
        UserError: tokens lose more than the type may cost.
    """
    worst = max(found, key=lambda one: one.lost)
    if not worst.lost <= LOST[kind]:
        raise UserError(
            f"--gguf {kind}: expected a loss of at most {LOST[kind]} in a token's log-probability, got "
            f"{worst.lost:.3f} ({worst.name}); choose {'q8_0 or ' if kind == 'q4_k_m' else ''}f16"
        )


def difference_table(found: Sequence[LogprobGap], reference: str, file: str) -> str:
    """Differences for people, a line a conversation."""
    header = ["", "tokens", f"log-probability ({reference})", f"{file} loses", "apart", "most"]
    rows = [
        [d.name, str(d.tokens), f"{d.mean:.3f}", f"{round(d.lost, 4) + 0:+.4f}", f"{d.apart:.4f}", f"{d.largest:.3f}"]
        for d in found
    ]
    return text_table(header, rows)
