"""One process at a time at work on a folder; another is told who that is."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from filelock import FileLock
from helpers import ENVIRONMENT

from apo_soup.errors import UserError
from apo_soup.runs import lock
from apo_soup.runs.lock import Holder, at_work, holder_file, lock_file, waited_for, worker_of

HOLD = "import time; from pathlib import Path; from apo_soup.runs.lock import at_work\nwith at_work(Path({!r})):\n {}"


def holding(folder, then="print('held', flush=True); time.sleep(60)"):
    """A process that holds a folder's lock."""
    words = [sys.executable, "-c", HOLD.format(str(folder), then)]
    process = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_one_is_told_who_is_at_work_and_since_when(tmp_path):
    folder = tmp_path / "run" / "sft"
    first = holding(folder)
    try:
        who = rf"process {first.pid} on {socket.gethostname()} since 20\d\d-.*\(python.* -c .*\)"
        with pytest.raises(UserError, match=rf"sft: expected to be the only one at work on it, got {who}; wait for it"):
            at_work(folder).__enter__()
        assert str(first.pid) in worker_of(folder)
    finally:
        first.kill()
        first.wait()
    with at_work(folder):  # a killed process holds nothing
        assert str(os.getpid()) in worker_of(folder)
    assert worker_of(folder) is None
    assert list(folder.parent.iterdir()) == []


def test_of_many_that_start_at_once_one_is_at_work(tmp_path):
    go = tmp_path / "go"
    code = HOLD.format(str(tmp_path / "sft"), f"print('held', flush=True)\n while not Path({str(go)!r}).exists(): pass")
    words = [sys.executable, "-c", code]
    started = [subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in "1234"]
    while sum(process.poll() is not None for process in started) < 3:
        time.sleep(0.05)
    go.touch()
    outputs = [process.communicate() for process in started]
    assert sorted(out for out, _ in outputs) == [b"", b"", b"", b"held\n"]
    assert sum(b"UserError" in err and b"only one at work on it, got process" in err for _, err in outputs) == 3


def test_a_lock_that_a_dead_process_left_behind_is_waited_for_and_then_told_of(tmp_path, monkeypatch):
    folder = tmp_path / "sft"
    killed = holding(folder)
    holder = holder_file(lock_file(folder)).read_text()
    killed.kill()
    killed.wait()
    # As a process that was started by it may hold it, or a server whose client is gone.
    keep = (
        "import fcntl, sys, time; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX); print('held', flush=True)"
    )
    words = [sys.executable, "-c", f"{keep}; time.sleep(float(sys.argv[2]))", str(lock_file(folder))]
    left = subprocess.Popen([*words, "1"], stdout=subprocess.PIPE)
    left.stdout.readline()
    holder_file(lock_file(folder)).write_text(holder)
    begun = time.monotonic()
    with at_work(folder):
        assert 0.2 < time.monotonic() - begun < 9
    monkeypatch.setattr(lock, "_ORPHAN_SECONDS", 0.2)
    lock_file(folder).touch()
    left = subprocess.Popen([*words, "60"], stdout=subprocess.PIPE)
    left.stdout.readline()
    holder_file(lock_file(folder)).write_text(holder)
    with pytest.raises(UserError, match=rf"got what process {killed.pid} .* left behind .*fuser .*\.sft\.lock"):
        at_work(folder).__enter__()
    left.kill()


def test_what_is_forked_by_a_killed_process_holds_nothing(tmp_path):
    child = "import os; os.fork() or time.sleep(5) or os._exit(0); print('held', flush=True); time.sleep(60)"
    killed = holding(tmp_path / "sft", child)
    killed.kill()
    killed.wait()
    begun = time.monotonic()
    with at_work(tmp_path / "sft"):
        assert time.monotonic() - begun < 1


def test_a_holder_on_another_machine_is_named_with_the_way_out(tmp_path):
    folder = tmp_path / "sft"
    with FileLock(lock_file(folder)):
        written = {"host": "node-7", "process": 1, "since": "2026-01-01 00:00:00+00:00", "command": "python -m sft"}
        holder_file(lock_file(folder)).write_text(json.dumps(written))
        told = r"process 1 on node-7 since 2026-01-01 .*; where that machine is gone and .*\.sft\.lock .* remove it"
        with pytest.raises(UserError, match=told):
            at_work(folder).__enter__()
        for damaged in ("", "[1]", '{"host": 3}', *(json.dumps(written | {"process": p}) for p in ("1", 0, -1, 2**70))):
            holder_file(lock_file(folder)).write_text(damaged)
            lock._ORPHAN_SECONDS, before = 0.1, lock._ORPHAN_SECONDS
            with pytest.raises(UserError, match=r"got a process that holds .*\.sft\.lock"):
                at_work(folder).__enter__()
            lock._ORPHAN_SECONDS = before


