"""One process at a time at work on a folder: its lock, and who holds it.

The lock is the system's own (filelock), which a process loses however it ends. What lies beside it, `.NAME.holder`, is
for people alone.
"""

import contextlib
import errno
import json
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

from filelock import FileLock, Timeout
from pydantic import Field

from apo_soup.errors import DISK_ERRORS, UserError
from apo_soup.progress import is_main
from apo_soup.runs.processes import booted_at, started_at, this_boot, this_numbering
from apo_soup.runs.secrets import without_secrets
from apo_soup.stored_json import Form, OtherFormError, json_of_form

# A process that ended badly may leave children that hold its lock for a moment, until they see it.
_ORPHAN_SECONDS = 10.0
# Of the command line of a holder.
_COMMAND_CHARACTERS = 300
# Of a place where this account changes nothing, so that two that are at work there do no harm.
_NOT_TO_BE_WRITTEN = (errno.EROFS, errno.EACCES, errno.EPERM)
# What lies in a lock's place is a link to nothing, or a folder.
_NO_FILE = (errno.ELOOP, errno.EISDIR)
# Before a wait is told of: processes of one launch wait for each other.
_SILENT_SECONDS = 3.0


@dataclass(frozen=True)
class Holder:
    """Who is at work: machine, process, since when, and the command without what it says of secrets.

    `boot`, `numbering` and `started` tell the machine and the process from later ones of the same name and number; None
    where the system does not, and in files of earlier releases.
    """

    host: str
    process: int
    since: str
    command: str
    boot: str | None = None
    numbering: str | None = None
    started: int | None = None

    @classmethod
    def here(cls) -> "Holder":
        """This process."""
        words = without_secrets([Path(sys.executable).name, *sys.orig_argv[1:]])
        command = " ".join(" ".join(words).split())[:_COMMAND_CHARACTERS]
        now = datetime.now().astimezone().isoformat(" ", "seconds")
        process = os.getpid()
        return cls(socket.gethostname(), process, now, command, this_boot(), this_numbering(), started_at(process))

    @property
    def told(self) -> str:
        """The holder in a sentence."""
        return f"process {self.process} on {self.host} since {self.since} ({self.command})"

    @property
    def gone(self) -> bool:
        """Whether it is known to have ended: its machine was started again, or has no such process, or has given its
        number to another.
        """
        if self.host != socket.gethostname():
            return False
        if self.elsewhere:
            return self.boot != this_boot() and self._before(booted_at)
        try:
            now = started_at(self.process)
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return None not in (now, self.started) and now != self.started

    @property
    def elsewhere(self) -> bool:
        """Whether it is on another machine, or in a container that numbers its own processes, so that nobody here can
        see whether it lives; also of before this machine was started.
        """
        marks = ((self.boot, this_boot()), (self.numbering, this_numbering()))
        return self.host != socket.gethostname() or any(None not in (its, ours) and its != ours for its, ours in marks)

    def _before(self, moment: Callable[[], float]) -> bool:
        try:
            return datetime.fromisoformat(self.since).timestamp() < moment()
        except ValueError:
            return False


class WrittenHolder(Form):
    """A holder as its file has it."""

    host: str
    process: Annotated[int, Field(gt=0, lt=2**31)]
    since: str
    command: str
    boot: str | None = None
    numbering: str | None = None
    started: int | None = None


def lock_file(folder: Path) -> Path:
    """The lock of a folder, beside it."""
    return folder.parent / f".{folder.name}.lock"


def holder_file(lock: Path) -> Path:
    """Who holds a lock, in JSON."""
    return lock.with_suffix(".holder")


def holder_of(lock: Path) -> Holder | None:
    """Who wrote that it holds a lock; None where nobody did, or not yet."""
    try:
        written = json_of_form(holder_file(lock), WrittenHolder)
    except (OSError, OtherFormError):
        return None
    return Holder(**{name: written[name] for name in WrittenHolder.model_fields if name in written})


