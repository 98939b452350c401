"""Mistakes a user can mend, told in one sentence."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """Bad input. The message says where, what was found and what to do; programs exit with code 2."""


def run_main(main: Callable[[], int | None]) -> None:
    """Run a program's `main`: user errors become one line on stderr, an interrupt a clean exit."""
    try:
        code = main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except BrokenPipeError:
        # The reader of our output, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        code = 130
    sys.exit(code or 0)


def first_line(error: Exception) -> str:
    """The first line of a library's complaint, or the kind of error where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def told_by_library(
    where: str | Path, kinds: tuple[type[Exception], ...] = (ValueError, ImportError)
) -> Iterator[None]:
    """Turn what a library refuses in its own words into a UserError that says where it was asked for."""
    try:
        yield
    except kinds as error:
        raise UserError(f"{where}: {' '.join(str(error).split())}") from error


def read_json(path: Path, where: str | Path) -> dict:
    """The mapping that a JSON file holds; raises UserError naming the file where it holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{where}: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{where}: {path} is not valid JSON: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{where}: {path} holds {type(content).__name__} where a mapping is expected")
    return content


def need_file(path: str | Path, what: str, where: str) -> Path:
    """`path` as a Path if it is a file; otherwise a UserError that says who asked for it."""
    found = Path(path)
    if not found.is_file():
        raise UserError(f"{where}: {what} {path} is not a file; check the path (it is relative to {Path.cwd()})")
    return found
