"""Arrays of integers in one flat file, for documents of any number.

Memory has only the lengths. Documents are appended as they come and read back by number once it is known which sequence
they go to, so two million rows need no more memory than two thousand.
"""

import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

INTEGER = np.dtype(np.int32)


class DocumentFile:
    """Documents of `columns` arrays each: token ids, or what is said of them; numbered from 0 as they were appended."""

    def __init__(self, path: Path, columns: int):
        self.columns = columns
        self.lengths = array("i")  # columns entries a document
        self._starts = array("q")  # in bytes
        self._size = 0
        self._file = path.open("w+b")

    def __len__(self) -> int:
        return len(self._starts)

    def append(self, parts: Sequence[np.ndarray]) -> int:
        """Write one document, whose parts are `[T]` each; returns its number."""
        self._starts.append(self._size)
        self.lengths.extend(map(len, parts))
        self._size += self._file.write(np.concatenate(parts, dtype=INTEGER, casting="same_kind").data)
        return len(self._starts) - 1

    def extend(self, lengths: np.ndarray, tokens: np.ndarray) -> int:
        """Write documents, the `lengths` of whose arrays are `[D, columns]`; returns the number of the first."""
        first = len(self._starts)
        sizes = lengths.sum(axis=1, dtype=np.int64) * INTEGER.itemsize
        self._starts.frombytes((self._size + np.cumsum(sizes) - sizes).tobytes())
        self.lengths.frombytes(lengths.astype(np.intc).tobytes())
        self._size += self._file.write(tokens.astype(INTEGER, copy=False).data)
        return first

    def flush(self) -> None:
        """Make what was appended readable."""
        self._file.flush()

    def read(self, number: int) -> list[np.ndarray]:
        """The arrays of a document, `[T]` each."""
        lengths = self.lengths[number * self.columns : (number + 1) * self.columns]
        # A read, not a map: pages of a mapped file count as memory of the process until the system takes them back.
        data = os.pread(self._file.fileno(), sum(lengths) * INTEGER.itemsize, self._starts[number])
        whole = np.frombuffer(data, dtype=INTEGER)
        parts, begin = [], 0
        for length in lengths:
            parts.append(whole[begin : begin + length])
            begin += length
        return parts

    def read_many(self, numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Documents one behind another, `[T]`, and the lengths of their arrays, `[N, columns]`."""
        lengths = np.frombuffer(self.lengths, dtype=np.intc).reshape(-1, self.columns)[numbers]
        sizes = (lengths.sum(axis=1, dtype=np.int64) * INTEGER.itemsize).tolist()
        file, starts = self._file.fileno(), self._starts
        data = b"".join([os.pread(file, size, starts[n]) for n, size in zip(numbers, sizes, strict=True)])
        return np.frombuffer(data, dtype=INTEGER), lengths

    def close(self) -> None:
        """Close the file; it stays where it is."""
        self._file.close()
