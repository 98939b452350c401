"""The LM head on a CPU in float32, by blocks of the vocabulary: the logits of a block stay in a core's cache from the
product that makes them until all is made of them.

Of T tokens and a block b of W entries come probabilities p_b = softmax(z_b) `[T, W]` and normalisers n_b =
logsumexp(z_b) `[T]`. Of the whole vocabulary the normaliser is n = logsumexp(n_1, n_2, ...), and the probability of an
entry of b is p_b * exp(n_b - n).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

# Logits of a block, and the fewest entries of the vocabulary that a product is fast with.
BLOCK_LOGITS, LEAST_ENTRIES = 2**19, 256


@dataclass(frozen=True)
class Head:
    """An LM head and what it is asked.

    Attributes:
        hidden: hidden states `[C, H]`.
        weight: its weight `[V, H]`.
        bias: its bias `[V]`, or None.
        targets: token ids `[C]`.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    targets: Tensor

    def part(self, tokens: slice) -> "Head":
        """The same of some tokens."""
        return Head(self.hidden[tokens], self.weight, self.bias, self.targets[tokens])


@dataclass(frozen=True)
class TileScores:
    """What B blocks say of T tokens.

    Attributes:
        picked: the targets' logits `[T]`.
        normaliser: the logarithms of the sums of all logits' exponentials `[T]`.
        shares: what the blocks have of all probability, `[B, T]`.
        probabilities: those in each block, `[T, W]`; none where they were not to be kept.
        entropy: of the distributions, `[T]` in nats, where it was asked for.
        is_top1: whether each target is the likeliest token, `[T]`, of equals the first one, where it was asked for.
    """

    picked: Tensor
    normaliser: Tensor
    shares: Tensor
    probabilities: list[Tensor]
    entropy: Tensor | None = None
    is_top1: Tensor | None = None

    @property
    def logprobs(self) -> Tensor:
        """Of the targets `[T]`."""
        return self.picked - self.normaliser


def block_logprobs(head: Head, tile: int) -> Tensor:
    """Log-probabilities `[C]` of the targets, by tiles of so many tokens. The last tile's probabilities are kept for
    the backward pass, and the others computed again there.
    """
    given = (head.hidden, head.weight, head.bias, head.targets, tile, torch.is_grad_enabled())
    logprobs: Tensor = _Logprobs.apply(*given)  # type: ignore[no-untyped-call]  # torch's
    return logprobs


