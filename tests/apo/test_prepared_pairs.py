"""Prepared pairs as rows of tensors."""

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, concatenate_datasets

from apo.packed_pairs import PairIds, pack_pairs
from apo.prepared_pairs import REFERENCE_COLUMNS, PreparedPairs, arrays_of
from apo_soup.data.documents import PAIR_COLUMNS

PAIRS = [PairIds([5 + n] * (n + 1), [20 + n] * (n % 3 + 1), [30 + n]) for n in range(7)]


def split_of(pairs, first):
    columns = dict(zip(PAIR_COLUMNS, map(list, zip(*pairs, strict=True)), strict=True))
    places = range(first, first + len(pairs))
    columns |= {"truncated": [n % 2 == 1 for n in places]}
    columns |= {name: [n + side / 4 for n in places] for side, name in enumerate(REFERENCE_COLUMNS)}
    return Dataset.from_dict(columns)


def test_rows_have_the_pairs_of_the_split_in_the_order_asked_for():
    """Of a table of several pieces, as one on disk is."""
    pairs = PreparedPairs(concatenate_datasets([split_of(PAIRS[:3], 0), split_of(PAIRS[3:], 3)]))
    numbers = [6, 0, 3, 1]
    row, expected = pairs.packed_row(numbers), pack_pairs([PAIRS[n] for n in numbers])
    for name in ("input_ids", "position_ids", "pair_index", "branch", "scored_positions", "targets", "answer_index"):
        assert torch.equal(getattr(row.pairs, name), getattr(expected, name)), name
        assert torch.equal(getattr(pairs.packed_pairs(numbers), name), getattr(expected, name)), name
    assert row.reference.tolist() == [[n, n + 0.25] for n in numbers]
    assert (row.reference.dtype, row.truncated) == (torch.float32, 2)


def test_arrays_look_into_the_values_of_a_column():
    column = pa.chunked_array([pa.array([[9], [1, 2], [3], [4, 5, 6]], pa.list_(pa.int32())).slice(1, 3)])
    arrays = arrays_of(column)
    assert [a.tolist() for a in arrays] == [[1, 2], [3], [4, 5, 6]]
    assert all(a.base is not None and a.dtype == np.int32 for a in arrays)
