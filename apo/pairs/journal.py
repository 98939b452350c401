"""Finished answers on disk, append-only, so that a killed run asks nothing twice.

A line holds what one call of an engine finished: one prompt of an endpoint, one batch of a local model. It is written
at once when that call ends. A line that was torn by a kill has no end; it is cut off when the file is opened again,
and its prompts count as not asked.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from apo_soup.errors import UserError
from apo_soup.models.completion import Completion
from apo_soup.stored_json import Count, Form, form_fault


@dataclass(frozen=True)
class Answer:
    """One side's completions of one prompt, or the reason (`problem`) an engine has none.

    `prompt` is the prompt's id; `asked_tokens` the prompt's length in tokens where the engine tells it; `server` what
    an endpoint says of itself. The fields are those of a journal's lines.
    """

    prompt: str
    completions: list[Completion]
    asked_tokens: int | None = None
    problem: str | None = None
    server: str | None = None


class WrittenCall(Form):
    """A tool call in a completion."""

    name: str
    arguments: dict[str, Any]


class WrittenCompletion(Form):
    """A completion in a line of a journal."""

    text: str
    tokens: Count | None
    finished: bool
    problem: str | None = None
    calls: list[WrittenCall] | None = None


class WrittenAnswer(Form):
    """An answer in a line of a journal."""

    prompt: str
    completions: list[WrittenCompletion]
    asked_tokens: Count | None = None
    problem: str | None = None
    server: str | None = None


class JournalLine(Form):
    """A line of a journal."""

    answers: list[WrittenAnswer]


class Journal:
    """The answers of one side, by prompt id; `path` is read when it is there.

    Raises:
        UserError: the file holds a whole line that no journal wrote.
    """

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.answers: dict[str, Answer] = {}
        whole = 0
        with path.open("ab+") as file:
            file.seek(0)
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                self.answers |= {answer.prompt: answer for answer in self._read(line, number)}
                whole += len(line)
            file.truncate(whole)
        self._file = path.open("ab", buffering=0)
        self._file.seek(0, 2)

    def _read(self, line: bytes, number: int) -> list[Answer]:
        """The answers of one whole line."""
        try:
            written = {"answers": json.loads(line)}
            fault = form_fault(written, JournalLine)
            if fault:
                raise ValueError(fault)
            answers = [
                Answer(**{**a, "completions": [_completion(c) for c in a["completions"]]}) for a in written["answers"]
            ]
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(
                f"{self.path}:{number}: expected a record of answers, got another line ({error}); the file was changed "
                "by somebody else, remove it to ask again"
            ) from error
        return answers

    def add(self, answers: list[Answer]) -> None:
        """Write a line of finished answers; it outlives this process from here on.

        What an engine refused is not written: the next run asks it again, of a server that may have been mended.

        Raises:
            UserError: the file cannot be written to, such as on a full disk; no half line stays behind.
        """
        self.answers |= {a.prompt: a for a in answers}
        finished = [asdict(a) for a in answers if a.problem is None]
        if not finished:
            return
        line = json.dumps(finished, ensure_ascii=False) + "\n"
        left = memoryview(line.encode("utf-8", "surrogatepass"))
        whole = self._file.tell()
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._file.truncate(whole)
            raise UserError(
                f"{self.path}: expected room for another answer, got {error.strerror}; what was answered until now is "
                "kept, run the same command again when there is room"
            ) from error

    @property
    def done(self) -> frozenset[str]:
        """Ids of the prompts that are answered."""
        return frozenset(p for p, answer in self.answers.items() if answer.problem is None)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()


def _completion(written: dict[str, Any]) -> Completion:
    """A completion of a line."""
    return Completion(**{**written, "calls": tuple(written.get("calls") or ())})
