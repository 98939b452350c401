"""Safetensors files without torch: their content hash, and whether their values are finite."""

import hashlib
import json
from pathlib import Path

import numpy as np

# Where the exponent of a float type lies, and the integer that reads it: all ones is infinity or not a number.
EXPONENTS = {
    "BF16": (np.uint16, 0x7F80),
    "F16": (np.uint16, 0x7C00),
    "F32": (np.uint32, 0x7F800000),
    "F64": (np.uint64, 0x7FF0000000000000),
}
PIECE_BYTES = 2**19


def hash_weights(path: Path) -> tuple[str, str | None]:
    """SHA-256 of a safetensors file, and the first tensor with a value that is not finite, found in the same read."""
    digest, bad = hashlib.sha256(), None
    with path.open("rb") as file:
        start = file.read(8)
        digest.update(start)
        # Of a file that is no safetensors file these bytes say any length.
        header = file.read(min(int.from_bytes(start, "little"), path.stat().st_size))
        digest.update(header)
        try:
            entries = {k: v for k, v in json.loads(header).items() if k != "__metadata__"}
        except (ValueError, AttributeError):
            entries = {}  # no safetensors header: `merge` says so where it reads it
        place = 0
        for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
            begin, end = entry["data_offsets"]
            digest.update(file.read(max(0, begin - place)))
            place = begin
            kind, mask = EXPONENTS.get(entry["dtype"], (None, 0))
            while place < end and (piece := file.read(min(PIECE_BYTES, end - place))):
                digest.update(piece)
                place += len(piece)
                if kind and bad is None and len(piece) % np.dtype(kind).itemsize == 0:
                    values = np.frombuffer(piece, dtype=kind)
                    bad = name if ((values & kind(mask)) == mask).any() else None
        for piece in iter(lambda: file.read(PIECE_BYTES), b""):
            digest.update(piece)
    return digest.hexdigest(), bad
