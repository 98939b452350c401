"""Mistakes a person can mend, in one sentence; and faults of our own, shown as what they are."""

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from apo_soup.launcher import end_with_launcher
from apo_soup.peers import lost_peer, told_of_lost_peer
from apo_soup.stops import STOPS, StopAsked, show_stacks_on_request
from apo_soup.streams import mend_streams, nobody_reads, words_may_be_lost

# What libraries raise where the disk refuses them: torch, safetensors, pyarrow, tokenizers.
_DISK_KINDS = ("RuntimeError", "SafetensorError", "OSError", "ArrowInvalid", "Exception")
OWN_PACKAGES = ("apo_soup", "sft", "apo", "merge")
DEBUG_FLAG = "--debug"
DEBUG_VARIABLE = "APO_SOUP_DEBUG"
# Names a file for the sentence that a program ends with, which the program that started it reads.
REASON_VARIABLE = "APO_SOUP_REASON"
# transformers has a key `debug`; with one of its values behind it, the flag is that key.
_DEBUG_KEY_VALUES = ("underflow_overflow", "tpu_metrics_debug")
# Where a file could not be written to its end, and torch does not say why.
_TORCH_SAYS = ("PytorchStreamWriter failed", "inline_container")
# What is refused of nothing but a file that is written.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
# What is a key of a known sort wherever it stands: the Hub's, OpenAI's and its like, GitHub's, GitLab's, Slack's,
# Amazon's, Google's, those of services that run models (by the letters that each begins with), and signed tokens.
KNOWN_KEY = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|api_org_[A-Za-z0-9]{16,}|sk-[\w-]{16,}|gh[opsur]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
    r"|glpat-[\w-]{16,}|xox[abp]-[\w-]{10,}|AKIA[0-9A-Z]{16}|ABSK[\w+/=]{20,}|AIza[\w-]{30,}|gsk_[A-Za-z0-9]{20,}"
    r"|(?:xai|nvapi|pplx|csk)-[\w-]{20,}|(?:r8|fw)_[A-Za-z0-9]{20,}|(?:tgp|dop)_v1_[\w-]{16,}|dapi[0-9a-f]{32}"
    r"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+)"
)
# Name and password in an address; a path that is made of one has a single slash.
_ADDRESS_USER = re.compile(r"(\w:/{1,2})[^\s/@]+@")
HIDDEN = "(hidden)"
# Rights and broken blocks, which libraries tell of in words alone.
_REFUSED = (*NO_ROOM, errno.EACCES, errno.EPERM, errno.EIO)
# What the machine may refuse while a file is written; any other OSError is a fault of ours. The further ones are of a
# server that is gone, of a place where a disk is mounted, and of names that lead nowhere; no system has them all.
DISK_ERRORS = (
    *_REFUSED,
    *(
        getattr(errno, name)
        for name in ("ESTALE", "ENOTCONN", "EREMOTEIO", "ENOLCK", "EBUSY", "EXDEV", "ELOOP", "ENAMETOOLONG")
        if hasattr(errno, name)
    ),
)


class UserError(Exception):
    """Bad input. The message says where, what was expected, what was there and what to do; programs exit with 2."""


def without_keys(text: str) -> str:
    """A text that is shown, without keys of known sorts and without names and passwords of addresses.

    >>> without_keys("got https://me:secret@host/x and hf_abcdefghijklmnopq")
    'got https://(hidden)@host/x and (hidden)'
    """
    return KNOWN_KEY.sub(HIDDEN, _ADDRESS_USER.sub(rf"\1{HIDDEN}@", text))


def told_together(problems: list[str]) -> UserError:
    """Several mistakes as one error, a line each, below one another where `run_main` prints them."""
    return UserError("\n       ".join(problems))