def block_scores(head: Head, tile: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, entropies and hits `[C]` of the targets, by tiles of so many tokens. Gradients are taken in
    the forward pass, for a loss that weighs all log-probabilities alike, else once more.
    """
    given = (head.hidden, head.weight, head.bias, head.targets, tile, torch.is_grad_enabled())
    scores: tuple[Tensor, Tensor, Tensor] = _Scores.apply(*given)  # type: ignore[no-untyped-call]  # torch's
    return scores


def token_tiles(count: int, tile: int) -> list[slice]:
    """Tiles of `count` tokens; the first takes what is left over, since the last is not computed twice."""
    stops = reversed(range(count, 0, -tile))
    return [slice(max(0, stop - tile), stop) for stop in stops]


def vocabulary_blocks(tokens: int, entries: int) -> list[slice]:
    """Blocks of a vocabulary of so many entries for so many tokens at once."""
    width = max(LEAST_ENTRIES, BLOCK_LOGITS // max(1, tokens))
    return [slice(start, min(start + width, entries)) for start in range(0, entries, width)]


def read_tile(head: Head, keeps: bool, all_scores: bool = False) -> TileScores:
    """What a head says of its targets.

    Args:
        keeps: whether the probabilities are.
        all_scores: whether entropy and hits are asked for too.
    """
    count, size = len(head.hidden), len(head.weight)
    blocks = vocabulary_blocks(count, size)
    room = head.hidden.new_empty(1 if keeps else 2, count * blocks[0].stop)
    normalisers, largest, dots = head.hidden.new_empty(3, len(blocks), count).unbind()
    picked, is_first = head.hidden.new_zeros(count), torch.zeros(count, dtype=torch.bool)
    probabilities = []
    for number, block in enumerate(blocks):
        width = block.stop - block.start
        logits = room[0, : count * width].view(count, width)
        torch.mm(head.hidden, head.weight[block].T, out=logits)
        if head.bias is not None:
            logits.add_(head.bias[block])
        found = torch.empty_like(logits) if keeps else room[1, : count * width].view(count, width)
        torch.softmax(logits, 1, out=found)
        if keeps:
            probabilities.append(found)
        torch.amax(logits, 1, out=largest[number])
        # By the likeliest token, whose probability is at least 1 / W.
        torch.sub(largest[number], found.amax(1).log_(), out=normalisers[number])
        here, at = _in_block(head.targets, block)
        of_target = logits.gather(1, at[:, None])[:, 0]
        torch.where(here, of_target, picked, out=picked)
        if all_scores:
            torch.linalg.vecdot(found, logits, out=dots[number])
            hits = (here & (of_target >= largest[number])).nonzero()[:, 0]
            is_first[hits] = (logits[hits] == of_target[hits, None]).byte().argmax(1) == at[hits]
    normaliser = normalisers.logsumexp(0)
    shares = (normalisers - normaliser).exp_()
    if not all_scores:
        return TileScores(picked, normaliser, shares, probabilities)
    earlier = torch.tensor([block.stop for block in blocks])[:, None] <= head.targets
    beaten = ((largest > picked) | (earlier & (largest == picked))).any(0)
    entropy = normaliser - (shares * dots).sum(0)
    return TileScores(picked, normaliser, shares, probabilities, entropy, is_first & ~beaten)


def _in_block(targets: Tensor, block: slice) -> tuple[Tensor, Tensor]:
    """Whether targets `[T]` are in a block, and their places there, `[T]`; of others some place."""
    at = targets - block.start
    width = block.stop - block.start
    return (at >= 0) & (at < width), at.clamp_(0, width - 1)


class HeadGradients:
    """Gradients of the sum of the log-probabilities, each times an `upstream` one, of hidden states `[C, H]`, weight
    `[V, H]` and bias `[V]`, as far as they are needed.
    """

    def __init__(self, head: Head, needed: Sequence[bool]):
        self.head = head
        self.of_hidden = torch.empty_like(head.hidden) if needed[0] else None
        self.needs_weight = needed[1]
        self.of_weight: Tensor | None = None
        self.of_bias = torch.zeros_like(head.bias) if head.bias is not None and needed[2] else None

    def add(self, tokens: slice, scores: TileScores, upstream: Tensor) -> None:
        """Add those of a tile, by upstream gradients `[T]`; its probabilities are gone behind it."""
        part = self.head.part(tokens)
        factors = scores.shares * -upstream
        of_hidden = None if self.of_hidden is None else self.of_hidden[tokens].zero_()
        blocks = vocabulary_blocks(len(part.hidden), len(part.weight))
        # Parts of the first tile's, each in the memory of probabilities that are used up. `addmm_` would do what
        # `addmm` does here, and torch's counter of operations does not know it.
        parts = []
        for block, factor in zip(blocks, factors, strict=True):
            of_logits = scores.probabilities.pop(0).mul_(factor[:, None])
            here, at = _in_block(part.targets, block)
            of_logits.scatter_add_(1, at[:, None], (upstream * here)[:, None])
            if of_hidden is not None:
                torch.addmm(of_hidden, of_logits, part.weight[block], out=of_hidden)
            if self.of_weight is not None:
                of_block = self.of_weight[block]
                torch.addmm(of_block, of_logits.T, part.hidden, out=of_block)
            elif self.needs_weight:
                parts.append(of_logits.T @ part.hidden)
            if self.of_bias is not None:
                self.of_bias[block] += of_logits.sum(0)
        if parts:
            del of_logits
            self.of_weight = torch.cat(parts)

    def all(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Those of hidden states `[C, H]`, weight `[V, H]` and bias `[V]`."""
        return self.of_hidden, self.of_weight, self.of_bias


def weighed_alike(taken: tuple[Tensor | None, ...] | None, weights: Tensor) -> tuple[Tensor | None, ...] | None:
    """Gradients of a sum, in place those of a sum by weights `[C]` that are all one number; None where the weights
    differ, or no gradients were taken.
    """
    if taken is None or not bool((weights == weights[0]).all()):
        return None
    for of_input in taken:
        if of_input is not None:
            of_input.mul_(weights[0])
    return taken


class _Logprobs(torch.autograd.Function):
    """With logits z and upstream gradient g of a token whose target is y: dz = g * (onehot(y) - softmax(z))."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, tile: int, graph: bool
    ) -> Tensor:
        """Log-probabilities `[C]` of hidden states `[C, H]`, by a weight `[V, H]`, bias `[V]` and targets `[C]`;
        `graph` says whether a backward pass may come.
        """
        ctx.tile, ctx.kept = tile, None
        ctx.save_for_backward(hidden, weight, bias, targets)
        logprobs = hidden.new_empty(len(targets))
        tiles = token_tiles(len(targets), tile)
        for part in tiles:
            keeps = graph and part is tiles[-1] and any(ctx.needs_input_grad)
            scores = read_tile(Head(hidden, weight, bias, targets).part(part), keeps)
            logprobs[part] = scores.logprobs
            ctx.kept = scores if keeps else None
        return logprobs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients `[C, H]`, `[V, H]` and `[V]` of the first three, from that of the log-probabilities `[C]`."""
        head = Head(*ctx.saved_tensors)
        gradients = HeadGradients(head, ctx.needs_input_grad)
        scores, ctx.kept = ctx.kept, None
        for part in reversed(token_tiles(len(head.targets), ctx.tile)):
            scores = scores or read_tile(head.part(part), keeps=True)
            gradients.add(part, scores, gradient[part])
            scores = None
        return *gradients.all(), None, None, None


class _Scores(torch.autograd.Function):
    """The gradient of a log-probability, onehot(y) - softmax(z), is taken while the probabilities are there, and
    multiplied by the upstream gradient when that is known.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, tile: int, graph: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities, entropies and hits `[C]`, by a weight `[V, H]`, bias `[V]` and targets `[C]`; `graph` says
        whether a backward pass may come.
        """
        ctx.tile = tile
        ctx.save_for_backward(hidden, weight, bias, targets)
        head = Head(hidden, weight, bias, targets)
        logprobs, entropy = (hidden.new_empty(len(targets)) for _ in range(2))
        is_top1 = torch.empty_like(targets, dtype=torch.bool)
        needed = ctx.needs_input_grad
        gradients = HeadGradients(head, needed) if graph and any(needed[:3]) else None
        for part in token_tiles(len(targets), tile):
            scores = read_tile(head.part(part), gradients is not None, all_scores=True)
            logprobs[part] = scores.logprobs
            entropy[part], is_top1[part] = cast(Tensor, scores.entropy), cast(Tensor, scores.is_top1)
            if gradients is not None:
                gradients.add(part, scores, torch.ones_like(scores.picked))
        ctx.gradients = None if gradients is None else gradients.all()
        ctx.mark_non_differentiable(entropy, is_top1)
        return logprobs, entropy, is_top1

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        """Gradients `[C, H]`, `[V, H]` and `[V]` of the first three, from that of the log-probabilities `[C]`."""
        taken, ctx.gradients = weighed_alike(ctx.gradients, gradient), None
        if taken is None:
            head = Head(*ctx.saved_tensors)
            gradients = HeadGradients(head, ctx.needs_input_grad)
            for part in token_tiles(len(head.targets), ctx.tile):
                gradients.add(part, read_tile(head.part(part), keeps=True), gradient[part])
            taken = gradients.all()
        return *taken, None, None, None