def write_holder(folder, **changes):
    """A lock that nobody holds, with a name beside it."""
    lock_file(folder).touch()
    holder_file(lock_file(folder)).write_text(json.dumps(asdict(Holder.here()) | changes))


def test_a_number_that_was_given_again_and_a_machine_that_was_started_again_are_of_no_holder(tmp_path):
    folder = tmp_path / "sft"
    write_holder(folder)
    assert f"process {os.getpid()} on " in worker_of(folder)
    write_holder(folder, started=1)
    assert worker_of(folder) is None, "the number of this process, which was started at another time"
    write_holder(folder, boot="another", process=1, since="2001-01-01 00:00:00+00:00")
    assert worker_of(folder) is None, "before this machine was started"
    ended = subprocess.Popen(["true"])
    while Path(f"/proc/{ended.pid}/stat").read_text().split()[2] != "Z":
        time.sleep(0.01)
    write_holder(folder, process=ended.pid, started=None)
    assert worker_of(folder) is None, "it has ended, and nobody has asked how"
    ended.wait()
    old = dict.fromkeys(("boot", "numbering", "started"))
    write_holder(folder, **old)
    assert f"process {os.getpid()} on " in worker_of(folder), "a file of an earlier release"


@pytest.mark.parametrize("of", [{"host": "node-7"}, {"numbering": "pid:[1]"}, {"boot": "another"}])
def test_who_cannot_be_seen_from_here_is_told_with_the_way_out(tmp_path, of):
    folder = tmp_path / "sft"
    write_holder(folder, process=2**22 + 1, **of)
    told = f"; where that machine is gone and {lock_file(folder)} does not get free by itself, remove it"
    assert worker_of(folder).endswith(told)
    lock_file(folder).unlink()
    assert worker_of(folder) is None


def test_what_another_makes_is_waited_for_with_a_word(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_SILENT_SECONDS", 0.2)
    first = holding(tmp_path / "rows", "print('held', flush=True); time.sleep(1)")
    said = []
    with waited_for(lock_file(tmp_path / "rows"), "prepared rows", said.append):
        assert first.wait(timeout=5) == 0
    assert len(said) == 1
    assert said[0].startswith(f"prepared rows: waiting for process {first.pid} on ")


def test_other_ranks_hold_nothing(tmp_path, monkeypatch):
    with at_work(tmp_path / "sft"):
        written = holder_file(lock_file(tmp_path / "sft")).read_text()
        monkeypatch.setenv("RANK", "1")
        with at_work(tmp_path / "sft"):
            assert holder_file(lock_file(tmp_path / "sft")).read_text() == written
        assert lock_file(tmp_path / "sft").is_file(), "the main process still holds it"


def test_a_lock_ends_with_a_signal_too(tmp_path):
    first = holding(tmp_path / "sft")
    first.send_signal(signal.SIGTERM)
    first.wait()
    assert worker_of(tmp_path / "sft") is None
    with at_work(tmp_path / "sft"):
        assert f"process {os.getpid()} on " in worker_of(tmp_path / "sft")


def test_a_holder_takes_its_own_name_away_and_not_the_next_ones(tmp_path):
    removed = "import sys\nsys.addaudithook(lambda event, args: event == 'os.remove' and print(args[0]))\n"
    words = [sys.executable, "-c", removed + HOLD.format(str(tmp_path / "sft"), "pass")]
    told = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True).stdout.split()
    assert told == [str(tmp_path / ".sft.holder"), str(tmp_path / ".sft.lock")], "the lock is free with its file"


def test_a_full_disk_that_takes_no_lock_lets_nobody_begin(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(FileLock, "acquire", full)
    told = r"\.sft\.lock: expected to take a lock there, got No space left on device; free or mend the disk"
    with pytest.raises(UserError, match=told):
        at_work(tmp_path / "sft").__enter__()


def test_a_folder_or_a_link_in_the_place_of_a_lock_is_told_of(tmp_path):
    lock_file(tmp_path / "sft").mkdir()
    lock_file(tmp_path / "mid").symlink_to("nowhere/at/all")
    for name, what in (("sft", "a folder"), ("mid", "a link")):
        with pytest.raises(UserError, match=rf"\.{name}\.lock: expected a file for a lock, got {what}; remove it"):
            at_work(tmp_path / name).__enter__()
