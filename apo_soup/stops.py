"""Signals that ask a program to end: at once, or at the end of the step that is running.

SIGTERM and SIGUSR1 are what Slurm and spot machines send before they take a machine away, SIGHUP what a closed terminal
sends. A launcher passes on what it gets, so one stop may arrive several times: what comes within two seconds of the
first is the same.
"""

import faulthandler
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

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
        self._deferred = False
        self._listens = False

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

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, the first signal is kept in `number` for who runs steps to ask for; an interrupt too. What is forked
        inside, such as workers that load rows, is told nothing: it ends with this process.
        """
        before = signal.getsignal(signal.SIGINT)
        if before != signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._on_signal)
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
            signal.signal(signal.SIGINT, before)

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
                os.write(2, b"stopped at once; run the same command again to go on\n")
                os._exit(128 + number)
            return
        self.number, self._asked_at = number, now
        if not self._deferred:
            raise StopAsked(number)
        if os.environ.get("RANK", "0") == "0":
            name = signal.Signals(number).name
            os.write(2, f"{name}: a checkpoint is written at the end of this step; again: stop at once\n".encode())

    def _forget(self) -> None:
        if self._deferred:
            # What loads rows for the steps: Slurm and a terminal tell all processes of a job, and a step without its
            # rows would come to no end. Held back, not ignored: torch's own handler of a worker would undo that.
            signal.pthread_sigmask(signal.SIG_BLOCK, ending_signals())
        for number in ending_signals():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


STOPS = StopRequests()
