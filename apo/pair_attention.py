"""Attention of packed pairs with torch's own kernels, in place of a mask that SDPA computes in full.

A position of a pair sees (`apo/attention_mask.py`) what it would see in a sequence of the prompt and its own answer. So
each pair is attended to by itself, prompt and chosen answer as one causal sequence, and the rejected answer over the
prompt and itself.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from apo.packed_pairs import REJECTED_BRANCH, PackedPairs
from apo_soup.models.document_attention import attended, check_no_own_mask, kernel_dtype

# Under this name a model is loaded that attends so.
PAIRS = "sdpa_of_pairs"


def register_pair_attention() -> None:
    """Let models be loaded with it. One that is called without `pair_parts` attends as under SDPA."""
    AttentionInterface.register(PAIRS, pair_attention)
    AttentionMaskInterface.register(PAIRS, sdpa_mask)


def pair_parts(row: PackedPairs) -> list[list[int]]:
    """The positions that shared prompt, chosen and rejected branch of each pair have, in the row's order."""
    branches = REJECTED_BRANCH + 1
    parts = torch.bincount(row.pair_index * branches + row.branch, minlength=row.pair_count * branches)
    counts: list[list[int]] = parts.view(-1, branches).tolist()
    return counts


def pair_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    pair_parts: list[list[int]] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention `[1, S, heads, D]` of queries, keys and values `[1, heads, S, D]`, within each pair.

    Args:
        module: the layer's attention.
        query: one row.
        key: it may have fewer heads.
        value: as `key`.
        attention_mask: where there are pairs, what the model was called with, or None.
        pair_parts: see the function of that name; without them, this is transformers' SDPA.
        **options: what the model gives to its attention.

    Raises:
        ValueError: a layer made a mask of its own, which no pair would be attended to with.
    """
    if pair_parts is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    check_no_own_mask(attention_mask)
    # One cut for all pairs: its gradient is put together once.
    cuts = [count for shared, chosen, rejected in pair_parts for count in (shared, chosen, rejected)]
    queries, keys, values = (torch.split(kernel_dtype(tensor), cuts, 2) for tensor in (query, key, value))
    dtype, outputs = query.dtype, []
    for prompt in range(0, len(cuts), 3):
        chosen, rejected, shared = prompt + 1, prompt + 2, cuts[prompt]
        for branch in (chosen, rejected):
            asked, mask = queries[branch], None
            if branch == rejected and cuts[branch] < shared:
                mask = lower_right(cuts[branch], shared, query.device)
            else:  # the prompt once more is cheaper than what a mask hides
                asked = torch.cat((queries[prompt], asked), 2)
            key, value = (torch.cat((tensor[prompt], tensor[branch]), 2) for tensor in (keys, values))
            out = attended(module, asked, key, value, mask, **options)
            outputs.append(out if branch == chosen else out[:, -cuts[branch] :])
    return torch.cat(outputs, 1).to(dtype), None


def lower_right(branch: int, shared: int, device: torch.device) -> Tensor:
    """What positions of a branch see of the prompt and of themselves, booleans `[1, 1, branch, shared + branch]`."""
    return torch.ones(branch, shared + branch, dtype=torch.bool, device=device).tril(shared)[None, None]
