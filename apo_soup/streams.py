"""Standard streams that a program was started without, or that take nothing more while it is at work."""

import contextlib
import io
import os
import select
import sys

_NAMES = ("stdin", "stdout", "stderr")


def mend_streams() -> None:
    """Have something stand in the place of standard streams that are closed, as behind `>&-` and some schedulers: the
    next file that is opened would have their number, and what libraries write there would end in it. Letters that a
    terminal's or a log's encoding does not have are written as their numbers: a row shown there may hold any.
    """
    for number in range(len(_NAMES)):
        try:
            os.fstat(number)
        except OSError:  # the lowest number that is free is this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for number, name in enumerate(_NAMES):
        stream = getattr(sys, name)
        if stream is None:
            mode = "r" if number == 0 else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # as long as the program
        elif number and isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


class _Lossy(io.FileIO):
    """A stream whose words are lost where it takes none; that is told once, on the other one."""

    told = False

    def write(self, data: object, /) -> int:
        """Write what is taken; all of it counts as written."""
        try:
            return super().write(data)  # type: ignore[arg-type]  # a buffer, as the one above has it
        except OSError as error:
            if not self.told:
                self.told = True
                what, other = ("standard output", 2) if self.fileno() == 1 else ("standard error", 1)
                write_words(other, f"{what} takes nothing more ({error.strerror}); the work goes on\n")
            return len(data)  # type: ignore[arg-type]


def nobody_reads(number: int) -> bool:
    """Whether the other end of a descriptor is closed; where the system does not tell, it may be."""
    if not hasattr(select, "poll"):
        return True
    look = select.poll()
    look.register(number, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in look.poll(0))


def let_words_be_lost() -> None:
    """From now on the program goes on where nobody reads what it says any more, as when the `tee` behind it or its
    terminal has ended, or the disk of its log is full: what it makes counts, and hours of it may have been made.

    Streams that something else has put in their place, as a test does, are left alone.
    """
    for number, name in enumerate(_NAMES):
        stream = getattr(sys, name)
        if number == 0 or stream is not getattr(sys, f"__{name}__") or not isinstance(stream, io.TextIOWrapper):
            continue
        stream.flush()
        raw = io.BufferedWriter(_Lossy(number, "w", closefd=False))
        # Without buffers (`python -u`) each line counts as soon as it is said, here too.
        lines = stream.line_buffering or stream.write_through
        words = io.TextIOWrapper(raw, encoding=stream.encoding, errors=stream.errors, line_buffering=lines)
        setattr(sys, name, words)


def words_may_be_lost() -> bool:
    """Whether `let_words_be_lost` has been called, so that a pipe that breaks is none of those to which words go."""
    return isinstance(getattr(getattr(sys.stdout, "buffer", None), "raw", None), _Lossy)


def write_words(number: int, words: str) -> None:
    """Write to a descriptor without the stream above it, which the main thread may be in the midst of; to one that
    takes nothing, such as that of a closed terminal, nothing.
    """
    with contextlib.suppress(OSError):
        os.write(number, words.encode())