@contextlib.contextmanager
def at_work(*folders: Path) -> Iterator[None]:
    """Hold the locks of folders that this process is to write; the main process does, for all of its launch.

    Raises:
        UserError: another process holds one; it says who and since when.
    """
    with contextlib.ExitStack() as held:
        for folder in sorted(set(folders)) if is_main() else ():
            held.enter_context(_held(folder))
        yield


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    file = lock_file(folder)
    lock = _system_lock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _acquire_now(lock, folder)
    except OSError as error:
        if error.errno in _NO_FILE and os.path.lexists(file):
            raise UserError(
                f"{file}: expected a file for a lock, got {'a link' if file.is_symlink() else 'a folder'}; remove it"
            ) from error
        if error.errno not in DISK_ERRORS:
            raise
        if file.exists() and os.access(file.parent, os.W_OK):
            raise UserError(
                f"{file}: expected a lock that this account may take, got {error.strerror}; let whoever made it remove "
                "it, or give it the group's rights"
            ) from error
        if error.errno not in _NOT_TO_BE_WRITTEN:
            raise UserError(
                f"{file}: expected to take a lock there, got {error.strerror}; free or mend the disk, and run the "
                "command again"
            ) from error
        # Nobody can write there: what is whole may still be found so, and what is not is told of as it is begun.
        yield
        return
    # filelock takes no lock on a file that has lost its name, so who waits for this one takes a new one.
    with named_holder(lock, remove=True):
        yield


def _system_lock(file: Path) -> FileLock:
    # For the group too: people who share a folder share its lock.
    return FileLock(file, mode=0o664)


def _acquire_now(lock: FileLock, folder: Path) -> None:
    """Raise UserError where another holds it; wait a moment for what a process left that ended badly."""
    file = Path(lock.lock_file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a file system without locks, where a file stands for one
        last, pause = time.monotonic() + _ORPHAN_SECONDS, 0.0
        while True:
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=pause)
                return
            holder, pause = holder_of(file), 0.1  # who has just taken it writes its name next
            if (holder is not None and not holder.gone) or time.monotonic() > last:
                break
    raise UserError(_refusal(folder, file, holder))


def _refusal(folder: Path, file: Path, holder: Holder | None) -> str:
    expected = f"{folder}: expected to be the only one at work on it, got"
    if holder is None:
        return f"{expected} a process that holds {file}; wait for it to end (`fuser {file}` names it)"
    if holder.gone:
        return (
            f"{expected} what {holder.told} left behind when it ended: a process of it still holds {file}; end that "
            f"one (`fuser {file}` names it)"
        )
    return f"{expected} {holder.told}; wait for it to end, or end it{way_out(holder, file)}"


def way_out(holder: Holder | None, file: Path) -> str:
    """How a lock is cleared whose holder cannot be seen from here, to stand behind what is said of that."""
    if holder is None or not holder.elsewhere:
        return ""
    return f"; where that machine is gone and {file} does not get free by itself, remove it"


@contextlib.contextmanager
def named_holder(lock: FileLock, remove: bool = False) -> Iterator[None]:
    """Write down that this process holds a lock, while it does; then release it, and `remove` its file."""
    name = holder_file(Path(lock.lock_file))
    try:
        with contextlib.suppress(OSError):  # on a full disk too: the lock is what counts
            name.write_text(json.dumps(asdict(Holder.here())), encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            name.unlink(missing_ok=True)
        if remove:  # behind the name, which would otherwise be that of the next holder
            with contextlib.suppress(OSError):
                Path(lock.lock_file).unlink()
        lock.release()


@contextlib.contextmanager
def waited_for(file: Path, what: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock `file`; where another has it, say after a moment for whom this waits, and for what."""
    lock = _system_lock(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            lock.acquire(timeout=_SILENT_SECONDS)
        except Timeout:
            holder = holder_of(file)
            who = holder.told if holder else "the process"
            say(f"{what}: waiting for {who} that makes them{way_out(holder, file)}")
            lock.acquire()
    with named_holder(lock):
        yield


def worker_of(folder: Path) -> str | None:
    """Who is at work on a folder, in words; None where nobody is. It looks and takes nothing."""
    file = lock_file(folder)
    if not file.is_file():
        return None
    holder = holder_of(file)
    if holder is None or holder.gone:
        return None
    return holder.told + way_out(holder, file)
