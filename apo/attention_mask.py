"""The attention mask of packed pairs: what each position of a row sees.

A position sees the shared prompt of its own pair and its own branch (chosen or rejected), up to itself. It never sees
another pair, nor the other answer of its own. `may_attend` is that rule; the rest of the file writes it in the form
that an attention implementation takes.
"""

from typing import TYPE_CHECKING, Union

import torch
from torch import Tensor

from apo.packed_pairs import SHARED_BRANCH, PackedPairs

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

# FlexAttention's usual block of queries and of keys.
BLOCK = 128


def may_attend(row: PackedPairs, query: Tensor, key: Tensor) -> Tensor:
    """Whether positions `query` see positions `key`, which are integers of shapes that broadcast; booleans of the
    broadcast shape.
    """
    same_pair = row.pair_index[query] == row.pair_index[key]
    same_branch = (row.branch[key] == SHARED_BRANCH) | (row.branch[query] == row.branch[key])
    return same_pair & same_branch & (query >= key)


def attention_mask(row: PackedPairs, implementation: str) -> Union["BlockMask", Tensor]:
    """The mask of a row for an attention implementation: FlexAttention's block mask, else booleans `[1, 1, S, S]`."""
    if implementation == "flex_attention":
        return block_mask(row)
    return dense_mask(row)[None, None]


def dense_mask(row: PackedPairs) -> Tensor:
    """What each position sees, `[S, S]`: queries by keys, true where the query sees the key."""
    positions = torch.arange(len(row), device=row.input_ids.device)
    return may_attend(row, positions[:, None], positions[None, :])


def block_mask(row: PackedPairs) -> "BlockMask":
    """FlexAttention's mask of a row, computed a band of queries at a time: `[128, S]` in memory, never `[S, S]`."""
    from torch.nn.attention.flex_attention import BlockMask

    size, device = len(row), row.input_ids.device
    blocks = -(-size // BLOCK)
    keys = torch.arange(blocks * BLOCK, device=device)
    inside = keys < size
    partial_bands, full_bands = [], []
    for start in range(0, size, BLOCK):
        queries = torch.arange(start, min(start + BLOCK, size), device=device)
        seen = may_attend(row, queries[:, None], keys.clamp(max=size - 1)[None]) & inside  # [128, S rounded up]
        by_block = seen.view(len(queries), blocks, BLOCK)
        full = by_block.all(2).all(0) & (len(queries) == BLOCK)
        partial_bands.append(by_block.any(2).any(0) & ~full)
        full_bands.append(full)

    def counts_and_indices(bands: list[Tensor]) -> tuple[Tensor, Tensor]:
        """For each of Q blocks of queries how many of K blocks of keys are marked `[1, 1, Q]`, and the blocks
        `[1, 1, Q, K]`, marked ones first.
        """
        marks = torch.stack(bands)  # [blocks of queries, blocks of keys]
        order = marks.int().argsort(dim=1, descending=True, stable=True).int()
        return marks.sum(1, dtype=torch.int32)[None, None], order[None, None]

    return BlockMask.from_kv_blocks(
        *counts_and_indices(partial_bands),
        *counts_and_indices(full_bands),
        BLOCK_SIZE=BLOCK,
        mask_mod=lambda batch, head, query, key: may_attend(row, query, key),
        seq_lengths=(size, size),
    )
