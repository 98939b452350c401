"""A split of prepared pairs: how long they are, and rows of them as tensors."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
import torch
from datasets import Dataset
from torch import Tensor

from apo.packed_pairs import PackedPairs, PairIds, pack_pairs, position_count
from apo_soup.data.documents import PAIR_COLUMNS, ROWS_COLUMN, TRUNCATED_COLUMN

# The columns that TRL gives the reference's log-probabilities.
REFERENCE_COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")
# The pair of a row without pairs, for a rank that has none left.
PLACEHOLDER = PairIds([0], [0], [0])


@dataclass(frozen=True)
class PackedRow:
    """What a row of N pairs needs to be trained on or evaluated.

    Attributes:
        pairs: the row's tokens.
        reference: log-probabilities `[N, 2]` of the chosen and rejected answers under the reference, in float32.
        truncated: how many of the pairs were cut at `max_length`.
        placeholder: the row stands for no pairs; its forward and backward pass run, with no weight.
        kept: the kept row that each pair is, where the prepared rows tell.
    """

    pairs: PackedPairs
    reference: Tensor
    truncated: int
    placeholder: bool = False
    kept: tuple[int, ...] = ()

    def pin_memory(self) -> "PackedRow":
        """The row in pinned memory; a DataLoader calls it for `dataloader_pin_memory`."""
        return replace(self, pairs=self.pairs.pin_memory(), reference=self.reference.pin_memory())


class PreparedPairs:
    """A split with the columns `prompt_ids`, `chosen_ids`, `rejected_ids` and `truncated`, and those of the reference
    once it ran. Its ids are read as arrays, from the memory-mapped table.
    """

    def __init__(self, dataset: Dataset):
        self.dataset = dataset.with_format("arrow")

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.dataset)

    def lengths(self) -> list[int]:
        """The positions that every pair takes."""
        columns = (column_lengths(self.dataset, name) for name in PAIR_COLUMNS)
        return [position_count(*lengths) for lengths in zip(*columns, strict=True)]

    def packed_pairs(self, numbers: list[int]) -> PackedPairs:
        """The row of these pairs, or a placeholder where there are none."""
        return pack_pairs(pairs_of(self.dataset[numbers]) if numbers else [PLACEHOLDER])

    def packed_row(self, numbers: list[int], epoch: int = 0) -> PackedRow:
        """The row of these pairs with its reference, or a placeholder where there are none. The reference is the one
        taken for the epoch, where each has its own, else that of all.

        Raises:
            KeyError: the reference pass has not run.
        """
        if not numbers:
            return PackedRow(pack_pairs([PLACEHOLDER]), torch.zeros(1, 2), truncated=0, placeholder=True)
        columns = self.dataset[numbers]
        pairs = pairs_of(columns)
        values = [np.array(columns[name].to_pylist(), dtype=np.float32) for name in REFERENCE_COLUMNS]
        reference = np.stack([of_side[:, epoch] if of_side.ndim == 2 else of_side for of_side in values], axis=1)
        truncated = compute.sum(columns[TRUNCATED_COLUMN]).as_py()
        kept = columns[ROWS_COLUMN].combine_chunks().values.to_pylist() if ROWS_COLUMN in columns.column_names else []
        return PackedRow(pack_pairs(pairs), torch.from_numpy(reference), truncated, kept=tuple(kept))


def pairs_of(columns: pa.Table) -> list[PairIds]:
    """The pairs of some rows, given as columns."""
    return [PairIds(*parts) for parts in zip(*(arrays_of(columns[name]) for name in PAIR_COLUMNS), strict=True)]


def arrays_of(column: pa.ChunkedArray) -> list[np.ndarray]:
    """The rows of a column of lists, each an array `[T]` that looks into the column's values."""
    rows = column.combine_chunks()
    values = rows.values.to_numpy()
    return [values[start:end] for start, end in pairwise(rows.offsets.to_pylist())]


def column_lengths(dataset: Dataset, name: str) -> list[int]:
    """How many tokens every row of a column has, read from the table's offsets and not from the tokens."""
    column = dataset.with_format("arrow").select_columns([name])[:][name]
    lengths: list[int] = compute.list_value_length(column).to_pylist()
    return lengths


def mean_length(dataset: Dataset, name: str) -> float:
    """The mean number of tokens in a column; 0 where there are no rows."""
    lengths = column_lengths(dataset, name)
    return sum(lengths) / max(1, len(lengths))
