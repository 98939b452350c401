"""What each place of a packed row may see, in the form that an attention implementation takes."""

from typing import Any

import torch

from apo.rows import Row, sees, visible

# FlexAttention's usual block of queries and of keys.
BLOCK = 128


def attention_mask(row: Row, attention: str) -> Any:
    """What each place may see, in the form the attention implementation takes: a block mask or `[1, 1, S, S]`."""
    if attention != "flex_attention":
        return visible(row)[None, None]
    return block_mask(row)


def block_mask(row: Row) -> Any:
    """FlexAttention's mask of a row, made a band of queries at a time: [128, S] places in memory, never [S, S]."""
    from torch.nn.attention.flex_attention import BlockMask

    size, device = len(row.input_ids), row.input_ids.device
    blocks = -(-size // BLOCK)
    keys = torch.arange(blocks * BLOCK, device=device)
    inside = keys < size
    some, all_ = [], []
    for start in range(0, size, BLOCK):
        queries = torch.arange(start, min(start + BLOCK, size), device=device)
        seen = sees(row, queries[:, None], keys.clamp(max=size - 1)[None]) & inside
        by_block = seen.view(len(queries), blocks, BLOCK)
        whole = by_block.all(2).all(0) & (len(queries) == BLOCK)
        some.append(by_block.any(2).any(0) & ~whole)
        all_.append(whole)
    partial, full = torch.stack(some), torch.stack(all_)  # [blocks of queries, blocks of keys]

    def table(marks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        order = marks.int().argsort(dim=1, descending=True, stable=True).int()
        return marks.sum(1, dtype=torch.int32)[None, None], order[None, None]

    return BlockMask.from_kv_blocks(
        *table(partial),
        *table(full),
        BLOCK_SIZE=BLOCK,
        mask_mod=lambda batch, head, query, key: sees(row, query, key),
        seq_lengths=(size, size),
    )
