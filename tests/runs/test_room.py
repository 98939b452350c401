"""Room on a disk: enough, tight, or surely too little, told before a stage begins."""

import shutil

import pytest

from apo_soup.errors import UserError
from apo_soup.runs.room import ANY_FILES, Room, require_room

GB = 10**9


def judged(least, most, folder):
    return require_room(Room(least, most, "2 checkpoints", "lower save_total_limit"), folder, "sft.yaml:3: output_dir")


def test_room_is_enough_or_tight_or_too_little(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(9 * GB, 4 * GB, 5 * GB))
    folder = tmp_path / "run" / "sft"
    assert judged(4 * GB, 4.5 * GB, folder) is None
    cure = "free some (`apo-soup clean` lists what can go), or lower save_total_limit"
    tight = f"warning: {tmp_path}: 5.0 GB are free for 2 checkpoints, up to 4.6 GB at once; {cure}"
    assert judged(4 * GB, 4.6 * GB, folder) == tight
    assert "up to 60.0 GB at once" in judged(5 * GB, 60 * GB, folder)
    with pytest.raises(UserError) as refused:
        judged(5.1 * GB, 60 * GB, folder)
    told = f"sft.yaml:3: output_dir: {tmp_path}: expected 5.1 GB free for 2 checkpoints, got 5.0 GB; {cure}"
    assert str(refused.value) == told


def test_any_stage_is_told_of_a_disk_that_is_nearly_full(tmp_path, monkeypatch):
    def any_files(free):
        monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(9 * GB, 9 * GB - free, free))
        return require_room(ANY_FILES, tmp_path, "eval.yaml:3: output_dir")

    cure = "free some (`apo-soup clean` lists what can go), or name an output_dir on another disk"
    assert any_files(10**8) is None
    assert any_files(10**8 - 10**5) == f"warning: {tmp_path}: 99.9 MB are free for what it writes; {cure}"
    with pytest.raises(UserError) as refused:
        any_files(4096)
    told = f"eval.yaml:3: output_dir: {tmp_path}: expected 8.2 kB free for what it writes, got 4.1 kB; {cure}"
    assert str(refused.value) == told
