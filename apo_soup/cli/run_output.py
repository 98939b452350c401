"""What `apo-soup run` prints: all that its stages say, a line a stage, or JSON for programs."""

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from apo_soup.children import run_program
from apo_soup.errors import UserError
from apo_soup.progress import QUIET, is_warning
from apo_soup.runs.manifest import read_manifest
from apo_soup.runs.state import FolderState
from apo_soup.stops import StopAsked, ending_signals

Output = Literal["all", "quiet", "json"]
# How a stage ended: nothing was to be done; it was made; it was made with arguments of the command line before, and is
# kept; nothing reads it; a signal ended it; or it failed.
Ending = Literal["current", "made", "kept", "skipped", "stopped", "failed"]


@dataclass(frozen=True)
class RunOutput:
    """Where the words of a run and of its stages go.

    Attributes:
        kind: `all` to standard output; `quiet`: warnings and a line a finished stage alone; `json`: an object a stage
            on standard output, all else on standard error.
    """

    kind: Output = "all"

    def say(self, text: str, warning: bool = False) -> None:
        """Print lines of the run itself, and of a quiet one those that warn; with `warning` all of them do."""
        if self.kind == "quiet" and not warning:
            text = "".join(f"{line}\n" for line in text.splitlines() if is_warning(line))
        if text:
            print(text, end="" if text.endswith("\n") else "\n", file=self._people, flush=True)

    def run(self, words: Sequence[str], name: str) -> int:
        """Run a stage's program to its end; returns its exit code.

        Raises:
            StopAsked: a signal came, and the program had done its work all the same.
        """
        with self._environment():
            return run_program(words, name, sys.stderr if self.kind == "json" else None)

    def ended(
        self, stage: str, states: Sequence[FolderState], told: Ending | None = None, code: int = 0, seconds: float = 0.0
    ) -> None:
        """Tell programs how a stage ended, with the figures of each folder. Without `told` the exit code and the
        `states` before it decide.
        """
        if self.kind != "json":
            return
        due = any(state.reason is not None for state in states)
        folders = {state.stage: {"folder": state.folder, "metrics": _metrics(state.folder)} for state in states}
        stopped = code - 128 in ending_signals()
        told = told or ("stopped" if stopped else "failed" if code else "made" if due else "current")
        line = {"stage": stage, "state": told, "exit_code": code, "seconds": round(seconds, 1), "folders": folders}
        print(json.dumps(_without_nan(line), default=str, allow_nan=False), flush=True)

    @contextmanager
    def failure_told(self, stage: str) -> Iterator[None]:
        """Tell programs of a stage's end where a signal or a mistake leaves this run inside."""
        try:
            yield
        except (StopAsked, KeyboardInterrupt, UserError) as error:
            code = error.code if isinstance(error, StopAsked) else 2 if isinstance(error, UserError) else 130
            self.ended(stage, [], code=code)
            raise

    @property
    def _people(self) -> TextIO:
        return sys.stderr if self.kind == "json" else sys.stdout

    @contextmanager
    def _environment(self) -> Iterator[None]:
        """Let the programs that are started inside know that they are to be quiet."""
        if self.kind == "quiet":
            os.environ[QUIET] = "1"
        try:
            yield
        finally:
            os.environ.pop(QUIET, None)


def _metrics(folder: str) -> dict[str, Any] | None:
    """The figures in a folder's manifest; None where it has none that can be read, which the stage itself refuses."""
    try:
        return (read_manifest(Path(folder)) or {}).get("metrics")
    except UserError:
        return None


def _without_nan(value: Any) -> Any:
    """A value with None for numbers that are not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {str(key): _without_nan(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
