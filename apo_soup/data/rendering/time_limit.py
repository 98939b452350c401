"""A limit on the time and memory that foreign code in this process may take, such as a chat template with loops in
loops, or a text that doubles in each of them.

It rests on the alarm signal, so it holds in the main thread only, where the system has that signal, and where nobody
else uses it; elsewhere nothing is limited. The alarm stays set from one block to the next, because setting it costs as
much as a tenth of a short rendering: it looks at its time whether the block that runs has run too long. It rings every
quarter of a second, and looks at the memory too: by how much the process has grown since it first rang in the block.
"""

import atexit
import signal
import threading
import time
from types import FrameType, TracebackType

from apo_soup.memory import most_memory_held

# Seconds from one look to the next. A text that doubles grows by gigabytes a second.
LOOK_EVERY = 0.25
# Bytes that a block may add to the most that the process has held.
MOST_GROWTH = 2**30


class OutOfTime(Exception):
    """The code within a `TimeLimit` ran longer than it may."""


class OutOfRoom(OutOfTime):
    """The code within a `TimeLimit` took more memory than it may."""


class TimeLimit:
    """`with TimeLimit(seconds):` raises OutOfTime in the code within when its time is up, OutOfRoom when it grows too
    large. Limits do not nest.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.alarm: Alarm | None = None

    def __enter__(self) -> "TimeLimit":
        if threading.get_ident() == threading.main_thread().ident:
            self.alarm = self.alarm or alarm_of_process()
            if self.alarm:
                self.alarm.start(self.seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.alarm:
            self.alarm.deadline = None


class Alarm:
    """The alarm signal of this process; `deadline` is when the running block must be done, None where none runs."""

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.rings = 0.0
        self.held: int | None = None

    def start(self, seconds: float) -> None:
        """A block begins that may take `seconds`."""
        now = time.monotonic()
        self.deadline, self.held = now + seconds, None
        if not now < self.rings <= self.deadline:
            self._set(now)

    def _set(self, now: float) -> None:
        self.rings = min(self.deadline, now + LOOK_EVERY) if self.deadline else 0.0
        signal.setitimer(signal.ITIMER_REAL, max(self.rings - now, 1e-6) if self.deadline else 0)

    def ring(self, number: int, frame: FrameType | None) -> None:
        """The signal's handler."""
        now = time.monotonic()
        if self.deadline is None:
            self._set(now)
            return
        held = most_memory_held()
        if self.held is None:
            self.held = held
        too_large = held - self.held > MOST_GROWTH
        if now < self.deadline and not too_large:
            self._set(now)
            return
        self.deadline, self.rings = None, 0.0
        raise OutOfRoom if too_large else OutOfTime


def alarm_of_process() -> Alarm | None:
    """The alarm that handles this process's signal, set up where nothing does; None where something else does."""
    if not hasattr(signal, "setitimer"):
        return None
    handler = signal.getsignal(signal.SIGALRM)
    if handler == signal.SIG_DFL:
        alarm = Alarm()
        signal.signal(signal.SIGALRM, alarm.ring)
        # Python takes its handlers away as it ends, and a signal that comes behind that ends the process as a failure.
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)
        return alarm
    owner = getattr(handler, "__self__", None)
    return owner if isinstance(owner, Alarm) else None
