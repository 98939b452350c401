"""Work of a library that may crash, in a process of its own: its death becomes one sentence of this program's."""

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from apo_soup.errors import UserError


class ProcessDied(Exception):
    """The process ended without an answer; the message is what ended it."""


class OwnProcess:
    """An object that is made, and whose methods are called, in a process of its own.

    Raises:
        UserError: what makes it says so.
        ProcessDied: it did not live until the object was made.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._answer()

    def call(self, name: str, *arguments: Any) -> Any:
        """What a method of the object returns.

        Raises:
            ProcessDied: it did not live so long.
            UserError: the method says so.
        """
        try:
            self._pipe.send((name, arguments))
        except BrokenPipeError as error:
            raise ProcessDied(self._end()) from error
        return self._answer()

    def close(self) -> None:
        """Let the process end, and wait for it."""
        self._pipe.close()
        self._process.join()

    def _answer(self) -> Any:
        try:
            value, refusal = self._pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            raise ProcessDied(self._end()) from error
        if refusal:
            self.close()
            raise UserError(refusal)
        return value

    def _end(self) -> str:
        self.close()
        code = self._process.exitcode or 0
        return signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"


def _serve(pipe: Connection, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Answer calls until nobody makes any. A key that stops the program is for the one that asks, which closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        made = make(*arguments)
        pipe.send((None, None))
        while True:
            name, given = pipe.recv()
            pipe.send((getattr(made, name)(*given), None))
    except UserError as error:
        pipe.send((None, str(error)))
    except (EOFError, BrokenPipeError):
        return
