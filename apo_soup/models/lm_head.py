"""The LM head in tiles of tokens: what is asked of some places of a text, without the logits of all of them in memory.

One tile of logits, `[T, V]` instead of `[C, V]` (T tokens of a tile, C places that are asked for, V entries of the
vocabulary), is in memory at a time. `tiled_logprobs` keeps the last one for the backward pass, where it is needed
first, and computes the others again there. `tiled_scores` takes the gradient in the forward pass, while a tile is
there, and computes none twice; it is for losses that weigh all tokens alike, whatever the weight will be.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.tensor import Partial

from apo_soup.models.vocabulary_blocks import Head, block_logprobs, block_scores, token_tiles, weighed_alike

# Logits of a tile, 128 MB of them on a CPU and 512 MB on a GPU, whose smaller tiles would spend more time on moving the
# head's gradient than on computing it.
TILE_LOGITS = {"cpu": 2**25, "cuda": 2**27}
# Logits of a tile of `tiled_scores`: on a CPU half of them are as fast.
SCORE_TILE_LOGITS = 2**24
# Logits of some rows of a tile, which stay in a core's cache for all that is done to them between two products.
CACHED_LOGITS = 2**19


def tiled_logprobs(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, tile: int | None = None
) -> Tensor:
    """log softmax(hidden @ weight.T + bias)[targets] in float32, `[C]`.

    Args:
        hidden: hidden states `[C, H]`.
        weight: the LM head's weight `[V, H]`.
        bias: its bias `[V]`, or None.
        targets: token ids `[C]`.
        tile: tokens of a tile; without it, as many as `TILE_LOGITS` allows.
    """
    kind = hidden.device.type
    tile = tile or max(1, TILE_LOGITS.get(kind, TILE_LOGITS["cpu"]) // len(weight))
    hidden, weight, bias = _as_computed(hidden, weight, bias)
    if _in_blocks(hidden, weight):
        return block_logprobs(Head(hidden, weight, bias, targets), tile)
    logprobs: Tensor = _TiledLogprobs.apply(hidden, weight, bias, targets, tile)  # type: ignore[no-untyped-call]  # torch's
    return logprobs


@dataclass(frozen=True)
class TokenScores:
    """What a model says of C tokens.

    Attributes:
        logprobs: their log-probabilities `[C]`, in float32.
        entropy: that of the distributions that they are of, `[C]`, in nats; it has no gradient.
        is_top1: whether each is the likeliest token there, `[C]`; of equals the first one is.
    """

    logprobs: Tensor
    entropy: Tensor
    is_top1: Tensor


@dataclass(frozen=True)
class LogitRule:
    """What a model does to the products of its LM head: cap * tanh(scale * z / cap), or scale * z without a cap."""

    scale: float = 1.0
    cap: float | None = None

    def apply_(self, logits: Tensor) -> Tensor | None:
        """Changes logits `[R, V]` in place, and returns what their gradient is multiplied by, `[R, V]`, None for 1."""
        if self.scale != 1:
            logits.mul_(self.scale)
        if self.cap is None:
            return None if self.scale == 1 else logits.new_tensor(self.scale)
        bounded = torch.tanh(logits / self.cap)
        torch.mul(bounded, self.cap, out=logits)
        return bounded.square_().neg_().add_(1).mul_(self.scale)


PLAIN = LogitRule()


def tiled_scores(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    rule: LogitRule = PLAIN,
    tile: int | None = None,
) -> TokenScores:
    """Log-probabilities, entropies and hits of tokens by logits rule(hidden @ weight.T + bias).

    Gradients are taken in the forward pass, for a loss that weighs all log-probabilities alike. Of any other loss they
    are right too, and cost one pass over the tiles more.

    Args:
        hidden: hidden states `[C, H]`.
        weight: the LM head's weight `[V, H]`.
        bias: its bias `[V]`, or None.
        targets: token ids `[C]`.
        rule: what the model does to its logits.
        tile: tokens of a tile; without it, as many as `SCORE_TILE_LOGITS` allows.
    """
    tile = tile or max(1, SCORE_TILE_LOGITS // len(weight))
    hidden, weight, bias = _as_computed(hidden, weight, bias)
    if rule == PLAIN and _in_blocks(hidden, weight):
        return TokenScores(*block_scores(Head(hidden, weight, bias, targets), tile))
    graph = torch.is_grad_enabled()
    scores = _TiledScores.apply(hidden, weight, bias, targets, rule, tile, graph)  # type: ignore[no-untyped-call]  # torch's
    return TokenScores(*scores)


def whole(parameter: Any) -> Any:
    """A head's weight or bias as a plain tensor, or None as it is: FSDP2 shards them where the head is wrapped by
    itself. Each rank gives a gradient of its own data, and their mean arrives, as FSDP takes it of any other weight.
    """
    if not hasattr(parameter, "full_tensor"):
        return parameter
    return parameter.full_tensor(grad_placements=[Partial("avg")] * parameter.device_mesh.ndim)


def _in_blocks(hidden: Tensor, weight: Tensor) -> bool:
    """Whether hidden states `[C, H]` and a weight `[V, H]` are such that blocks of the vocabulary are for them."""
    return hidden.device.type == "cpu" and hidden.dtype == weight.dtype == torch.float32


def _as_computed(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """`[rows, D]`, `[V, D]` and `[V]` in the type that autocast computes products in, where it is on."""
    kind = hidden.device.type
    if not torch.is_autocast_enabled(kind):
        return hidden, weight, bias
    lower = torch.get_autocast_dtype(kind)
    return hidden.to(lower), weight.to(lower), None if bias is None else bias.to(lower)


class _TiledLogprobs(torch.autograd.Function):
    """With logits z and upstream gradient g of a token whose target is y: dz = g * (onehot(y) - softmax(z))."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, tile: int) -> Tensor:
        """Log-probabilities `[C]` of hidden states `[C, H]`, by a weight `[V, H]`, bias `[V]` and targets `[C]`."""
        ctx.tile, ctx.kept = tile, None
        ctx.save_for_backward(hidden, weight, bias, targets)
        logprobs = hidden.new_empty(len(targets), dtype=torch.float32)
        for part in token_tiles(len(targets), tile):
            ctx.kept = None  # before the next tile is made, so that two are never in memory
            logprobs[part], ctx.kept = _tile_logprobs(hidden[part], weight, bias, targets[part])
        return logprobs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients `[C, H]`, `[V, H]` and `[V]` of the first three, from that of the log-probabilities `[C]`."""
        hidden, weight, bias, targets = ctx.saved_tensors
        needed = ctx.needs_input_grad
        of_hidden = torch.empty_like(hidden) if needed[0] else None
        of_weight: Tensor | None = None
        of_bias = torch.zeros_like(bias) if needed[2] else None
        kept, ctx.kept = ctx.kept, None
        for part in reversed(token_tiles(len(targets), ctx.tile)):
            piece, target, upstream = hidden[part], targets[part], gradient[part]
            probabilities = _tile_logprobs(piece, weight, bias, target)[1] if kept is None else kept
            kept = None
            for rows in _cached_rows(probabilities):
                of_rows = probabilities[rows].mul_(-upstream[rows, None])
                of_rows.scatter_add_(1, target[rows, None], upstream[rows, None])
            logits = probabilities.to(hidden.dtype)
            if of_hidden is not None:
                torch.mm(logits, weight, out=of_hidden[part])
            if needed[1]:
                of_weight = logits.T @ piece if of_weight is None else of_weight.addmm_(logits.T, piece)
            if of_bias is not None:
                of_bias += logits.sum(0)
            del probabilities, logits, of_rows
        return of_hidden, of_weight, of_bias, None, None


def _tile_logprobs(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities `[T]` of the targets, and the probabilities `[T, V]` of all tokens."""
    logits = F.linear(hidden, weight, bias).float()
    logprobs = torch.empty_like(targets, dtype=torch.float32)
    for rows in _cached_rows(logits):
        probabilities, normaliser, _ = _normalised(logits[rows])
        logprobs[rows] = logits[rows].gather(1, targets[rows, None])[:, 0] - normaliser
        logits[rows] = probabilities
    return logprobs, logits


