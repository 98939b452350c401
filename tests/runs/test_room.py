"""Room on a disk: enough, tight, or surely too little, told before a stage begins."""

import shutil

import pytest

from apo_soup.errors import UserError
from apo_soup.runs.room import Room, require_room

GB = 10**9


def judged(least, most, folder):
    return require_room(Room(least, most, "2 checkpoints", "lower save_total_limit"), folder, "sft.yaml:3: output_dir")


def test_room_is_enough_or_tight_or_too_little(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(9 * GB, 4 * GB, 5 * GB))
    folder = tmp_path / "run" / "sft"
    assert judged(4 * GB, 4.5 * GB, folder) is None
    cure = "free some (`apo-soup clean` lists what can go), or lower save_total_limit"
    tight = f"note: {tmp_path}: 5.0 GB are free for 2 checkpoints, up to 4.6 GB at once; {cure}"
    assert judged(4 * GB, 4.6 * GB, folder) == tight
    assert "up to 60.0 GB at once" in judged(5 * GB, 60 * GB, folder)
    with pytest.raises(UserError) as refused:
        judged(5.1 * GB, 60 * GB, folder)
    told = f"sft.yaml:3: output_dir: {tmp_path}: expected 5.1 GB free for 2 checkpoints, got 5.0 GB; {cure}"
    assert str(refused.value) == told
