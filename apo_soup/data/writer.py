"""Token arrays on disk: a spool to collect documents of any number, and the Arrow files that training maps.

Memory holds only the lengths. Documents are appended to one flat file as they come and read back by number once it is
known which sequence they go to, so two million rows need no more memory than two thousand.
"""

import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Features, List, Value

TOKEN = np.dtype(np.int32)
TOKENS_A_BATCH = 2**20
SHARD_BYTES = 500 * 2**20


class Spool:
    """Documents of `columns` token arrays each, in a file; numbered from 0 in the order they were appended."""

    def __init__(self, path: Path, columns: int):
        self.columns = columns
        self.lengths = array("i")  # columns entries a document
        self._starts = array("q")  # in bytes
        self._size = 0
        self._file = path.open("w+b")

    def __len__(self) -> int:
        return len(self._starts)

    def append(self, parts: Sequence[np.ndarray]) -> int:
        """Write one document; returns its number."""
        self._starts.append(self._size)
        self.lengths.extend(map(len, parts))
        self._size += self._file.write(np.concatenate(parts, dtype=TOKEN, casting="same_kind").data)
        return len(self._starts) - 1

    def flush(self) -> None:
        """Make what was appended readable."""
        self._file.flush()

    def read(self, number: int) -> list[np.ndarray]:
        """The arrays of a document."""
        lengths = self.lengths[number * self.columns : (number + 1) * self.columns]
        # A read, not a map: pages of a mapped file count as memory of the process until the system takes them back.
        data = os.pread(self._file.fileno(), sum(lengths) * TOKEN.itemsize, self._starts[number])
        whole = np.frombuffer(data, dtype=TOKEN)
        parts, begin = [], 0
        for length in lengths:
            parts.append(whole[begin : begin + length])
            begin += length
        return parts

    def close(self) -> None:
        self._file.close()


def write_split(folder: Path, names: Sequence[str], rows: Iterable[Sequence[np.ndarray]]) -> int:
    """Write rows of token arrays as one split that `datasets.load_from_disk` opens; returns the number of rows."""
    folder.mkdir(parents=True)
    features = Features({name: List(Value("int32")) for name in names})
    schema = features.arrow_schema
    files: list[str] = []
    written = count = 0
    writer = None
    for held in _bounded(rows):
        if writer is None or written > SHARD_BYTES:
            if writer is not None:
                writer.close()
            files.append(f"data-{len(files):05}.arrow")
            writer, written = pa.ipc.new_stream(str(folder / files[-1]), schema), 0
        columns = [_list_array([row[c] for row in held]) for c in range(len(names))]
        batch = pa.record_batch(columns, schema=schema)
        writer.write_batch(batch)
        written += batch.nbytes
        count += len(held)
    if writer is None:
        files.append("data-00000.arrow")
        writer = pa.ipc.new_stream(str(folder / files[-1]), schema)
    writer.close()
    info = {"features": features.to_dict(), "citation": "", "description": "", "homepage": "", "license": ""}
    state = {
        "_data_files": [{"filename": name} for name in files],
        "_fingerprint": folder.parent.name.strip("."),
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": folder.name,
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "state.json").write_text(json.dumps(state))
    return count


def _bounded(rows: Iterable[Sequence[np.ndarray]]) -> Iterator[list[Sequence[np.ndarray]]]:
    """Rows in batches of about a million tokens, however long each row is."""
    held: list[Sequence[np.ndarray]] = []
    tokens = 0
    for row in rows:
        held.append(row)
        tokens += sum(map(len, row))
        if tokens >= TOKENS_A_BATCH:
            yield held
            held, tokens = [], 0
    if held:
        yield held


def _list_array(rows: list[np.ndarray]) -> pa.ListArray:
    offsets = np.fromiter(accumulate(map(len, rows), initial=0), dtype=np.int32, count=len(rows) + 1)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(rows), type=pa.int32()))
