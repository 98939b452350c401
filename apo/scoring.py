"""Log-probabilities of given tokens at given places of a row, without the logits of any other place.

The LM head runs in tiles of tokens, and one tile of logits, `[T, V]` instead of `[S, V]`, is in memory at a time: the
last one is kept for the backward pass, where it is needed first, and the others are computed again there.
"""

import types
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

# Logits of a tile, 128 MB of them on a CPU and 512 MB on a GPU, whose smaller tiles would spend more time on moving the
# head's gradient than on computing it.
TILE_LOGITS = {"cpu": 2**25, "cuda": 2**27}
# Models that change their logits behind the LM head; they are scored on the stock path.
RESCALES = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier")


def rescales_logits(config: Any) -> str | None:
    """The configuration key by which a model changes its logits behind the LM head, or None."""
    return next((k for k in RESCALES if getattr(config, k, None) not in (None, 1, 1.0)), None)


def tiled_logprobs(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, tile: int | None = None
) -> Tensor:
    """log softmax(hidden @ weight.T + bias)[targets] in float32, `[C]`, from hidden states `[C, H]`.

    `tile` tokens at a time; without it, as many as `TILE_LOGITS` allows.
    """
    kind = hidden.device.type
    tile = tile or max(1, TILE_LOGITS.get(kind, TILE_LOGITS["cpu"]) // len(weight))
    if torch.is_autocast_enabled(kind):
        lower = torch.get_autocast_dtype(kind)
        hidden, weight, bias = (None if t is None else t.to(lower) for t in (hidden, weight, bias))
    return _TiledLogprobs.apply(hidden, weight, bias, targets, tile)


class _TiledLogprobs(torch.autograd.Function):
    """With logits z and upstream gradient g of a token whose target is y: dz = g * (onehot(y) - softmax(z))."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, tile: int) -> Tensor:
        ctx.tile, ctx.kept = tile, None
        ctx.save_for_backward(hidden, weight, bias, targets)
        found = hidden.new_empty(len(targets), dtype=torch.float32)
        for places in _tiles(len(targets), tile):
            ctx.kept = None  # before the next tile is made, so that two are never in memory
            found[places], *ctx.kept = _scored(hidden[places], weight, bias, targets[places])
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        of_hidden = torch.empty_like(hidden) if wanted[0] else None
        of_weight = torch.zeros_like(weight) if wanted[1] else None
        of_bias = torch.zeros_like(bias) if wanted[2] else None
        kept, ctx.kept = ctx.kept, None
        for places in reversed(_tiles(len(targets), ctx.tile)):
            piece, target, upstream = hidden[places], targets[places], gradient[places]
            raised, sums = kept or _scored(piece, weight, bias, target)[1:]
            kept = None
            logits = raised.mul_((-upstream / sums)[:, None])
            logits[torch.arange(len(target), device=target.device), target] += upstream
            logits = logits.to(hidden.dtype)
            if of_hidden is not None:
                torch.mm(logits, weight, out=of_hidden[places])
            if of_weight is not None:
                of_weight.addmm_(logits.T, piece)
            if of_bias is not None:
                of_bias += logits.sum(0)
            del raised, logits
        return of_hidden, of_weight, of_bias, None, None


def _tiles(count: int, tile: int) -> list[slice]:
    """Tiles of `count` tokens; the first takes what is left over, since the last is not computed twice."""
    stops = reversed(range(count, 0, -tile))
    return [slice(max(0, stop - tile), stop) for stop in stops]


def _scored(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities `[T]` of the targets, exp(logits - their largest) `[T, V]`, and the sums `[T]` of those."""
    logits = F.linear(hidden, weight, bias).float()
    picked = logits.gather(1, targets[:, None])[:, 0]
    largest = logits.amax(1)
    raised = logits.sub_(largest[:, None]).exp_()
    sums = raised.sum(1)
    return picked - largest - sums.log(), raised, sums


def add_scoring(model: PreTrainedModel) -> None:
    """Let `model(..., places=P, targets=T)` return the log-probabilities of `targets` at `places` instead of logits.

    The forward of the instance is replaced, as TRL does for its own LM head, because DDP and FSDP only follow what
    goes through it. Without `places` the forward is the one it was.
    """
    if getattr(model.forward, "scores_places", False):
        return
    original = model.forward

    def forward(
        self: PreTrainedModel,
        *args: Any,
        places: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        if places is None:
            return original(*args, **kwargs)
        hidden = self.base_model(*args, **kwargs, use_cache=False).last_hidden_state
        head = self.get_output_embeddings()
        weight, bias = (p.full_tensor() if hasattr(p, "full_tensor") else p for p in (head.weight, head.bias))
        return tiled_logprobs(hidden[0, places], weight, bias, targets)

    forward.scores_places = True
    model.forward = types.MethodType(forward, model)
