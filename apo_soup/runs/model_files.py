"""The files that make a model folder the model it is, their hashes, and what a manifest remembers of them."""

import json
from pathlib import Path
from typing import Any

from apo_soup.hashing import hash_file, hash_value
from apo_soup.weights import hash_weights

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
