"""Content hashes of files, folders of code and plain values."""

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Any


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_text(value: Any) -> str:
    """A path or a date of a configuration as text, for `json.dumps(..., default=json_text)`.

    Raises:
        TypeError: the value is of another type that JSON does not know.
    """
    if isinstance(value, (Path, date)):
        return str(value)
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be written as JSON")


def hash_value(value: Any) -> str:
    """SHA-256 of a JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=json_text).encode()).hexdigest()


def hash_tree(folder: Path, pattern: str = "*.py") -> str:
    """Hash of the files below a folder that match; for code whose edits must make a cache stale."""
    return hash_value({str(f.relative_to(folder)): hash_file(f) for f in sorted(folder.rglob(pattern))})
