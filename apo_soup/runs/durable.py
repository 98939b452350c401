"""Files that outlive a power cut as far as the disk keeps its word, and a record by which damage to them is found."""

import contextlib
import glob
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from stat import S_IMODE
from typing import Any

import xxhash

from apo_soup.hashing import hash_file
from apo_soup.runs.known_hashes import content_hash

# Bytes from which on a file is recorded by xxh3: SHA-256 of a checkpoint of 3 B parameters would take a minute.
LARGE = 32 * 2**20
_PIECE = 4 * 2**20
_THREADS = 4
_READ = 0o444


def files_below(folder: Path) -> Iterator[Path]:
    """Every file of a folder, at any depth, by name."""
    return (file for file in sorted(folder.rglob("*")) if file.is_file())


def give_rights_of(like: Path, folder: Path) -> None:
    """Let every file below a folder be read by all who may read one that was written there as any file is: safetensors
    leaves its own to this account alone, whatever the umask says, and people who share a folder share its models.
    """
    rights = S_IMODE(like.stat().st_mode) & _READ
    for file in files_below(folder):
        own = S_IMODE(file.stat().st_mode)
        if rights & ~own and not file.is_symlink():
            with contextlib.suppress(OSError):  # of a file system that knows no rights
                file.chmod(own | rights)


def sync_tree(folder: Path) -> None:
    """Have the disk keep every file below a folder, and the folders that name them."""
    for file in (folder, *folder.rglob("*")):
        if file.is_file() or file.is_dir():
            sync_path(file)


def sync_path(path: Path) -> None:
    """Have the disk keep a file, or the names in a folder; where the system knows no such thing, nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folder
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if os.name != "nt":
            raise error
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a text so that the file is as it was, or has all of it: to a sibling, which the disk is made to keep, and
    which is then renamed.
    """
    sibling = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        sibling.write_text(text, encoding="utf-8")
        sync_path(sibling)
        sibling.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            sibling.unlink(missing_ok=True)
        raise


def remove_unwritten(*paths: Path) -> None:
    """Remove what killed processes left of `write_whole`; called where nobody else writes these files."""
    for path in paths:
        for sibling in path.parent.glob(f".{glob.escape(path.name)}.[0-9]*"):
            sibling.unlink(missing_ok=True)


def content_record(file: Path) -> dict[str, Any]:
    """Size and hash of a file: SHA-256, or xxh3 of a large one."""
    size = file.stat().st_size
    kind = "sha256" if size < LARGE else "xxh3"
    return {"bytes": size, kind: _HASHES[kind](file)}


def content_records(folder: Path) -> dict[str, dict[str, Any]]:
    """The records of every file below a folder, by its path there."""
    files = list(files_below(folder))
    with ThreadPoolExecutor(_THREADS) as threads:
        records = threads.map(content_record, files)
        return {file.relative_to(folder).as_posix(): record for file, record in zip(files, records, strict=True)}


def damage(folder: Path, records: dict[str, dict[str, Any]], by_content: bool = False) -> str | None:
    """What of a folder's files is not as recorded, in words; None where all are. Sizes are looked at first, then the
    content of files whose time is not that of their record, or not in it.

    Args:
        by_content: every file is read, whatever its time and what is remembered of it.
    """
    found = [fault for name, record in records.items() if (fault := _other_size(folder / name, name, record))]
    if not found:
        names = [name for name, record in records.items() if by_content or not untouched(folder / name, record)]
        with ThreadPoolExecutor(_THREADS) as threads:
            same = threads.map(lambda name: _same_content(folder / name, records[name], by_content), names)
            found = [f"{name} has changed" for name, as_recorded in zip(names, same, strict=True) if not as_recorded]
    return (found[0] + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")) if found else None


def _other_size(file: Path, name: str, record: dict[str, Any]) -> str | None:
    if not file.is_file():
        return f"{name} is missing"
    size = file.stat().st_size
    return f"{name} has {size:,} bytes, not {record['bytes']:,}" if size != record["bytes"] else None


def untouched(file: Path, record: dict[str, Any]) -> bool:
    """Whether a file has the size and the time of its record, so that its content need not be read."""
    stat = file.stat()
    return (record.get("bytes"), record.get("mtime_ns")) == (stat.st_size, stat.st_mtime_ns)


def _same_content(file: Path, record: dict[str, Any], by_content: bool) -> bool:
    hashes = _HASHES if by_content else {**_HASHES, "sha256": content_hash}
    return all(hashed(file) == record[kind] for kind, hashed in hashes.items() if kind in record)


def _xxh3(file: Path) -> str:
    digest = xxhash.xxh3_128()
    with file.open("rb", buffering=0) as opened:
        while piece := opened.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


_HASHES = {"sha256": hash_file, "xxh3": _xxh3}
