"""Content hashes of files, model folders and plain values."""

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Any

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
)


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    return {"sha256": hash_file(file), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _recorded(folder: Path) -> dict[str, dict]:
    manifest = folder / "manifest.json"
    return json.loads(manifest.read_text()).get("outputs", {}) if manifest.is_file() else {}


def hash_tree(folder: Path, pattern: str = "*.py") -> str:
    """Hash of the files below a folder that match; for code whose edits must make a cache stale."""
    return hash_value({str(f.relative_to(folder)): hash_file(f) for f in sorted(folder.rglob(pattern))})
