"""What an evaluation shows while it runs: which task of which checkpoint, and how far it has come."""

import time
from dataclasses import dataclass, field

from apo_soup.evals.metrics import TaskResult
from apo_soup.progress import Progress, clock, say

# Seconds from which a task's scores are told before those of its checkpoint.
_LONG = 10.0


@dataclass
class TaskProgress:
    """Progress of the tasks on one checkpoint; a checkpoint without a name says nothing."""

    name: str = ""
    task: str = ""
    _line: Progress | None = None
    _begun: float = field(default_factory=time.monotonic)

    def begin(self, task: str, number: int, tasks: int) -> None:
        """A task of several begins, the one of this number."""
        self.task, self._line, self._begun = f"{self.name}: {task} ({number} of {tasks})", None, time.monotonic()

    def count(self, total: int, unit: str) -> None:
        """What follows is counted in units."""
        self.close()
        self._line = Progress(self.task, unit, total, quiet=not self.name)

    def at(self, done: int) -> None:
        """So many units are done."""
        if self._line is not None:
            self._line.at(done)

    def close(self) -> None:
        """Leave the line of what was counted."""
        if self._line is not None:
            self._line.end()
        self._line = None

    def end(self, result: TaskResult) -> None:
        """A task is done; its scores are told where they took a while to come."""
        self.close()
        seconds = time.monotonic() - self._begun
        if self.name and seconds > _LONG:
            scores = ((name, metric.score.value) for name, metric in result.metrics.items() if metric.headline)
            told = "  ".join(f"{name} {value:.3f}" for name, value in scores if value is not None)
            say(f"{self.task}: {told or 'done'}  ({clock(seconds)})")