def run_main(main: Callable[[], int | None]) -> None:
    """Run a program's `main` and exit: with its code, or 0.

    A UserError becomes one line on stderr and code 2, with `--debug` or `APO_SOUP_DEBUG=1` its cause before it. A
    signal that asks the program to end becomes one line and 128 with the signal's number. So does a collective that
    breaks because another process of the launch has ended. Any other exception is a fault of ours or of the machine's:
    its traceback is shown, where to report it, and code 1.
    """
    mend_streams()
    debug = _take_debug_flag(sys.argv)
    try:
        STOPS.listen()
        with STOPS.until_done():
            show_stacks_on_request()
            end_with_launcher()
            _require_docstrings()
            code = main()
    except UserError as error:
        if debug:
            _tell("".join(traceback.format_exception(error)).rstrip())
        _tell(f"error: {error}")
        _leave_reason(str(error))
        code = 2
    except StopAsked as stopped:
        if stopped.sentence:
            _tell(stopped.sentence)
        code = stopped.code
    except KeyboardInterrupt:
        _tell("stopped; run the same command again to go on")
        code = 130
    except Exception as error:
        if isinstance(error, BrokenPipeError) and not words_may_be_lost() and nobody_reads(1):
            # The reader of our output, such as `head`, has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(STOPS.exit_code(0))
        gone = lost_peer(error)
        if debug or not gone:
            _tell("".join(traceback.format_exception(error)).rstrip())
        if gone:
            told, code = told_of_lost_peer(gone, STOPS)
            _tell(told)
            sys.exit(STOPS.exit_code(code))
        _tell(
            f"unexpected {type(error).__name__}: where the lines above do not say what to do, "
            f"please report them at {_issue_page()}"
        )
        _leave_reason(f"{type(error).__name__}: {first_line(error)}")
        code = 1
    sys.exit(STOPS.exit_code(code or 0))


def _require_docstrings() -> None:
    """Say what transformers, which reads docstrings as it is imported, would say in a hundred lines.

    Raises:
        UserError: Python was started without them.
    """
    if sys.flags.optimize > 1:
        raise UserError(
            "PYTHONOPTIMIZE: expected at most 1, got 2 (or python -OO), which leaves out the docstrings that "
            "transformers reads; unset it"
        )


