"""Write a model folder's tensors piece by piece, into files as large as the Hub wants them."""

import hashlib
import json
import math
from io import FileIO
from pathlib import Path

import torch

from apo_soup.weights import INDEX_FILE, WEIGHTS_FILE
from merge.tensors import DTYPES

DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
MAX_FILE_BYTES = 5 * 10**9


class SafetensorsWriter:
    """Writes tensors one behind the other into the files of a model folder; nothing but the current piece is held."""

    def __init__(self, folder: Path, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype):
        folder.mkdir(parents=True, exist_ok=True)
        shards: list[list[str]] = [[]]
        held = 0
        for name, shape in shapes.items():
            size = math.prod(shape) * dtype.itemsize
            if held and held + size > MAX_FILE_BYTES:
                shards.append([])
                held = 0
            shards[-1].append(name)
            held += size
        files = [WEIGHTS_FILE]
        if len(shards) > 1:
            files = [f"model-{n + 1:05}-of-{len(shards):05}.safetensors" for n in range(len(shards))]
        self._files: dict[str, FileIO] = {}
        self._hashes = {file: hashlib.sha256() for file in files}
        file_of = {name: file for file, names in zip(files, shards, strict=True) for name in names}
        self._hash_of = {name: self._hashes[file] for name, file in file_of.items()}
        for file, names in zip(files, shards, strict=True):
            opened = (folder / file).open("wb", buffering=0)
            header = _header_bytes({name: shapes[name] for name in names}, dtype)
            opened.write(header)
            self._hashes[file].update(header)
            self._files |= dict.fromkeys(names, opened)
        if len(shards) > 1:
            total = sum(math.prod(s) for s in shapes.values()) * dtype.itemsize
            index = {"metadata": {"total_size": total}, "weight_map": file_of}
            (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    def write(self, name: str, values: torch.Tensor) -> None:
        """The next values [count] of a tensor; tensors come in the order of `shapes`, each from its first value on."""
        data = memoryview(values.contiguous().view(torch.uint8).numpy().data)
        file = self._files[name]
        self._hash_of[name].update(data)
        while data:
            data = data[file.write(data) :]

    def close(self) -> dict[str, str]:
        """Close the files and return their SHA-256 by name; every tensor must have been written to its last value."""
        for file in set(self._files.values()):
            file.close()
        return {file: digest.hexdigest() for file, digest in self._hashes.items()}


def _header_bytes(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype) -> bytes:
    """A safetensors file's first bytes: the header's length, and the header, padded to a multiple of 8."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, shape in shapes.items():
        end = start + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": DTYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
