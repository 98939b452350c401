"""Log-probabilities of given tokens at given places of a row, without the logits of any other place.

The LM head runs in tiles of tokens, and each tile is computed again in the backward pass, so the logits of one tile at
a time are in memory: [T, V] instead of [S, V].
"""

import types
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

# Logits in memory at a time, 256 MB of them: smaller tiles are slower, larger ones only cost memory.
TILE_LOGITS = 2**26
# Models that change their logits behind the LM head; they are scored on the stock path.
RESCALES = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier")


def rescales_logits(config: Any) -> str | None:
    """The configuration key by which a model changes its logits behind the LM head, or None."""
    return next((k for k in RESCALES if getattr(config, k, None) not in (None, 1, 1.0)), None)


def tiled_logprobs(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    tile: int | None = None,
) -> torch.Tensor:
    """log softmax(hidden @ weight.T + bias)[targets] in float32, `[C]`, from hidden states `[C, H]`.

    `tile` tokens at a time; without it, as many as `TILE_LOGITS` allows.
    """
    tile = tile or max(1, TILE_LOGITS // len(weight))
    parts = []
    for start in range(0, len(targets), tile):
        piece, wanted = hidden[start : start + tile], targets[start : start + tile]
        if torch.is_grad_enabled() and len(targets) > tile:
            parts.append(checkpoint(_logprobs, piece, weight, bias, wanted, use_reentrant=False))
        else:
            parts.append(_logprobs(piece, weight, bias, wanted))
    return torch.cat(parts)


def _logprobs(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> torch.Tensor:
    return -F.cross_entropy(F.linear(hidden, weight, bias).float(), targets, reduction="none")


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
