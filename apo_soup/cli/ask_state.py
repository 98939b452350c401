"""What a step's program answers when it is asked for the state of its folders."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from apo_soup.cli.steps import Step, executable, program_words
from apo_soup.runs.entry import STALE
from apo_soup.runs.state import FolderState, states_said


@dataclass(frozen=True)
class StateAnswer:
    """The states of a step's folders, among other lines that its program says.

    Attributes:
        code: the program's exit code: 0 where all is up to date, STALE where something is not.
        said: the lines in their order.
        errors: what it wrote to stderr.
    """

    code: int
    said: list[FolderState | str]
    errors: str = ""

    @property
    def refused(self) -> bool:
        """Whether the program could not say it."""
        return self.code not in (0, STALE)

    @property
    def states(self) -> list[FolderState]:
        """The states alone."""
        return [line for line in self.said if isinstance(line, FolderState)]

    @property
    def due(self) -> list[FolderState]:
        """Those of folders that are not up to date."""
        return [state for state in self.states if state.reason is not None]


def ask_state(step: Step, recipe: Path, words: list[str]) -> StateAnswer:
    """Run a step's program with `--state-json`."""
    command = executable(["python", *program_words(step, recipe, [*words, "--state-json"])])
    asked = subprocess.run(command, capture_output=True, text=True)
    return StateAnswer(asked.returncode, states_said(asked.stdout), asked.stderr)


def in_sentences(said: list[FolderState | str]) -> str:
    """Lines for people."""
    return "".join(f"{line if isinstance(line, str) else line.sentence()}\n" for line in said)
