"""Signals that ask a program to end: at once, or at the end of the step that is running.

SIGTERM and SIGUSR1 are what Slurm and spot machines send before they take a machine away, SIGHUP what a closed terminal
sends. A launcher passes on what it gets, so one stop may arrive several times: what comes within two seconds of the
first is the same.
"""

import atexit
import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from apo_soup.streams import write_words

ECHO_SECONDS = 2.0
# Windows has the first and the last of them alone.
_NAMES = ("SIGTERM", "SIGUSR1", "SIGHUP", "SIGINT")
# At which a program says where its threads are, and goes on; None where the system has none to spare.
STACKS_SIGNAL: signal.Signals | None = getattr(signal, "SIGUSR2", None)


def ending_signals() -> list[signal.Signals]:
    """The signals that ask a program to end, of those that this system knows; the last is an interrupt."""
    return [signal.Signals[name] for name in _NAMES if hasattr(signal, name)]


def show_stacks_on_request() -> None:
    """From now on the signal `STACKS_SIGNAL` has the stacks of all threads written to stderr."""
    if STACKS_SIGNAL is not None and signal.getsignal(STACKS_SIGNAL) == signal.SIG_DFL:
        faulthandler.register(STACKS_SIGNAL, file=2, all_threads=True)


class StopAsked(BaseException):
    """A signal asked the program to end; it exits with 128 and the signal's number.

    `told` says what is kept, in words that follow "stopped by SIGTERM"; None where nothing is to be said.
    """

    def __init__(self, number: int, told: str | None = ""):
        super().__init__(number)
        self.number, self.told = number, told

    @property
    def code(self) -> int:
        """The exit code."""
        return 128 + self.number

    @property
    def sentence(self) -> str | None:
        """What a person is told, or None."""
        if self.told is None:
            return None
        return f"stopped by {signal.Signals(self.number).name}{self.told}; run the same command again to go on"


class StopRequests:
    """What signals asked of this process. The system knows one handler a process, so there is one of these."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._asked_at = 0.0
        # What is done first, in words, by those inside whom a signal is kept; the innermost last.
        self._first: list[str] = []
        self._listens = False
        self._code: int | None = None

    def listen(self) -> None:
        """From now on a signal ends the program with `StopAsked`, and a second one without another word. Those that are
        ignored, as behind `nohup`, stay so; what is forked from here does as programs do that know nothing of this.
        """
        if self._listens:
            return
        self._listens = True
        for number in ending_signals()[:-1]:
            if signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, self._on_signal)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)
        atexit.register(self._at_exit)  # the first that is registered is the last that is called

    @contextmanager
    def deferred(self, first: str = "a checkpoint is written at the end of this step") -> Iterator[None]:
        """Inside, the first signal is kept in `number` for who can end the program well to ask for; an interrupt too.
        What is forked inside, such as workers that load rows, is told nothing: it ends with this process.

        Args:
            first: what is done before the program ends, in words.
        """
        before = self._keep_interrupts()
        self._first.append(first)
        try:
            yield
        finally:
            self._first.pop()
            if before is not None:
                signal.signal(signal.SIGINT, before)

    def _keep_interrupts(self) -> Any:
        """Let an interrupt be kept as other signals are; returns what was done of it, None where it stays so."""
        before = signal.getsignal(signal.SIGINT)
        if before == signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
            return None
        signal.signal(signal.SIGINT, self._on_signal)
        return before

    def end_if_asked(self, told: str) -> None:
        """End the program where a signal was kept for it, and nobody further out keeps signals.

        Args:
            told: what stands, in words that follow "stopped by SIGTERM".

        Raises:
            StopAsked: it was.
        """
        if self.number is not None and not self._first:
            raise StopAsked(self.number, told)

    @contextmanager
    def until_done(self) -> Iterator[None]:
        """Inside, the program does its work; behind it signals are kept, so that one which comes while the program
        tells how it ended, or while Python ends, is no traceback.
        """
        try:
            yield
        finally:
            self._first.append("the program is at its end")
            self._keep_interrupts()

    def exit_code(self, code: int) -> int:
        """The code to exit with, of a program whose own is `code`: that of a signal where one was kept or lost in a
        library, and all was done.
        """
        if not code and self.number is not None:
            with contextlib.suppress(OSError):
                print(f"{signal.Signals(self.number).name} came when all was done", file=sys.stderr, flush=True)
            code = 128 + self.number
        self._code = code
        return code

    def _at_exit(self) -> None:
        if self._code == 0 and self.number is not None:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(128 + self.number)
        if self._code is not None:
            self.ignore()  # what is left takes no time, and the system's own answer would be another code

    def ignore(self) -> None:
        """From now on signals change nothing: the program ends as it was asked to. A launcher whose other processes
        have ended would otherwise end this one with another code.
        """
        for number in ending_signals():
            signal.signal(number, signal.SIG_IGN)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.number is not None:
            if now - self._asked_at >= ECHO_SECONDS:
                # Not `print`: the signal may have come in the midst of one.
                write_words(2, "stopped at once; run the same command again to go on\n")
                os._exit(128 + number)
            return
        self.number, self._asked_at = number, now
        if not self._first:
            raise StopAsked(number)
        if os.environ.get("RANK", "0") == "0":
            write_words(2, f"{signal.Signals(number).name}: {self._first[-1]}; again: stop at once\n")

    def _forget(self) -> None:
        if self._first:
            # What loads rows for the steps: Slurm and a terminal tell all processes of a job, and a step without its
            # rows would come to no end. Held back, not ignored: torch's own handler of a worker would undo that.
            signal.pthread_sigmask(signal.SIG_BLOCK, ending_signals())
        for number in ending_signals():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


STOPS = StopRequests()
