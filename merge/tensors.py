"""Tensors of a model folder, read without mapping files into memory.

A mapped file counts as memory of the process until the system takes its pages back, so averaging five models through
maps needs room for all of them. Reading into a buffer needs room for the buffer.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from apo_soup.errors import UserError
from apo_soup.stored_json import Form, read_json
from apo_soup.weights import INDEX_FILE, WEIGHTS_FILE, read_header, weight_files, weight_index

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
# Elements of each input that are in memory at a time: few enough that the sums stay in the processor's cache.
PIECE_ELEMENTS = 2**17


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: its file, the position of its first byte, its type and shape."""

    file: Path
    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)

    def read(self, begin: int, count: int) -> torch.Tensor:
        """`count` elements from element `begin` on, as a flat tensor `[count]`.

        Raises:
            UserError: the file ends before.
        """
        values = torch.empty(count, dtype=self.dtype)
        with self.file.open("rb", buffering=0) as file:
            file.seek(self.start + begin * self.dtype.itemsize)
            view = memoryview(values.view(torch.uint8).numpy().data)
            while view:
                got = file.readinto(view)
                if not got:
                    raise UserError(
                        f"{self.file}: expected {len(view):,} more bytes, got none: the file became shorter while it "
                        "was read; run the command again when nothing writes it"
                    )
                view = view[got:]
        return values


def pieces(count: int) -> list[tuple[int, int]]:
    """A tensor of `count` elements as (begin, count) of pieces of at most PIECE_ELEMENTS."""
    return [(begin, min(PIECE_ELEMENTS, count - begin)) for begin in range(0, count, PIECE_ELEMENTS)]


def stored_tensors(folder: Path, where: str) -> dict[str, StoredTensor]:
    """Every tensor of a model folder by name, from the files' headers.

    Raises:
        UserError: a file that the index names is missing, a file is cut off, or its header cannot be read.
    """
    index = weight_index(folder)
    file_of = _weight_map(index, where) if index else {}
    files = weight_files(folder)
    if not files:
        raise UserError(f"{where}: {folder}: expected {WEIGHTS_FILE} or {INDEX_FILE}, got none; copy the whole folder")
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        tensors |= _tensors_of(file, where)
    absent = next((name for name in file_of if name not in tensors), None)
    if absent:
        raise UserError(
            f"{where}: {folder}: expected tensor {absent} in {file_of[absent]}, as its index says, got none; copy "
            "the whole folder"
        )
    return tensors


class WeightIndex(Form):
    """What is read of an index of weights."""

    weight_map: dict[str, str]


def _weight_map(index: Path, where: str) -> dict[str, str]:
    """The file of each tensor by an index; raises UserError where one is missing."""
    file_of: dict[str, str] = read_json(index, where, "copy the file again", WeightIndex)["weight_map"]
    for name in sorted(set(file_of.values())):
        if not (index.parent / name).is_file():
            raise UserError(f"{where}: {index}: expected {name} beside it, got no such file; copy the whole folder")
    return file_of


def _tensors_of(file: Path, where: str) -> dict[str, StoredTensor]:
    """The tensors of one file; raises UserError for a type that torch cannot average, or a shape that does not fit."""
    tensors = {}
    for name, entry in read_header(file, where).items():
        if entry.dtype not in DTYPES:
            raise UserError(
                f"{where}: {file}: tensor {name}: expected one of {', '.join(DTYPES)}, got {entry.dtype}; convert the "
                "model first"
            )
        tensors[name] = stored = StoredTensor(file, entry.begin, DTYPES[entry.dtype], entry.shape)
        size = stored.count * stored.dtype.itemsize
        if entry.end - entry.begin != size:
            raise UserError(
                f"{where}: {file}: tensor {name}: expected {size:,} bytes for shape {list(entry.shape)}, got "
                f"{entry.end - entry.begin:,}; copy or make the file again"
            )
    return tensors
