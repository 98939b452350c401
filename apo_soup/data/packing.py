"""Fit documents into sequences of fixed length.

`bfd` is best-fit decreasing: longest first, each into the fullest bin that still takes it. `wrapped` cuts the stream
of all documents every `capacity` tokens. Both are functions of lengths alone, so they are tested without a model.
"""

from collections.abc import Sequence

import numpy as np

# A document's number, and the tokens `[start, end)` of it.
DocumentSlice = tuple[int, int, int]


def packed_sequences(lengths: list[int], capacity: int, strategy: str | None) -> list[list[DocumentSlice]]:
    """Sequences of document slices by `bfd`, `wrapped`, or None for a document a sequence.

    >>> packed_sequences([3, 5, 2], 5, "bfd")
    [[(1, 0, 5)], [(0, 0, 3), (2, 0, 2)]]
    >>> packed_sequences([3, 5, 2], 5, "wrapped")
    [[(0, 0, 3), (1, 0, 2)], [(1, 2, 5), (2, 0, 2)]]
    """
    if strategy == "wrapped":
        return wrapped(lengths, capacity)
    bins = best_fit_decreasing(lengths, capacity) if strategy == "bfd" else [[d] for d in range(len(lengths))]
    return [[(document, 0, lengths[document]) for document in chosen] for chosen in bins]


def best_fit_decreasing(lengths: list[int], capacity: int) -> list[list[int]]:
    """Bins of document indices; the lengths in a bin sum to at most `capacity`.

    The free space of open bins is kept as a bit set (bit r: some bin has room for exactly r tokens), so the best bin
    for a document is the lowest bit at or above its length.

    Raises:
        ValueError: if a document is longer than `capacity`; cut or split it first.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    if order and lengths[order[0]] > capacity:
        raise ValueError(
            f"expected documents of at most {capacity} tokens, got {lengths[order[0]]} in document {order[0]}"
        )
    bins: list[list[int]] = []
    with_space: dict[int, list[int]] = {}
    spaces = 0
    for document in order:
        length = lengths[document]
        fitting = spaces >> length
        if fitting:
            space = (fitting & -fitting).bit_length() - 1 + length
            chosen = with_space[space].pop()
            if not with_space[space]:
                spaces &= ~(1 << space)
        else:
            space, chosen = capacity, len(bins)
            bins.append([])
        bins[chosen].append(document)
        left = space - length
        if left:
            with_space.setdefault(left, []).append(chosen)
            spaces |= 1 << left
    return bins


def wrapped(lengths: list[int], capacity: int) -> list[list[DocumentSlice]]:
    """Sequences of document slices; every sequence but the last is exactly full."""
    sequences: list[list[DocumentSlice]] = []
    free = 0
    for document, length in enumerate(lengths):
        start = 0
        while start < length:
            if free == 0:
                sequences.append([])
                free = capacity
            end = min(length, start + free)
            sequences[-1].append((document, start, end))
            free -= end - start
            start = end
    return sequences


def position_ids(seq_lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Position ids `[S]` of a packed sequence: from 0 again at each document start.

    >>> position_ids([3, 2]).tolist()
    [0, 1, 2, 0, 1]
    """
    ends = np.cumsum(seq_lengths)
    positions: np.ndarray = np.arange(ends[-1]) - np.repeat(ends - seq_lengths, seq_lengths)
    return positions
