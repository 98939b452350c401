"""Log-probabilities of given tokens at given positions of a row, without the logits of any other position: the LM head
runs in tiles of tokens (`apo_soup/models/lm_head.py`).
"""

import types
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from apo.attention_mask import attention_mask
from apo.packed_pairs import PackedPairs
from apo.pair_attention import PAIRS, pair_parts
from apo_soup.models.document_attention import stand_in_mask
from apo_soup.models.lm_head import tiled_logprobs, whole
from apo_soup.models.shared_rows import RowSharing, SharedRow


def answer_logprobs(
    model: torch.nn.Module, row: PackedPairs, attention: str, sharing: RowSharing | None = None
) -> Tensor:
    """Log-probabilities `[N, 2]` of the chosen and rejected answers of a row of N pairs.

    Args:
        model: a model that `add_scoring` was called on, or what DDP, FSDP or DeepSpeed made of it.
        row: packed pairs on the model's device.
        attention: the model's attention implementation, such as `flex_attention`.
        sharing: processes that have the same row, of which each computes its places; all of them have the sums.
    """
    inputs = scoring_inputs(row, attention)
    if sharing is None:
        return row.answer_sums(model(**inputs))
    shared = SharedRow(sharing, len(row))
    inputs |= {name: shared.own(inputs[name]) for name in ("input_ids", "position_ids")} | {"shared_row": shared}
    own, places = shared.own_places(row.scored_positions)
    targets, answers, counts = row.targets[own], row.answer_index[own], 1.0
    if not len(places):  # one that does not count, since weights have a gradient on every process
        places = targets = answers = places.new_zeros(1)
        counts = 0.0
    logprobs = model(**inputs | {"scored_positions": places, "targets": targets}) * counts  # [c]
    shared.check_attended()
    return sharing.summed(replace(row, answer_index=answers).answer_sums(logprobs))


def scoring_inputs(row: PackedPairs, attention: str) -> dict[str, Any]:
    """What such a model is called with for a row `[1, S]`, to return log-probabilities `[C]`."""
    if attention == PAIRS:
        seen = {"attention_mask": stand_in_mask("cpu"), "pair_parts": pair_parts(row)}
    else:
        seen = {"attention_mask": attention_mask(row, attention)}
    return {
        "input_ids": row.input_ids[None],
        "position_ids": row.position_ids[None],
        **seen,
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
        weight, bias = whole(head.weight), whole(head.bias)
        if hidden.shape[-1] != weight.shape[-1]:
            raise ValueError(f"hidden states of {hidden.shape[-1]} for an LM head of {weight.shape[-1]}")
        return tiled_logprobs(hidden[0, scored_positions], weight, bias, targets)

    forward.scores_positions = True  # type: ignore[attr-defined]  # a mark by which a second call knows the first
    model.forward = types.MethodType(forward, model)
