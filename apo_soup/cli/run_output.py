"""What `apo-soup run` prints: all that its stages say, a line a stage, or JSON for programs."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from apo_soup.cli.children import run_program
from apo_soup.progress import QUIET
from apo_soup.runs.manifest import read_manifest
from apo_soup.runs.state import FolderState

Output = Literal["all", "quiet", "json"]


@dataclass(frozen=True)
class RunOutput:
    """Where the words of a run and of its stages go.

    Attributes:
        kind: `all` to standard output; `quiet`: warnings and a line a finished stage alone; `json`: an object a stage
            on standard output, all else on standard error.
    """

    kind: Output = "all"

    def say(self, text: str, warning: bool = False) -> None:
        """Print a line of the run itself."""
        if text and (self.kind != "quiet" or warning):
            print(text, end="" if text.endswith("\n") else "\n", file=self._people, flush=True)

    def run(self, words: Sequence[str], name: str) -> int:
        """Run a stage's program to its end; returns its exit code.

        Raises:
            StopAsked: a signal came, and the program had done its work all the same.
        """
        with self._environment():
            return run_program(words, name, sys.stderr if self.kind == "json" else None)

    def ended(self, stage: str, states: Sequence[FolderState], code: int, seconds: float) -> None:
        """Tell programs how a stage ended: `current` where nothing was to be done, `made` or `failed`, with the figures
        of each folder.
        """
        if self.kind != "json":
            return
        due = any(state.reason is not None for state in states)
        folders = {}
        for state in states:
            manifest = read_manifest(Path(state.folder)) if Path(state.folder).is_dir() else None
            folders[state.stage] = {"folder": state.folder, "metrics": (manifest or {}).get("metrics")}
        told = "failed" if code else "made" if due else "current"
        line = {"stage": stage, "state": told, "exit_code": code, "seconds": round(seconds, 1), "folders": folders}
        print(json.dumps(line, default=str), flush=True)

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
