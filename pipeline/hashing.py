"""Content hashes of files, model folders and plain values."""

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

# What makes a model folder the model it is; cards, logs and training state do not.
MODEL_FILES = (
    "*.safetensors",
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "*.py",
)


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def not_finite(folder: Path) -> tuple[Path, str] | None:
    """The first weights file of a model folder that holds a value that is not finite, and its tensor.

    What a manifest says of an untouched file is believed; any other file is read.
    """
    known = _recorded(folder)
    for file in sorted(folder.glob("*.safetensors")):
        entry, stat = known.get(file.name, {}), file.stat()
        same = (entry.get("bytes"), entry.get("mtime_ns")) == (stat.st_size, stat.st_mtime_ns)
        if not (same and entry.get("finite")):
            bad = hash_weights(file)[1]
            if bad:
                return file, bad
    return None


def written(value: Any) -> str:
    """A path or a date of a configuration as text; raises TypeError for anything else that JSON does not know."""
    if isinstance(value, (Path, date)):
        return str(value)
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be written as JSON")


def hash_value(value: Any) -> str:
    """SHA-256 of a JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=written).encode()).hexdigest()


def model_files(folder: Path) -> list[Path]:
    return sorted({file for pattern in MODEL_FILES for file in folder.glob(pattern)})


def hash_model(folder: Path) -> str:
    """Hash of a model folder's weights, configuration, tokenizer and template.

    A folder written by a stage carries its file hashes in `manifest.json`; they are used while size and
    modification time agree, so that asking whether a stage is stale does not read gigabytes.
    """
    known = _recorded(folder)
    hashes = {}
    for file in model_files(folder):
        entry, stat = known.get(file.name), file.stat()
        same = entry and (entry["bytes"], entry.get("mtime_ns")) == (stat.st_size, stat.st_mtime_ns)
        hashes[file.name] = entry["sha256"] if same else hash_file(file)
    return hash_value(hashes)


def recorded(file: Path) -> dict[str, Any]:
    """What a manifest says of an output file, so that its hash need not be computed again while it is untouched."""
    stat = file.stat()
    kept: dict[str, Any] = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    if file.suffix != ".safetensors":
        return {"sha256": hash_file(file), **kept}
    digest, bad = hash_weights(file)
    return {"sha256": digest, **kept, "finite": bad is None}


def _recorded(folder: Path) -> dict[str, dict]:
    manifest = folder / "manifest.json"
    return json.loads(manifest.read_text()).get("outputs", {}) if manifest.is_file() else {}


def hash_tree(folder: Path, pattern: str = "*.py") -> str:
    """Hash of the files below a folder that match; for code whose edits must make a cache stale."""
    return hash_value({str(f.relative_to(folder)): hash_file(f) for f in sorted(folder.rglob(pattern))})
