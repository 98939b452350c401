"""Hashes of large files that are remembered: never of another content than the file has."""

import json
import os

import pytest

from apo_soup.hashing import hash_file, hash_value
from apo_soup.runs import known_hashes
from apo_soup.runs.known_hashes import WORTH_REMEMBERING, content_hash, forgotten_files, memory_folder


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """A file that is just worth remembering, in a memory of its own where files settle at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(known_hashes, "GRAIN_NS", 0)
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"a" * WORTH_REMEMBERING)
    return file


def entries():
    return sorted(memory_folder().glob("*"))


def tell(entry, **changes):
    """Put another entry into the memory, whole."""
    known = {**json.loads(entry.read_text()), **changes}
    del known["check"]
    entry.write_text(json.dumps({**known, "check": hash_value(known)}))


def test_a_file_is_read_once_while_it_stays_as_it_is(rows):
    assert content_hash(rows) == hash_file(rows)
    (entry,) = entries()
    tell(entry, sha256="from the memory")
    assert content_hash(rows) == "from the memory"
    link = rows.with_name("link.jsonl")
    link.symlink_to(rows)
    assert content_hash(link) == "from the memory"


def same_size_and_time(file):
    before = file.stat()
    file.write_bytes(b"b" * WORTH_REMEMBERING)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def another_in_its_place(file):
    same = file.with_name("same")
    same.write_bytes(file.read_bytes())
    os.utime(same, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    same.replace(file)


@pytest.mark.parametrize(
    "change",
    [
        same_size_and_time,
        another_in_its_place,
        lambda file: file.write_bytes(b"a" * (WORTH_REMEMBERING + 1)),
        lambda file: os.utime(file, ns=(0, 0)),
    ],
)
def test_a_file_that_was_touched_is_read_again(rows, change):
    content_hash(rows)
    tell(entries()[0], sha256="from the memory")
    change(rows)
    assert content_hash(rows) == hash_file(rows)


@pytest.mark.parametrize("damage", [b"", b"[1]", b"{", b'"text"', b"\xff", None])
def test_a_damaged_memory_is_as_none_and_made_anew(rows, damage):
    content_hash(rows)
    (entry,) = entries()
    whole = entry.read_bytes()
    entry.write_bytes(whole.replace(b'"sha256": "', b'"sha256": "0') if damage is None else damage)
    assert content_hash(rows) == hash_file(rows)
    assert entry.read_bytes() == whole


def test_a_file_that_may_change_within_the_clocks_grain_is_not_remembered(rows, monkeypatch):
    monkeypatch.setattr(known_hashes, "GRAIN_NS", 3600 * 10**9)
    assert content_hash(rows) == hash_file(rows)
    assert entries() == []


def test_small_files_and_caches_that_cannot_be_written_are_left_alone(rows, tmp_path, monkeypatch):
    small = tmp_path / "small.jsonl"
    small.write_text("{}")
    assert content_hash(small) == hash_file(small)
    assert entries() == []
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert content_hash(rows) == hash_file(rows)


def test_what_is_remembered_of_files_that_are_gone_is_found(rows):
    content_hash(rows)
    assert list(forgotten_files()) == []
    rows.unlink()
    assert list(forgotten_files()) == entries()
