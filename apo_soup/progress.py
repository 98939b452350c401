"""A line of progress for long work: how much, how fast, how long still; and who speaks where several processes run."""

import os
import sys
import time
from dataclasses import dataclass, field

# Seconds between lines: in a log, and on a terminal, where one line is rewritten.
_LOG_SECONDS, _TERMINAL_SECONDS = 5.0, 0.2
# The variable by which a run tells its stages to be quiet.
QUIET = "APO_SOUP_QUIET"
# How a warning begins.
_WARNING = "warning: "
# Characters of a bar.
_BAR = 20


def is_main() -> bool:
    """Whether this process is the one that speaks and writes; true without a launcher."""
    return os.environ.get("RANK", "0") == "0"


def is_quiet() -> bool:
    """Whether `apo-soup run --quiet` started this process: warnings are told, and what is finished."""
    return bool(os.environ.get(QUIET))


def say(text: str) -> None:
    """Print from the main process only, and of a quiet one warnings alone."""
    if not is_quiet() or is_warning(text):
        tell(text)


def warn(text: str) -> None:
    """Warn from the main process, a quiet one too."""
    say(warning(text))


def warning(text: str) -> str:
    """A text as a warning, for what speaks through a function that it was given: `say` keeps none of them back.

    >>> warning("40 of 200 questions have no answer")
    'warning: 40 of 200 questions have no answer'
    """
    return f"{_WARNING}{text}"


def is_warning(text: str) -> bool:
    """Whether a text begins as `warning` has them begin."""
    return text.startswith(_WARNING)


def tell(text: str) -> None:
    """Print from the main process, a quiet one too."""
    if is_main():
        print(text, flush=True)


def clock(seconds: float) -> str:
    """Seconds as `m:ss` or `h:mm:ss`.

    >>> clock(75), clock(3661)
    ('1:15', '1:01:01')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def rate_text(per_second: float, unit: str = "") -> str:
    """How fast work goes, in a measure in which it is not nothing; `-` where nothing was done.

    >>> rate_text(1234.5), rate_text(3.21), rate_text(0.25, "steps"), rate_text(0.002, "steps"), rate_text(0)
    ('1,234/s', '3.2/s', '15 steps/min', '7.2 steps/h', '-')
    """
    if per_second <= 0:
        return "-"
    measures = (("s", 1), ("min", 60), ("h", 3600), ("day", 86_400))
    name, seconds = next((one for one in measures if per_second * one[1] >= 1), measures[-1])
    rate = per_second * seconds
    number = "<0.1" if rate < 0.1 else f"{rate:,.{1 if rate < 10 else 0}f}"
    return f"{number}{f' {unit}' if unit else ''}/{name}"


def bar(done: int, total: int) -> str:
    """How far work has come, as a line for a terminal.

    >>> bar(1, 4), bar(0, 0)
    ('[#####               ] ', '')
    """
    filled = round(_BAR * min(done, total) / total) if total else 0
    return f"[{'#' * filled:{_BAR}}] " if total else ""


@dataclass
class Progress:
    """Progress of one job in `unit`s; on a terminal one line is rewritten, in a log a line is added now and then.

    `total` is None where nobody knows it; no time left is shown then. `quiet` says nothing at all.
    """

    name: str
    unit: str
    total: int | None = None
    quiet: bool = False
    started: float = field(default_factory=time.monotonic)
    _printed: float = field(default_factory=time.monotonic)
    _open: bool = False
    # Asked once: the system's answer takes longer than all else here.
    _terminal: bool = field(default_factory=lambda: sys.stdout.isatty())

    @property
    def seconds(self) -> float:
        """Seconds since the beginning, never zero."""
        return max(1e-9, time.monotonic() - self.started)

    def at(self, done: int, beside: str = "") -> None:
        """Print that `done` units are done, at most every few seconds; `beside` stands behind the rate."""
        now = time.monotonic()
        terminal = self._terminal
        if self.quiet or is_quiet() or now - self._printed < (_TERMINAL_SECONDS if terminal else _LOG_SECONDS):
            return
        self._printed = now
        rate = done / self.seconds
        of = f"/{self.total:,}" if self.total else ""
        left = f"  {clock((self.total - done) / rate)} left" if self.total and rate and done <= self.total else ""
        shown = bar(done, self.total or 0) if terminal else ""
        line = f"{self.name}: {shown}{done:,}{of} {self.unit}  {rate_text(rate)}{f'  {beside}' if beside else ''}{left}"
        print(f"\r\x1b[K{line}" if terminal else line, end="" if terminal else "\n", flush=True)
        self._open = terminal

    def end(self) -> None:
        """Leave the line, so that what is printed next begins a new one."""
        if self._open:
            print("\r\x1b[K", end="", flush=True)
            self._open = False
