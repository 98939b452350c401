"""Processes of this machine, told apart over restarts: a number is given again, a start is not."""

import time
from functools import cache
from pathlib import Path

_PROC = Path("/proc")


@cache
def this_boot() -> str | None:
    """An id that lasts from one start of this machine to the next; None where the system tells of none, as elsewhere
    than on Linux.
    """
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


@cache
def this_numbering() -> str | None:
    """An id of what process numbers mean here: a container may number its own. None as `this_boot`."""
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return None


def booted_at() -> float:
    """When this machine was started, in seconds since 1970."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def started_at(process: int) -> int | None:
    """When a process was started, in ticks since the machine was; None where the system does not tell.

    Raises:
        ProcessLookupError: there is none, or it has ended and its parent has not asked how.
    """
    if this_boot() is None:
        return None
    try:
        # The name, in brackets, may hold anything.
        state, *fields = (_PROC / str(process) / "stat").read_bytes().rpartition(b")")[2].split()
    except FileNotFoundError as error:
        raise ProcessLookupError(process) from error
    except (OSError, ValueError):
        return None
    if state in (b"Z", b"X"):
        raise ProcessLookupError(process)
    return int(fields[18])
