"""Rows of packed documents as a batch: the one place where trained ranges become labels.

Arrays come from the memory-mapped split and go into tensors as they are.
"""

import numpy as np
import torch

from apo_soup.data.packing import position_ids
from apo_soup.data.trained_ranges import IGNORED, labels_of

# Tokens of a row that stands for none.
_NO_ROW = 2


class PackedCollator:
    """Collates rows of `input_ids` `[S]`, `trained_ranges` `[2k]` and `seq_lengths`, all of them arrays.

    No attention mask is given: transformers keeps documents apart by positions that start again at 0.

    Args:
        pad_token_id: fills rows up.
        flat: one row of all documents with their boundaries, which is what FlashAttention reads. It would take a batch
            of several rows without a mask for plain sequences, and let documents see each other.
    """

    def __init__(self, pad_token_id: int, flat: bool = False):
        self.pad_token_id, self.flat = pad_token_id, flat

    def __call__(self, rows: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor | int]:
        """`input_ids`, `labels` and `position_ids`, each `[B, S]`; padding is one more document at the end of a row.
        A flat batch is `[1, total]`, has no padding, and has `document_boundaries`.
        """
        ids = [row["input_ids"] for row in rows]
        labels = [labels_of(row["input_ids"], row["trained_ranges"]) for row in rows]
        lengths = [row["seq_lengths"] for row in rows]
        if self.flat:
            ids, labels, lengths = ([np.concatenate(arrays)] for arrays in (ids, labels, lengths))
        width = max(map(len, ids))
        with_padding = [np.append(of_row, width - of_row.sum()) for of_row in lengths]
        batch: dict[str, torch.Tensor | int] = {
            "input_ids": stacked(ids, width, self.pad_token_id),
            "labels": stacked(labels, width, IGNORED),
            "position_ids": stacked([position_ids(of_row) for of_row in with_padding], width, 0),
        }
        return batch | (document_boundaries(lengths[0]) if self.flat else {})


def untrained(row: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The beginning of a row without a trained token, for a rank that has no row of its own in a micro-batch."""
    ids = row["input_ids"][:_NO_ROW]
    return {"input_ids": ids, "trained_ranges": ids[:0], "seq_lengths": np.array([len(ids)], dtype=ids.dtype)}


def stands_in(labels: torch.Tensor) -> bool:
    """Whether labels `[B, S]` are those of `untrained`."""
    return labels.shape[1] <= _NO_ROW and bool((labels == IGNORED).all())


def stacked(rows: list[np.ndarray], width: int, filler: int) -> torch.Tensor:
    """Arrays of at most `width` as one tensor `[B, width]` of integers."""
    out = np.full((len(rows), width), filler, dtype=np.int64)
    for filled, row in zip(out, rows, strict=True):
        filled[: len(row)] = row
    return torch.from_numpy(out)


def document_boundaries(lengths: np.ndarray) -> dict[str, torch.Tensor | int]:
    """Where the documents of a flat row begin and end, for kernels that take sequences of different lengths.

    `cu_seq_lens_q` and `cu_seq_lens_k` `[documents + 1]`, `max_length_q` and `max_length_k` are FlashAttention's,
    `seq_idx` `[1, total]`, the number of each token's document, is that of convolutions in linear attention.
    """
    bounds = torch.from_numpy(np.append(0, lengths.cumsum()).astype(np.int32))
    longest = int(lengths.max())
    numbers = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    return {
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": longest,
        "max_length_k": longest,
        "seq_idx": torch.from_numpy(numbers)[None],
    }
