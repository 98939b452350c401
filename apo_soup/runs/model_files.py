"""The files that make a model folder the model it is, their hashes, and what a manifest remembers of them."""

from pathlib import Path
from typing import Any

from apo_soup.hashing import hash_file, hash_value
from apo_soup.runs.durable import damage, files_below, untouched
from apo_soup.runs.known_hashes import content_hash
from apo_soup.runs.manifest import MANIFEST, model_manifest
from apo_soup.weights import hash_weights, weight_files

# Every file that a tokenizer of transformers is read from, its chat templates among them.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
)
# What makes a model folder, beside its weights, the model it is; cards, logs and training state do not.
MODEL_FILES = ("config.json", "generation_config.json", "adapter_config.json", *TOKENIZER_FILES, "*.py")

# Files of a finished folder that are written again: the card, with what was evaluated since.
REWRITTEN = (MANIFEST, "README.md")
# What systems put into folders by themselves.
NOBODYS = {".DS_Store", "Thumbs.db", "desktop.ini", ".directory"}


def model_files(folder: Path) -> list[Path]:
    """The files of a model folder that decide what the model is, by name."""
    weights = [file for file in weight_files(folder) if file.is_file()]
    return sorted({*weights, *(file for pattern in MODEL_FILES for file in folder.glob(pattern))})


def file_name(file: Path, folder: Path) -> str:
    """A model file's name in hashes and manifests: its path below the folder."""
    return file.relative_to(folder).as_posix()


def hash_model(folder: Path) -> str:
    """Hash of a model folder's weights, configuration, tokenizer and template.

    A folder written by a stage carries its file hashes in `manifest.json`; they are used while size and
    modification time agree, so that asking whether a stage is stale does not read gigabytes.

    Raises:
        UserError: the model's manifest is no JSON, or one of ours of another form.
    """
    records = _file_records(folder)
    hashes = {}
    for file in model_files(folder):
        name = file_name(file, folder)
        record = records.get(name, {})
        hashes[name] = record["sha256"] if untouched(file, record) else content_hash(file)
    return hash_value(hashes)


def file_record(file: Path, finite_sha256: str | None = None) -> dict[str, Any]:
    """What a manifest says of an output file, so that its hash need not be computed again while it is untouched.

    Its content hash `sha256`, size `bytes`, modification time `mtime_ns`, and of weights whether all are `finite`.

    Args:
        finite_sha256: the hash of weights that are known to be finite, which are not read then.
    """
    stat = file.stat()
    size: dict[str, Any] = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    if file.suffix != ".safetensors":
        return {"sha256": hash_file(file), **size}
    if finite_sha256 is not None:
        return {"sha256": finite_sha256, **size, "finite": True}
    digest, bad = hash_weights(file)
    return {"sha256": digest, **size, "finite": bad is None}


def changed_file(folder: Path, manifest: dict[str, Any], by_content: bool = False) -> str | None:
    """What of a finished folder is not as its manifest says, in words, or None. Sizes and times are looked at; content
    where the time alone differs, as in a folder that was copied, and of every file with `by_content`.
    """
    records = {**manifest.get("outputs", {}), **manifest.get("files", {})}
    # An adapter's card too, of which manifests of older releases have a record.
    kept = {name: record for name, record in records.items() if Path(name).name not in REWRITTEN}
    # What transformers would read beside the weights, or in their place.
    added = [name for file in model_files(folder) if (name := file_name(file, folder)) not in records]
    fault = damage(folder, kept, by_content)
    return fault or (f"{added[0]} was put into it" if added and manifest.get("outputs") else None)


def strange_files(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """The files of a finished folder that are not in its manifest, by their path there: somebody else's. None are known
    of a manifest of older releases, which has the model's own files alone.
    """
    if not isinstance(manifest.get("files"), dict):
        return []
    known = {*(manifest.get("outputs") or {}), *manifest["files"], *REWRITTEN}
    known |= {(Path(name).parent / card).as_posix() for name in known for card in REWRITTEN}
    found = (file for file in files_below(folder) if file.name not in NOBODYS)
    return [name for file in found if (name := file_name(file, folder)) not in known]


def _file_records(folder: Path) -> dict[str, dict[str, Any]]:
    return (model_manifest(folder) or {}).get("outputs") or {}


def first_non_finite(folder: Path) -> tuple[Path, str] | None:
    """The first weights file of a model folder that holds a value that is not finite, and its tensor.

    What a manifest says of an untouched file is believed; any other file is read.

    Raises:
        UserError: the model's manifest is no JSON, or one of ours of another form.
    """
    records = _file_records(folder)
    for file in weight_files(folder):
        record = records.get(file.name, {})
        if not (untouched(file, record) and record.get("finite")):
            bad = hash_weights(file)[1]
            if bad:
                return file, bad
    return None