def _normalised(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities `[R, V]` by logits `[R, V]`, the logarithms of the sums of their exponentials, the largest."""
    probabilities, largest = logits.softmax(1), logits.amax(1)
    # By the likeliest token, whose probability is at least 1 / V.
    return probabilities, largest - probabilities.amax(1).log(), largest


class _TiledScores(torch.autograd.Function):
    """With logits z of a token whose target is y, the gradient of its negative log-likelihood is softmax(z) -
    onehot(y). It is taken while z is there, and multiplied by the upstream gradient when that is known.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        rule: LogitRule,
        tile: int,
        graph: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities, entropies and hits `[C]`, by a weight `[V, H]`, bias `[V]` and targets `[C]`; `graph` says
        whether a backward pass may come.
        """
        ctx.rule, ctx.tile = rule, tile
        ctx.save_for_backward(hidden, weight, bias, targets)
        logprobs, entropy = (hidden.new_empty(len(targets), dtype=torch.float32) for _ in range(2))
        is_top1 = torch.empty_like(targets, dtype=torch.bool)
        needed = ctx.needs_input_grad
        gradients = _Gradients(hidden, weight, bias, needed) if graph and any(needed[:3]) else None
        for part, logits in _tiles_of_logits(hidden, weight, bias, tile):
            for rows in _cached_rows(logits):
                of_rows = slice(part.start + rows.start, part.start + rows.stop)
                scores = _scores_(logits[rows], targets[of_rows], rule, gradients is not None)
                logprobs[of_rows], entropy[of_rows], is_top1[of_rows] = scores
            if gradients is not None:
                gradients.add(part, logits)
        ctx.gradients = None if gradients is None else gradients.all()
        ctx.mark_non_differentiable(entropy, is_top1)
        return logprobs, entropy, is_top1

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        """Gradients `[C, H]`, `[V, H]` and `[V]` of the first three, from that of the log-probabilities `[C]`."""
        hidden, weight, bias, targets = ctx.saved_tensors
        taken, ctx.gradients = weighed_alike(ctx.gradients, -gradient), None
        if taken is None:
            gradients = _Gradients(hidden, weight, bias, ctx.needs_input_grad, -gradient)
            for part, logits in _tiles_of_logits(hidden, weight, bias, ctx.tile):
                for rows in _cached_rows(logits):
                    of_rows = slice(part.start + rows.start, part.start + rows.stop)
                    _scores_(logits[rows], targets[of_rows], ctx.rule, True)
                gradients.add(part, logits)
            taken = gradients.all()
        return *taken, None, None, None, None


def _tiles_of_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, tile: int) -> Iterator[tuple[slice, Tensor]]:
    """Tiles of tokens with their logits `[T, V]` in float32, all in the memory of one tile."""
    room = hidden.new_empty(min(tile, len(hidden)), len(weight))
    for part in token_tiles(len(hidden), tile):
        products = room[: part.stop - part.start]
        torch.mm(hidden[part], weight.T, out=products)
        yield part, (products if bias is None else products.add_(bias)).float()


class _Gradients:
    """Those of the sum of the negative log-likelihoods, each times its `upstream` gradient `[C]` (None for 1), as far
    as they are needed.
    """

    def __init__(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        needed: tuple[bool, ...],
        upstream: Tensor | None = None,
    ):
        self.hidden, self.weight, self.upstream = hidden, weight, upstream
        self.of_hidden = torch.empty_like(hidden) if needed[0] else None
        self.of_weight: Tensor | None = None
        self.needs_weight = needed[1]
        self.of_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and needed[2] else None

    def add(self, part: slice, of_logits: Tensor) -> None:
        """Add those of a tile, from the gradients `[T, V]` of its logits."""
        if self.upstream is not None:
            of_logits.mul_(self.upstream[part, None])
        if self.of_bias is not None:
            self.of_bias += of_logits.sum(0)
        of_logits = of_logits.to(self.hidden.dtype)
        if self.of_hidden is not None:
            torch.mm(of_logits, self.weight, out=self.of_hidden[part])
        if not self.needs_weight:
            return
        if self.of_weight is None:
            # Added up in float32, as one product over all tokens would be.
            self.of_weight = (of_logits.T @ self.hidden[part]).float()
        elif self.of_weight.dtype == of_logits.dtype:
            self.of_weight.addmm_(of_logits.T, self.hidden[part])
        else:
            self.of_weight += of_logits.T @ self.hidden[part]

    def all(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Those of hidden states `[C, H]`, weight `[V, H]` and bias `[V]`."""
        return self.of_hidden, self.of_weight, self.of_bias


def _cached_rows(logits: Tensor) -> list[slice]:
    """The rows of a tile `[T, V]` by a few, which stay in a core's cache; on a GPU by an eighth of all."""
    count, width = logits.shape
    few = max(1, CACHED_LOGITS // width if logits.device.type == "cpu" else -(-count // 8))
    return [slice(start, min(start + few, count)) for start in range(0, count, few)]


def _scores_(logits: Tensor, targets: Tensor, rule: LogitRule, graph: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, entropies and hits `[R]` of targets `[R]`. The logits `[R, V]` are changed in place: with
    `graph` into the gradients of the negative log-likelihoods.
    """
    slope = rule.apply_(logits)
    at = targets[:, None]
    picked = logits.gather(1, at)[:, 0]
    probabilities, normaliser, largest = _normalised(logits)
    with torch.autocast(logits.device.type, enabled=False):  # which takes a product of vectors in lower precision
        entropy = normaliser - torch.linalg.vecdot(probabilities, logits)
    is_top1 = picked >= largest
    ties = is_top1.nonzero()[:, 0]
    if len(ties):
        is_top1[ties] = (logits[ties] == largest[ties, None]).byte().argmax(1) == targets[ties]
    if graph:
        logits.copy_(probabilities).scatter_add_(1, at, torch.full_like(picked, -1)[:, None])
        if slope is not None:
            logits.mul_(slope)
    return picked - normaliser, entropy, is_top1
