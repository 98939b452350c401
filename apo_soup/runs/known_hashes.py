"""Content hashes of large files, remembered by path, size, times and inode, so that each content is read once.

Rows, weights and tokenizers that no stage made have no manifest that knows their hash, and copies of finished folders
have other times than theirs says: `why`, a start and every process of it would read them whole. What is remembered lies
in the user's cache, a small file each; one that is damaged, or of another state of the file, is as none.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apo_soup.hashing import hash_file, hash_value
from apo_soup.stored_json import Form, OtherFormError, json_of_form

# Bytes below which reading a file takes no longer than remembering it.
WORTH_REMEMBERING = 16 * 2**20
# File systems' clocks tick this slowly (FAT): a file may change once more at the time that it bears.
GRAIN_NS = 2 * 10**9


def content_hash(file: Path) -> str:
    """SHA-256 of a file's bytes, from the memory where the file is as it was when it was read.

    The time of its last change (`ctime`) counts too, which no program can set back as it can the time of its content.
    """
    state = _state(file)
    if state[0] < WORTH_REMEMBERING:
        return hash_file(file)
    path = os.path.realpath(file)
    entry = memory_folder() / f"{hash_value(path)[:32]}.json"
    known = _remembered(entry)
    if known is not None and known["state"] == state and known["path"] == path:
        return str(known["sha256"])
    settled = time.time_ns() - max(state[1:3]) > GRAIN_NS
    digest = hash_file(file)
    if settled and _state(file) == state:
        _remember(entry, {"path": path, "state": state, "sha256": digest})
    return digest


def forgotten_files() -> Iterator[Path]:
    """What is remembered of files that are no longer there, or cannot be read."""
    for entry in sorted(memory_folder().glob("*.json")):
        known = _remembered(entry)
        if known is None or not Path(known["path"]).is_file():
            yield entry


class Remembered(Form):
    """An entry: its own hash, so that one that is not as it was written is none."""

    check: str


def memory_folder() -> Path:
    """Where hashes are remembered: `apo-soup/hashes` in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(cache) / "apo-soup" / "hashes"


def _state(file: Path) -> list[int]:
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _remembered(entry: Path) -> dict[str, Any] | None:
    """What an entry holds; None where there is none, or it is not as it was written."""
    try:
        known = json_of_form(entry, Remembered)
    except (OSError, OtherFormError):
        return None
    check = known.pop("check")
    return known if check == hash_value(known) else None


def _remember(entry: Path, known: dict[str, Any]) -> None:
    """Write an entry aside and rename it; where the cache cannot be written, the file is read again next time."""
    aside = entry.with_name(f".{entry.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(json.dumps({**known, "check": hash_value(known)}), encoding="utf-8")
            aside.replace(entry)
        finally:
            aside.unlink(missing_ok=True)
