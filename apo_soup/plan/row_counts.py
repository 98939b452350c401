"""What a training file's prepared rows are, in numbers that decide how long and how large its steps are."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as compute
from datasets import Dataset, load_from_disk

from apo.prepared_pairs import PreparedPairs, column_lengths
from apo_soup.data.documents import PAIR_COLUMNS


@dataclass(frozen=True)
class SplitCounts:
    """The training split of prepared rows.

    Attributes:
        rows: documents, or pairs.
        tokens: of an epoch, those of a pair's prompt once.
        trained: of these, those with a loss.
        sequences: what a batch is counted in: packed rows, or pairs.
        longest: places of the longest of them, `most_computed` the most that are computed of one: documents as far as
            their last place that predicts a trained token.
        squares: the sum of the squares of the lengths of what attends to itself: documents, or a pair's two sequences.
        held_out: sequences or pairs of the held-out split.
        folder_bytes: what the prepared folder takes on disk.
    """

    rows: int
    tokens: int
    trained: int
    sequences: int
    longest: int
    most_computed: int
    squares: float
    held_out: int
    folder_bytes: int


def row_counts(folder: Path, pairs: bool) -> SplitCounts:
    """The counts of a prepared folder."""
    splits = load_from_disk(str(folder))
    train = splits["train"]
    count = _of_pairs if pairs else _of_sequences
    held_out = len(splits["test"]) if "test" in splits else 0
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return SplitCounts(*count(train), held_out=held_out, folder_bytes=size)


def _of_sequences(train: Dataset) -> tuple[int, int, int, int, int, int, float]:
    table = train.with_format("arrow").select_columns(["trained_ranges", "seq_lengths"])[:]
    lengths = compute.list_flatten(table["seq_lengths"]).to_numpy().astype(np.int64)
    documents = compute.list_value_length(table["seq_lengths"]).to_numpy().astype(np.int64)
    ranges = compute.list_flatten(table["trained_ranges"]).to_numpy().astype(np.int64)
    trained = int((ranges[1::2] - ranges[::2]).sum())
    rows = np.add.reduceat(lengths, np.append(0, documents.cumsum()[:-1]))  # places of each row
    squares = float((lengths.astype(np.float64) ** 2).sum())
    most = int(computed_places(train).max())
    return len(lengths), int(lengths.sum()), trained, len(train), int(rows.max()), most, squares


def computed_places(train: Dataset) -> np.ndarray:
    """How many places are computed of each packed row, `[R]`: its documents as far as their last place that predicts a
    trained token.
    """
    table = train.with_format("arrow").select_columns(["trained_ranges", "seq_lengths"])[:]
    lengths = compute.list_flatten(table["seq_lengths"]).to_numpy().astype(np.int64)
    first = np.append(0, compute.list_value_length(table["seq_lengths"]).to_numpy().astype(np.int64).cumsum()[:-1])
    rows = np.add.reduceat(lengths, first)
    ranges = compute.list_flatten(table["trained_ranges"]).to_numpy().astype(np.int64)
    # Everything in one line: rows one after another, and in them documents.
    row_of_range = np.repeat(np.arange(len(rows)), compute.list_value_length(table["trained_ranges"]).to_numpy() // 2)
    ends = ranges[1::2] + (rows.cumsum() - rows)[row_of_range]
    document = np.searchsorted(lengths.cumsum(), ends - 1, side="right")
    computed = np.zeros(len(lengths), dtype=np.int64)
    np.maximum.at(computed, document, ends - 1 - (lengths.cumsum() - lengths)[document])
    return np.add.reduceat(computed, first)


def _of_pairs(train: Dataset) -> tuple[int, int, int, int, int, int, float]:
    prompts, chosen, rejected = (np.array(column_lengths(train, name), dtype=np.int64) for name in PAIR_COLUMNS)
    lengths = np.array(PreparedPairs(train).lengths(), dtype=np.int64)
    squares = float((prompts.astype(float) ** 2 + sum((2.0 * prompts + a) * a for a in (chosen, rejected))).sum())
    trained, longest = int((chosen + rejected).sum()), int(lengths.max(initial=0))
    return len(train), int(lengths.sum()), trained, len(train), longest, longest, squares
