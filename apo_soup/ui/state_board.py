"""What `apo-soup why` says of each step, asked in the background: each is a program, which takes a while to start."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from apo_soup.errors import UserError
from apo_soup.runs.state import StepState

# An answer that is older is asked for anew when somebody looks.
_FRESH_SECONDS = 60.0

AskStates = Callable[[], Iterator[StepState]]


class StateBoard:
    """The states of a recipe's steps; they are asked for once at a time, however many look."""

    def __init__(self, ask: AskStates):
        self._ask = ask
        self._lock = threading.Lock()
        self._states: list[StepState] = []
        self._asking = False
        self._asked_at: float | None = None
        self._problem = ""

    def look(self, again: bool = False) -> dict[str, Any]:
        """What is known by now: `states` with `step`, `lines` and `stale` each, whether that is all (`done`), how many
        `seconds` ago it was asked for, and a `problem` in words. It asks where nothing is known or that is old, and
        `again` in any case.
        """
        with self._lock:
            old = self._asked_at is None or time.monotonic() - self._asked_at > _FRESH_SECONDS
            if not self._asking and (again or old):
                self._asking, self._states, self._problem = True, [], ""
                self._asked_at = time.monotonic()
                threading.Thread(target=self._gather, daemon=True).start()
            states = [
                {"step": s.step, "lines": [*s.lines, *s.errors.splitlines()], "stale": s.stale} for s in self._states
            ]
            seconds = round(time.monotonic() - (self._asked_at or 0.0))
            return {"states": states, "done": not self._asking, "seconds": seconds, "problem": self._problem}

    def _gather(self) -> None:
        try:
            for state in self._ask():
                with self._lock:
                    self._states.append(state)
        except UserError as error:
            with self._lock:
                self._problem = str(error)
        finally:
            with self._lock:
                self._asking = False
