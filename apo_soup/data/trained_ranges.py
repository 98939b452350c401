"""Which tokens of a document or a packed sequence carry loss: trained ranges, and the labels they stand for.

Ranges are `[first, last)`, ascending and apart; on disk they are one array `[2k]` of starts and ends in turn. A row has
a few of them for its thousands of tokens, so they are what is carried from the encoder to the collator, and labels are
made last of all.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from apo_soup.data.rendering.template import Span

# The label of a token without a loss, as torch's cross entropy has it.
IGNORED = -100


def ranges_within(ranges: Iterable[Span], start: int, end: int) -> list[Span]:
    """The ranges of the piece `[start, end)` of a document, counted from its start.

    The first token of a piece, as of a whole document, has nothing before it to be predicted from and is never trained.

    >>> ranges_within([(0, 3), (5, 9)], 0, 8)
    [(1, 3), (5, 8)]
    >>> ranges_within([(0, 3), (5, 9)], 5, 9)
    [(1, 4)]
    """
    first = start + 1
    return [(max(a, first) - start, min(b, end) - start) for a, b in ranges if max(a, first) < min(b, end)]


def range_array(ranges: Iterable[Span]) -> np.ndarray:
    """Ranges as one array `[2k]` of int32: starts and ends in turn."""
    return np.array([place for one in ranges for place in one], dtype=np.int32)


def range_list(trained_ranges: np.ndarray) -> list[Span]:
    """The ranges of an array `[2k]`."""
    return list(zip(trained_ranges[::2].tolist(), trained_ranges[1::2].tolist(), strict=True))


def trained_count(trained_ranges: np.ndarray) -> int:
    """How many tokens the ranges of an array `[2k]` hold."""
    return int(trained_ranges[1::2].sum() - trained_ranges[::2].sum())


def labels_of(input_ids: Sequence[int] | np.ndarray, trained_ranges: Sequence[int] | np.ndarray) -> np.ndarray:
    """The labels `[S]` of a row of a prepared split: the ids of trained tokens, and -100 for all others.

    Args:
        input_ids: the row's ids `[S]`.
        trained_ranges: starts and ends `[2k]`, in turn.

    >>> labels_of([7, 8, 9, 5, 6], [1, 3, 4, 5]).tolist()
    [-100, 8, 9, -100, 6]
    """
    ids = np.asarray(input_ids)
    labels = np.full_like(ids, IGNORED)
    for first, last in zip(trained_ranges[::2], trained_ranges[1::2], strict=True):
        labels[first:last] = ids[first:last]
    return labels