def _tell(text: str) -> None:
    """Write to stderr what ends the program, without keys; where a full disk takes not even that, the code says it."""
    try:
        print(without_keys(text), file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # for what Python would write again at its end


def _leave_reason(told: str) -> None:
    """Write why the program ends where the one that started it has asked for that; a full disk leaves it the code."""
    place = os.environ.get(REASON_VARIABLE)
    if place:
        with suppress(OSError):
            Path(place).write_text(without_keys(told), encoding="utf-8")


def _take_debug_flag(words: list[str]) -> bool:
    """Whether causes are to be shown. Takes `--debug` out of the words, and sets the variable for child processes."""
    for place, word in enumerate(words):
        if word == DEBUG_FLAG and not set(words[place + 1 : place + 2]) & set(_DEBUG_KEY_VALUES):
            del words[place]
            os.environ[DEBUG_VARIABLE] = "1"
            break
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def _issue_page() -> str:
    """Where faults are reported: the issue page that the package's metadata names."""
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        urls = metadata("apo-soup").get_all("Project-URL") or []
    except PackageNotFoundError:
        urls = []
    pages = [url.partition(", ")[2] for url in urls if "issue" in url.partition(", ")[0].lower()]
    return pages[0] if pages else "the project's issue tracker"


def first_line(error: Exception) -> str:
    """The first line of a library's complaint, or the kind of error where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def told_by_library(
    where: str | Path,
    kinds: tuple[type[Exception], ...] = (ValueError, ImportError),
    *,
    expected: str,
    way: str,
    libraries: tuple[str, ...] = (),
) -> Iterator[None]:
    """Turn what a library refuses in its own words into a UserError that says where it was asked for, what was expected
    and the way out.

    Only the library's own call stands inside: an exception of our code is a fault, and is to be shown as one. Where a
    library calls our code back, `libraries` are those whose refusals count.

    Raises:
        UserError: the library refused.
    """
    try:
        yield
    except kinds as error:
        if libraries and raised_by_us(error, *libraries):
            raise
        words = " ".join(str(error).split()).rstrip(".;") or type(error).__name__
        raise UserError(f"{where}: expected {expected}, got a refusal: {words}; {way}") from error


def raised_by_us(error: BaseException, *libraries: str) -> bool:
    """Whether an error comes from our code that a library called back: of our frames and those of the libraries, ours
    is the innermost.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    packages = [str(frame.f_globals.get("__name__")).partition(".")[0] for frame in frames]
    return next((p for p in reversed(packages) if p in (*OWN_PACKAGES, *libraries)), None) in OWN_PACKAGES


@contextmanager
def told_by_disk(where: str | Path, folder: Path) -> Iterator[None]:
    """Turn what the disk refuses while `folder` is written into a UserError; any other error passes.

    Only a write of ours stands inside. So whatever is refused there, even without a file's name or in words of a
    library that tell no cause, is of that write; around a whole program it need not be: see `told_while_at_work`.
    """
    try:
        yield
    except Exception as error:
        told = disk_refusal(error)
        if told is None:
            raise
        raise _disk_error(where, getattr(error, "filename", None) or folder, told) from error


@contextmanager
def told_while_at_work(where: str | Path, ours: Path) -> Iterator[None]:
    """Turn what the disk refuses while a program is at work, libraries and all, into a UserError; another error passes.

    More than writes of ours stands inside, so less is told than by `told_by_disk`: what names no file may be about a
    process or a terminal. A disk that is full or read-only refuses nothing but what is written, wherever that is.
    Rights and broken blocks are those of a file: told as the disk's fault in the folder `ours`, and of any other as a
    file that cannot be read.

    Raises:
        UserError: the disk refused.
    """
    try:
        yield
    except Exception as error:
        number, name = refusal_number(error), getattr(error, "filename", None)
        place = Path(os.fsdecode(name)) if isinstance(name, (str, bytes)) else None
        if number is None or (number not in NO_ROOM and place is None):
            raise
        if number in NO_ROOM or (place and place.absolute().is_relative_to(ours.absolute())):
            raise _disk_error(where, place or ours, os.strerror(number)) from error
        raise UserError(
            f"{where}: {place}: expected a file that can be read, got {os.strerror(number)}; mend its permissions, or "
            "name another one"
        ) from error


def _disk_error(where: str | Path, place: str | Path, told: str) -> UserError:
    own = f".{os.getpid()}"
    if Path(place).name.startswith(".") and Path(place).name.endswith(own):
        # What is written whole lies aside under a name that nobody asked for.
        place = Path(place).with_name(Path(place).name[1:].removesuffix(own))
    return UserError(
        f"{where}: {place}: expected to read and write there, got {told}; free or mend the disk, or its permissions, "
        "and run the command again"
    )


def disk_refusal(error: Exception) -> str | None:
    """What the disk refused, in the system's words, where an error says that it did; libraries tell it in their own.

    >>> disk_refusal(RuntimeError("I/O error: No space left on device (os error 28)"))
    'No space left on device'
    >>> disk_refusal(Exception("No space left on device (os error 28)"))
    'No space left on device'
    >>> disk_refusal(ValueError("no such key")) is None
    True
    """
    number = refusal_number(error)
    if number is not None:
        return os.strerror(number)
    if type(error).__name__ in _DISK_KINDS and any(words in str(error) for words in _TORCH_SAYS):
        return "a file that could not be written to its end"
    return None


def refusal_number(error: Exception) -> int | None:
    """The system's number of what the disk refused, of those of `DISK_ERRORS`; None where it was not that."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in DISK_ERRORS else None
    text = str(error) if type(error).__name__ in _DISK_KINDS else ""
    told = (n for n in _REFUSED if f"os error {n})" in text or os.strerror(n) in text)
    return next(told, None)


def need_file(path: str | Path, what: str, where: str) -> Path:
    """`path` as a Path.

    Raises:
        UserError: it is not a file; the message says who asked for it.
    """
    found = Path(path)
    if found.is_dir():
        raise UserError(f"{where}: expected a {what} file, got the folder {path}; name a file in it")
    if not found.is_file():
        raise UserError(
            f"{where}: expected a {what} file, got {path}, which is not there; check the path "
            f"(looked for {found.absolute()})"
        )
    return found
