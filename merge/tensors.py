"""Safetensors folders without a map: headers first, then the bytes that are asked for.

A mapped file counts as memory of the process until the system takes its pages back, so averaging five models through
maps needs room for all of them. Reading into a buffer needs room for the buffer. The format is a length of eight bytes,
a JSON header of that length, and the tensors' bytes behind it (github.com/huggingface/safetensors).
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from apo_soup.errors import UserError, read_json

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
SHARD_BYTES = 5 * 10**9
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies: its file, the place of its first byte, its type and shape."""

    file: Path
    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    def read(self, begin: int, count: int) -> torch.Tensor:
        """`count` elements from element `begin` on, as a flat tensor."""
        size = self.dtype.itemsize
        buffer = bytearray(count * size)
        with self.file.open("rb", buffering=0) as file:
            file.seek(self.start + begin * size)
            view = memoryview(buffer)
            while view:
                got = file.readinto(view)
                if not got:
                    raise UserError(f"{self.file} became shorter while it was read")
                view = view[got:]
        return torch.frombuffer(buffer, dtype=self.dtype)


def stored_tensors(folder: Path, where: str) -> dict[str, Stored]:
    """Every tensor of a model folder, from the files' headers.

    Raises:
        UserError: a file that the index names is missing, a file is cut off, or its header cannot be read.
    """
    files, index = sorted(folder.glob("*.safetensors")), folder / INDEX
    places: dict[str, str] = {}
    if not index.is_file() and (folder / "model.safetensors").is_file():
        files = [folder / "model.safetensors"]
    elif not index.is_file() and any("-of-" in file.name for file in files):
        raise UserError(f"{where}: {folder} is not whole: its weights are in parts and {INDEX} is missing")
    if index.is_file():
        places = read_json(index, where).get("weight_map")
        if not isinstance(places, dict):
            raise UserError(f"{where}: {index} has no weight_map")
        named = sorted(set(places.values()))
        missing = [name for name in named if not (folder / name).is_file()]
        if missing:
            raise UserError(f"{where}: {folder} is not whole: {missing[0]}, which its index names, is missing")
        files = [folder / name for name in named]
    found: dict[str, Stored] = {}
    for file in files:
        found |= _header(file, where)
    absent = next((name for name in places if name not in found), None)
    if absent:
        raise UserError(f"{where}: {folder} is not whole: tensor {absent} is not in {places[absent]}")
    return found


def _header(file: Path, where: str) -> dict[str, Stored]:
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or length > size - 8:
            raise UserError(f"{where}: {file} is cut off or no safetensors file: it has {size:,} bytes")
        try:
            header = json.loads(opened.read(length))
            header.pop("__metadata__", None)
            entries = {n: (e["dtype"], tuple(e["shape"]), *e["data_offsets"]) for n, e in header.items()}
        except (ValueError, AttributeError, TypeError, KeyError) as error:
            raise UserError(f"{where}: {file} has no readable safetensors header") from error
    found, end = {}, 8 + length
    for name, (kind, shape, begin, stop) in entries.items():
        if kind not in DTYPES:
            raise UserError(f"{where}: tensor {name} of {file} has type {kind}, which cannot be averaged")
        end = max(end, 8 + length + stop)
        found[name] = stored = Stored(file, 8 + length + begin, DTYPES[kind], shape)
        if stop - begin != stored.count * stored.dtype.itemsize:
            raise UserError(
                f"{where}: tensor {name} of {file} has {stop - begin:,} bytes, which its shape does not fit"
            )
    if end > size:
        raise UserError(f"{where}: {file} is cut off: it has {size:,} bytes of {end:,}")
    return found


class Writer:
    """Writes tensors one behind the other into the shards of a model folder; nothing but the current piece is held."""

    def __init__(self, folder: Path, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.dtype = folder, dtype
        shards: list[list[str]] = [[]]
        held = 0
        for name, shape in shapes.items():
            size = math.prod(shape) * dtype.itemsize
            if held and held + size > SHARD_BYTES:
                shards.append([])
                held = 0
            shards[-1].append(name)
            held += size
        names = ["model.safetensors"]
        if len(shards) > 1:
            names = [f"model-{n + 1:05}-of-{len(shards):05}.safetensors" for n in range(len(shards))]
        self._files = {}
        for file, tensors in zip(names, shards, strict=True):
            opened = (folder / file).open("wb", buffering=0)
            opened.write(_header_bytes({name: shapes[name] for name in tensors}, dtype))
            self._files |= dict.fromkeys(tensors, opened)
        if len(shards) > 1:
            total = sum(math.prod(s) for s in shapes.values()) * dtype.itemsize
            where = {name: file for file, tensors in zip(names, shards, strict=True) for name in tensors}
            index = {"metadata": {"total_size": total}, "weight_map": where}
            (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")

    def write(self, name: str, values: torch.Tensor) -> None:
        """The next values of a tensor; tensors come in the order of `shapes`, each from its first value to its last."""
        data = memoryview(values.contiguous().view(torch.uint8).numpy())
        while data:
            data = data[self._files[name].write(data) :]

    def close(self) -> None:
        for file in set(self._files.values()):
            file.close()


def _header_bytes(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, shape in shapes.items():
        end = start + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def ulp_error(values: torch.Tensor, exact: torch.Tensor, slack: torch.Tensor | float = 0.0) -> float:
    """The largest distance of `values` from the float64 values `exact`, in units in the last place of their type.

    The unit is that of the exact value's binade, so correct rounding is never further than 0.5 away. `slack` is what
    `exact` itself may be off by.
    """
    info = torch.finfo(values.dtype)
    smallest = info.smallest_normal
    exponent = torch.floor(torch.log2(exact.abs().clamp(min=smallest)))
    unit = torch.exp2(exponent) * info.eps
    distance = ((values.double() - exact).abs() - slack).clamp(min=0)
    return (distance / unit).max().item() if len(values) else 0.0


def weighted(
    tensors: Sequence[torch.Tensor], weights: Sequence[float], normalize: bool, dtype: torch.dtype
) -> torch.Tensor:
    """The weighted sum of flat tensors, divided by the sum of the weights if `normalize`, in `dtype`.

    The operations, their order and their precision are those of mergekit's linear method, so the bits are too: sums are
    float32, or float64 when `dtype` is.
    """
    inner = torch.float64 if dtype == torch.float64 else torch.float32
    coefficients = torch.tensor(list(weights), dtype=torch.float64).to(inner)
    total = torch.zeros(len(tensors[0]), dtype=inner)
    for tensor, coefficient in zip(tensors, coefficients, strict=True):
        total.addcmul_(tensor.to(dtype), coefficient)
    if normalize:
        total.div_(coefficients.sum())
    return total.to(dtype)
