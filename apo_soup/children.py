"""Programs that another one starts and waits for: signals go on to them, and their exit codes come back."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from apo_soup.stops import StopAsked, ending_signals


def run_program(
    words: Sequence[str], name: str, output: TextIO | None = None, environment: Mapping[str, str] | None = None
) -> int:
    """Run a program to its end; returns its exit code. A signal that comes meanwhile goes on to it, and it is waited
    for: it may have a step to end.

    Args:
        output: where its standard output goes; by default this program's own.
        environment: its variables; by default this program's.

    Raises:
        StopAsked: a signal came, and the program had done its work all the same.
    """
    with forward_signals() as forwarded:
        code = exit_code_of(subprocess.Popen(words, stdout=output, env=environment).wait(), name)
    if forwarded and not code:  # it had done its work
        raise StopAsked(forwarded[0])
    return code


@contextmanager
def forward_signals() -> Iterator[list[int]]:
    """Inside, a signal that would end this process goes to those that it has started; those that went on are listed.

    Raises:
        StopAsked: a signal came while there were none: before the first, or behind the last.
    """

    def forward(number: int, frame: FrameType | None) -> None:
        children = child_processes()
        if not children:
            raise StopAsked(number)
        forwarded.append(number)
        for child in children:
            try:
                os.kill(child, number)
            except ProcessLookupError:
                continue

    forwarded: list[int] = []
    before: dict[int, Any] = {}
    for number in ending_signals():
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, forward)
    try:
        yield forwarded
    finally:
        for changed, handler in before.items():
            signal.signal(changed, handler)


def child_processes() -> list[int]:
    """The processes that this one has started and that have not ended."""
    proc = Path("/proc")
    if (proc / "self" / "stat").exists():
        found = []
        for entry in proc.glob("[0-9]*/stat"):
            try:
                parent = int(entry.read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):  # it has just ended
                continue
            if parent == os.getpid():
                found.append(int(entry.parent.name))
        return found
    listing = subprocess.Popen(["ps", "-axo", "pid=,ppid="], stdout=subprocess.PIPE, text=True)
    pairs = [tuple(map(int, line.split())) for line in listing.communicate()[0].splitlines()]
    return [child for child, parent in pairs if parent == os.getpid() and child != listing.pid]


def exit_code_of(returned: int, name: str) -> int:
    """The exit code of a program as a shell has it: of one that a signal ended 128 and its number, with a line that
    says so, since it could say nothing itself.
    """
    if returned >= 0:
        return returned
    told = signal.Signals(-returned).name if -returned in set(signal.Signals) else f"signal {-returned}"
    memory = "; the system does that where memory runs out" if told == "SIGKILL" else ""
    print(f"{name} was ended by {told}{memory}; run the same command again to go on", file=sys.stderr)
    return 128 - returned
