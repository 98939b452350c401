"""Log-probabilities of given tokens at given positions of a row, without the logits of any other position.

The LM head runs in tiles of tokens, and one tile of logits, `[T, V]` instead of `[S, V]` (T tokens of a tile, S
positions, V entries of the vocabulary), is in memory at a time: the last one is kept for the backward pass, where it is
needed first, and the others are computed again there.
"""

import types
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from apo.attention_mask import attention_mask
from apo.packed_pairs import PackedPairs

# Logits of a tile, 128 MB of them on a CPU and 512 MB on a GPU, whose smaller tiles would spend more time on moving the
# head's gradient than on computing it.
TILE_LOGITS = {"cpu": 2**25, "cuda": 2**27}


def answer_logprobs(model: torch.nn.Module, row: PackedPairs, attention: str) -> Tensor:
    """Log-probabilities `[N, 2]` of the chosen and rejected answers of a row of N pairs.

    Args:
        model: a model that `add_scoring` was called on, or what DDP, FSDP or DeepSpeed made of it.
        row: packed pairs on the model's device.
        attention: the model's attention implementation, such as `flex_attention`.
    """
    return row.answer_sums(model(**scoring_inputs(row, attention)))


def scoring_inputs(row: PackedPairs, attention: str) -> dict[str, Any]:
    """What such a model is called with for a row `[1, S]`, to return log-probabilities `[C]`."""
    return {
        "input_ids": row.input_ids[None],
        "position_ids": row.position_ids[None],
        "attention_mask": attention_mask(row, attention),
        "scored_positions": row.scored_positions,
        "targets": row.targets,
    }


def add_scoring(model: PreTrainedModel) -> None:
    """Let `model(..., scored_positions=P, targets=T)` return the log-probabilities `[C]` of the tokens `T` `[C]` at the
    positions `P` `[C]` of its one row, instead of logits `[1, S, V]`.

    The forward of the instance is replaced, as TRL does for its own LM head, because DDP and FSDP only follow what
    goes through it. Without `scored_positions` the forward is the one it was.
    """
    if getattr(model.forward, "scores_positions", False):
        return
    original = model.forward

    def forward(
        self: PreTrainedModel,
        *args: Any,
        scored_positions: Tensor | None = None,
        targets: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Log-probabilities `[C]` of `targets` `[C]` at `scored_positions` `[C]`, else what the model returns."""
        if scored_positions is None or targets is None:
            return original(*args, **kwargs)
        hidden = self.base_model(*args, **kwargs, use_cache=False).last_hidden_state  # [1, S, H]
        head = self.get_output_embeddings()
        weight, bias = (p.full_tensor() if hasattr(p, "full_tensor") else p for p in (head.weight, head.bias))
        if hidden.shape[-1] != weight.shape[-1]:
            raise ValueError(f"hidden states of {hidden.shape[-1]} for an LM head of {weight.shape[-1]}")
        return tiled_logprobs(hidden[0, scored_positions], weight, bias, targets)

    forward.scores_positions = True  # type: ignore[attr-defined]  # a mark by which a second call knows the first
    model.forward = types.MethodType(forward, model)


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
    if torch.is_autocast_enabled(kind):
        lower = torch.get_autocast_dtype(kind)
        hidden, weight, bias = hidden.to(lower), weight.to(lower), None if bias is None else bias.to(lower)
    logprobs: Tensor = _TiledLogprobs.apply(hidden, weight, bias, targets, tile)  # type: ignore[no-untyped-call]  # torch's
    return logprobs


class _TiledLogprobs(torch.autograd.Function):
    """With logits z and upstream gradient g of a token whose target is y: dz = g * (onehot(y) - softmax(z))."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, tile: int) -> Tensor:
        """Log-probabilities `[C]` of hidden states `[C, H]`, by a weight `[V, H]`, bias `[V]` and targets `[C]`."""
        ctx.tile, ctx.kept = tile, None
        ctx.save_for_backward(hidden, weight, bias, targets)
        logprobs = hidden.new_empty(len(targets), dtype=torch.float32)
        for part in _tiles(len(targets), tile):
            ctx.kept = None  # before the next tile is made, so that two are never in memory
            logprobs[part], *ctx.kept = _tile_logprobs(hidden[part], weight, bias, targets[part])
        return logprobs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients `[C, H]`, `[V, H]` and `[V]` of the first three, from that of the log-probabilities `[C]`."""
        hidden, weight, bias, targets = ctx.saved_tensors
        needed = ctx.needs_input_grad
        of_hidden = torch.empty_like(hidden) if needed[0] else None
        of_weight = torch.zeros_like(weight) if needed[1] else None
        of_bias = torch.zeros_like(bias) if needed[2] else None
        kept, ctx.kept = ctx.kept, None
        for part in reversed(_tiles(len(targets), ctx.tile)):
            piece, target, upstream = hidden[part], targets[part], gradient[part]
            exponentials, sums = kept or _tile_logprobs(piece, weight, bias, target)[1:]
            kept = None
            logits = exponentials.mul_((-upstream / sums)[:, None])
            logits[torch.arange(len(target), device=target.device), target] += upstream
            logits = logits.to(hidden.dtype)
            if of_hidden is not None:
                torch.mm(logits, weight, out=of_hidden[part])
            if of_weight is not None:
                of_weight.addmm_(logits.T, piece)
            if of_bias is not None:
                of_bias += logits.sum(0)
            del exponentials, logits
        return of_hidden, of_weight, of_bias, None, None


def _tiles(count: int, tile: int) -> list[slice]:
    """Tiles of `count` tokens; the first takes what is left over, since the last is not computed twice."""
    stops = reversed(range(count, 0, -tile))
    return [slice(max(0, stop - tile), stop) for stop in stops]


def _tile_logprobs(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities `[T]` of the targets, exp(logits - their largest) `[T, V]`, and the sums `[T]` of those."""
    logits = F.linear(hidden, weight, bias).float()
    picked = logits.gather(1, targets[:, None])[:, 0]
    largest = logits.amax(1)
    exponentials = logits.sub_(largest[:, None]).exp_()
    sums = exponentials.sum(1)
    return picked - largest - sums.log(), exponentials, sums
