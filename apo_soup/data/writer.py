"""Splits on disk, in the format of `datasets`: what training maps into memory.

`Dataset.save_to_disk` writes the format, but copies a dataset that is on disk already; so it is asked for a split of
one empty row, and that row's file is written again by `ArrowWriter`, with all the rows as they come. Each token is
written once, and memory has a million tokens at a time.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features, List, NamedSplit, Value
from datasets.arrow_writer import ArrowWriter
from datasets.table import InMemoryTable

TOKENS_A_BATCH = 2**20
# Arrays, and values of yes or no behind them.
Row = Sequence[Any]


def write_split(folder: Path, names: Sequence[str], rows: Iterable[Row], flags: Sequence[str] = ()) -> int:
    """Write rows as one split that `datasets.load_from_disk` opens; returns the number of rows.

    Args:
        folder: named by the split, in a folder that is named by the content of the rows.
        names: the columns of integers, one for each array `[S]` that a row begins with.
        flags: the columns of yes or no, one for each of its values behind them.
    """
    features = Features({name: List(Value("int32")) for name in names} | {name: Value("bool") for name in flags})
    one_row = InMemoryTable.from_pydict(
        {name: [[]] for name in names} | {name: [False] for name in flags}, schema=features.arrow_schema
    )
    info, split = DatasetInfo(features=features), NamedSplit(folder.name)
    # By the fingerprint `datasets` names what it caches of a split, so those of other rows have another one.
    fingerprint = f"{folder.parent.name.strip('.')}-{folder.name}"
    Dataset(one_row, info=info, split=split, fingerprint=fingerprint).save_to_disk(str(folder))
    (file,) = folder.glob("*.arrow")
    with ArrowWriter(features=features, path=str(file)) as writer:
        for batch in _batches(rows):
            columns = dict(zip((*names, *flags), zip(*batch, strict=True), strict=True))
            arrays = {name: pa.array(c) if name in flags else _list_array(c) for name, c in columns.items()}
            writer.write_batch(arrays, writer_batch_size=len(batch))
        count: int = writer.finalize()[0]
    return count


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows in batches of about a million tokens, however long each row is."""
    batch: list[Row] = []
    tokens = 0
    for row in rows:
        batch.append(row)
        tokens += sum(map(np.size, row))
        if tokens >= TOKENS_A_BATCH:
            yield batch
            batch, tokens = [], 0
    if batch:
        yield batch


def _list_array(rows: Sequence[np.ndarray]) -> pa.ListArray:
    offsets = np.fromiter(accumulate(map(len, rows), initial=0), dtype=np.int32, count=len(rows) + 1)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(rows), type=pa.int32()))
