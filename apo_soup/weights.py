"""Safetensors files without torch: which of a folder's are read, their header, content hash, and finite values.

The format (github.com/huggingface/safetensors): eight bytes that say how long the header is, little-endian; a header of
that length in JSON; the tensors' bytes behind it. This is the only reader of such headers. It stands on the ground
floor because a stage's folder hashes its own weights and `apo_soup.runs` may not import `apo_soup.models`;
`merge/tensors.py` adds torch's types and reads values.
"""

import hashlib
import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from apo_soup.errors import UserError

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
ADAPTER_FILE = "adapter_model.safetensors"
LENGTH_BYTES = 8
# The bits of a float type's exponent, and the integer type to read them with: all ones is infinity or not a number.
EXPONENTS = {
    "BF16": ("uint16", 0x7F80),
    "F16": ("uint16", 0x7C00),
    "F32": ("uint32", 0x7F800000),
    "F64": ("uint64", 0x7FF0000000000000),
}
PIECE_BYTES = 2**19


@dataclass(frozen=True)
class TensorEntry:
    """One tensor in a header: `dtype` as safetensors names it (`BF16`), `shape`, and its bytes from `begin` up to
    `end`, counted from the first byte of the file.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def weight_files(folder: Path) -> list[Path]:
    """The weights of a model folder that transformers reads, by name; none where it would find none.

    It takes the first of: what `transformers_weights` in config.json names, one whole file, the parts that an index
    names, an adapter's file. What lies beside, such as the parts of an older save or an optimiser's state, belongs to
    no model. A part that is not there is in the list.
    """
    index = weight_index(folder)
    if index is not None:
        try:
            file_of = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            return [folder / str(name) for name in sorted(set(file_of.values()))]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return []
    named = named_weights(folder) or WEIGHTS_FILE
    return next(([folder / name] for name in (named, ADAPTER_FILE) if (folder / name).is_file()), [])


def weight_index(folder: Path) -> Path | None:
    """The index that names the parts of a folder's weights; None where they are one file."""
    named = named_weights(folder)
    if named:
        return folder / named if named.endswith(INDEX_FILE.removeprefix("model")) else None
    return folder / INDEX_FILE if (folder / INDEX_FILE).is_file() and not (folder / WEIGHTS_FILE).is_file() else None


def named_weights(folder: Path) -> str | None:
    """The file of weights, or of their index, that config.json names; None where it names none or cannot be read."""
    try:
        named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("transformers_weights")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return named if isinstance(named, str) else None


def read_header(path: Path, where: str) -> dict[str, TensorEntry]:
    """The tensors of a safetensors file by name, in the header's order.

    Raises:
        UserError: the file is shorter than its header says, or its header cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length, header = _header_bytes(file, size)
    if len(length) < LENGTH_BYTES or len(header) < int.from_bytes(length, "little"):
        raise UserError(
            f"{where}: {path}: expected a whole safetensors file, got {size:,} bytes that end inside the header; copy "
            "or make the file again"
        )
    try:
        entries = _entries(header)
    except ValueError as error:
        raise UserError(
            f"{where}: {path}: expected a safetensors header, got bytes that are none; copy or make the file again"
        ) from error
    end = max((entry.end for entry in entries.values()), default=0)
    if end > size:
        raise UserError(
            f"{where}: {path}: expected {end:,} bytes, got {size:,}: the file is cut off; copy or make it again"
        )
    return entries


def value_counts(folder: Path) -> dict[str, int]:
    """How many values the weights of a model folder hold, by their type (`BF16`); none where it has no weights yet.
    Tied weights are stored once.

    Raises:
        UserError: a file of weights is cut off.
    """
    counts: dict[str, int] = {}
    for file in filter(Path.is_file, weight_files(folder)):
        for entry in read_header(file, str(folder)).values():
            counts[entry.dtype] = counts.get(entry.dtype, 0) + prod(entry.shape)
    return counts


def hash_weights(path: Path) -> tuple[str, str | None]:
    """SHA-256 of a safetensors file, and its first tensor with a value that is not finite, both from one read.

    A file without a readable header is hashed all the same; who reads its tensors gets `read_header`'s sentence.
    """
    import numpy as np  # late: a program's help must not wait for it

    digest, bad = hashlib.sha256(), None
    with path.open("rb") as file:
        length, header = _header_bytes(file, path.stat().st_size)
        digest.update(length)
        digest.update(header)
        try:
            entries = _entries(header)
        except ValueError:
            entries = {}
        position = len(length) + len(header)
        for name, entry in sorted(entries.items(), key=lambda item: item[1].begin):
            digest.update(file.read(max(0, entry.begin - position)))
            position = entry.begin
            kind, mask = EXPONENTS.get(entry.dtype, (None, 0))
            while position < entry.end and (piece := file.read(min(PIECE_BYTES, entry.end - position))):
                digest.update(piece)
                position += len(piece)
                if kind and bad is None and len(piece) % np.dtype(kind).itemsize == 0:
                    values = np.frombuffer(piece, dtype=kind)
                    bad = name if ((values & values.dtype.type(mask)) == mask).any() else None
        for piece in iter(lambda: file.read(PIECE_BYTES), b""):
            digest.update(piece)
    return digest.hexdigest(), bad


def _header_bytes(file: BinaryIO, size: int) -> tuple[bytes, bytes]:
    """The bytes of the header's length, and the header's; fewer where a file of `size` bytes ends before."""
    length = file.read(LENGTH_BYTES)
    # Of a file that is no safetensors file these bytes say any length.
    return length, file.read(min(int.from_bytes(length, "little"), size))


def _entries(header: bytes) -> dict[str, TensorEntry]:
    """What a header says of each tensor; raises ValueError where it is no safetensors header."""
    start = LENGTH_BYTES + len(header)
    try:
        content = json.loads(header)
        content.pop("__metadata__", None)
        entries = {}
        for name, entry in content.items():
            (begin, end), shape = entry["data_offsets"], tuple(entry["shape"])
            if (
                not all(type(number) is int for number in (begin, end, *shape))
                or min((begin, *shape)) < 0
                or end < begin
            ):
                raise TypeError(f"{name} lies from {begin} to {end}, of shape {shape}")
            entries[name] = TensorEntry(str(entry["dtype"]), shape, start + begin, start + end)
    except (AttributeError, TypeError, KeyError, RecursionError) as error:
        raise ValueError("not a safetensors header") from error
    return entries
