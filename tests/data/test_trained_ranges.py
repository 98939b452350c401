"""Trained ranges and the labels they stand for."""

import re

import numpy as np
from data_helpers import ROWS, prepared
from helpers import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from apo_soup.data.trained_ranges import (
    IGNORED,
    labels_of,
    range_array,
    range_list,
    ranges_within,
    trained_count,
)

MASK = st.lists(st.booleans(), min_size=1, max_size=40)


def ranges_of(mask):
    """The stretches of a mask that are true."""
    edges = np.flatnonzero(np.diff([0, *map(int, mask), 0])).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


@settings(max_examples=80)
@given(MASK, st.integers(1, 9))
def test_pieces_have_the_labels_of_the_whole_but_for_their_first_token(mask, limit):
    ids = np.arange(len(mask), dtype=np.int32)
    whole = np.where(mask, ids, IGNORED)
    for start in range(0, len(mask), limit):
        end = min(start + limit, len(mask))
        found = range_array(ranges_within(ranges_of(mask), start, end))
        labels = labels_of(ids[start:end], found)
        assert labels.dtype == np.int32
        assert labels.tolist() == [IGNORED, *whole[start + 1 : end].tolist()]
        assert trained_count(found) == (labels != IGNORED).sum()
        assert ranges_within(range_list(found), 0, end - start) == range_list(found), "once is enough"


def test_no_range_is_an_array_of_none():
    assert (range_array([]).dtype, range_list(range_array([])), trained_count(range_array([]))) == (np.int32, [], 0)
    assert labels_of([5, 6], []).tolist() == [IGNORED, IGNORED]


def test_the_pages_example_gives_labels_to_those_who_open_the_folder(training_recipe, tokenizer):
    example = re.findall(
        r"^    (from apo_soup\S+ import labels_of|rows = rows\.map.*)$", (ROOT / "docs/data.md").read_text(), re.M
    )
    _, splits, stats = prepared(training_recipe(ROWS, packing_strategy="wrapped", max_length=61))
    names = {"rows": splits["train"]}
    exec("\n".join(example), names)
    rows = names["rows"]
    assert rows.column_names == ["input_ids", "trained_ranges", "seq_lengths", "rows", "labels"]
    assert sum(label != -100 for row in rows["labels"] for label in row) == stats["packed"]["trained"]
    for row in rows:
        starts = {0, *np.cumsum(row["seq_lengths"]).tolist()}
        trained = [n for n, label in enumerate(row["labels"]) if label != -100]
        assert not starts & set(trained)
        assert [row["labels"][n] for n in trained] == [row["input_ids"][n] for n in trained]
