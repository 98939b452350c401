"""Finished answers on disk, append-only, so that a killed run asks nothing twice.

A line holds what one call of an engine finished: one prompt of an endpoint, one batch of a local model. It is written
at once when that call ends. A line that was torn by a kill has no end; it is cut off when the file is opened again,
and its prompts count as not asked.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from apo_soup.errors import UserError
from apo_soup.models.completion import Completion


@dataclass(frozen=True)
class Answer:
    """One side's completions of one prompt, or the reason an engine has none; `asked_tokens` is the prompt's length
    where the engine tells it, `server` what an endpoint says of itself.
    """

    prompt: str
    completions: list[Completion]
    asked_tokens: int | None = None
    problem: str | None = None
    server: str | None = None


class Journal:
    """The answers of one side, by prompt id; `path` is read when it is there."""

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.answers: dict[str, Answer] = {}
        whole = 0
        with path.open("ab+") as file:
            file.seek(0)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._take(line)
                whole += len(line)
            file.truncate(whole)
        self._file = path.open("ab", buffering=0)
        self._file.seek(0, 2)

    def _take(self, line: bytes) -> None:
        try:
            found = [
                Answer(**{**a, "completions": [Completion(**c) for c in a["completions"]]}) for a in json.loads(line)
            ]
            if not all(isinstance(c.text, str) and isinstance(c.tokens, int) for a in found for c in a.completions):
                raise TypeError("a text or a count of tokens is none")
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{self.path} holds a line that is not a record of answers ({error}); it was changed by somebody "
                "else. Remove the file to ask again"
            ) from error
        self.answers |= {a.prompt: a for a in found}

    def add(self, answers: list[Answer]) -> None:
        """Write a line of finished answers; it outlives this process from here on.

        What an engine refused is not written: the next run asks it again, of a server that may have been mended.
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
            raise UserError(f"{self.path} cannot be written to: {error.strerror}; what was answered is kept") from error

    @property
    def done(self) -> frozenset[str]:
        """Prompts that are answered."""
        return frozenset(p for p, answer in self.answers.items() if answer.problem is None)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
