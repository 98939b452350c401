"""A program whose words go nowhere makes what it is to make, and writes them into nobody's file."""

import os
import signal
import subprocess
import sys
import time

import pytest
from helpers import ENVIRONMENT, ROOT

OPENING = """
import os, signal, subprocess, sys, time
from pathlib import Path
from apo_soup.errors import run_main
from apo_soup.stops import STOPS
from apo_soup.streams import let_words_be_lost
signal.signal(signal.SIGHUP, signal.SIG_DFL)
"""
WORK = """
def main():
    let_words_be_lost()
    for number in range(3):
        print("line", number, flush=True)
        print("warned", number, file=sys.stderr, flush=True)
    Path(sys.argv[1]).write_text("made")
run_main(main)
"""


def ended(program: str, *words: object, **streams: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", OPENING + program, *map(str, words)], env=ENVIRONMENT, **streams)


def closed_pipe() -> int:
    """A descriptor to write to that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    return write


@pytest.mark.parametrize(
    ("stdout", "told"),
    [(closed_pipe, "Broken pipe"), (lambda: os.open("/dev/full", os.O_WRONLY), "No space left on device")],
)
def test_work_goes_on_where_nobody_takes_its_words(stdout, told, tmp_path):
    result = ended(WORK, tmp_path / "file", stdout=stdout(), stderr=subprocess.PIPE, text=True)
    assert result.returncode == 0
    assert (tmp_path / "file").read_text() == "made"
    first = f"standard output takes nothing more ({told}); the work goes on\n"
    assert result.stderr == f"{first}warned 0\nwarned 1\nwarned 2\n"


def test_work_goes_on_where_standard_error_is_gone(tmp_path):
    result = ended(WORK, tmp_path / "file", stdout=subprocess.PIPE, stderr=closed_pipe(), text=True)
    assert (result.returncode, (tmp_path / "file").read_text()) == (0, "made")
    assert result.stdout.splitlines()[:2] == [
        "line 0",
        "standard error takes nothing more (Broken pipe); the work goes on",
    ]


# A library's words, which go to the descriptor, and those of a program that is started, must not end in the file.
CLOSED = """
def main():
    with open(sys.argv[1], "w") as file:
        print("ours"), print("ours", file=sys.stderr, flush=True)
        for descriptor in (1, 2):
            os.write(descriptor, b"a library's")
        subprocess.run([sys.executable, "-c", "print(1)"], check=True)
        file.write(f"{file.fileno()} {sys.stdout.isatty()} {sys.stdin.read()!r}")
run_main(main)
"""


def test_closed_streams_are_no_file_that_is_opened_later(tmp_path):
    program = [sys.executable, "-c", OPENING + CLOSED, str(tmp_path / "file")]
    shell = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *program]
    assert subprocess.run(shell, env=ENVIRONMENT).returncode == 0
    descriptor, rest = (tmp_path / "file").read_text().split(" ", 1)
    assert int(descriptor) > 2
    assert rest == "False ''"


def test_what_only_speaks_ends_when_nobody_reads_it(tmp_path):
    speaks = f"def main():\n    print(1, flush=True)\n    Path({str(tmp_path / 'file')!r}).touch()\nrun_main(main)"
    result = ended(speaks, stdout=closed_pipe(), stderr=subprocess.PIPE, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert not (tmp_path / "file").exists()


def test_another_pipe_that_breaks_is_no_quiet_end():
    breaks = "def main():\n    read, write = os.pipe()\n    os.close(read)\n    os.write(write, b'1')\nrun_main(main)"
    result = ended(breaks, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert "BrokenPipeError: [Errno 32] Broken pipe" in result.stderr


@pytest.mark.parametrize("stdout", [lambda: subprocess.PIPE, closed_pipe])
def test_another_pipe_that_breaks_in_work_is_no_quiet_end(stdout):
    """Behind `let_words_be_lost` no broken pipe is that of the words, whether anybody reads them or not."""
    breaks = (
        "def main():\n    let_words_be_lost()\n    print('x', flush=True)\n    read, write = os.pipe()\n"
        "    os.close(read)\n    os.write(write, b'1')\nrun_main(main)"
    )
    result = ended(breaks, stdout=stdout(), stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert "BrokenPipeError: [Errno 32] Broken pipe" in result.stderr


def test_words_of_a_program_without_buffers_come_at_once():
    """What was said before a `kill -9` is there, as with Python's own streams."""
    code = "let_words_be_lost()\nsys.stdout.write('out\\n')\nsys.stderr.write('err\\n')\nos._exit(0)"
    result = subprocess.run(
        [sys.executable, "-u", "-c", OPENING + code], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert (result.stdout, result.stderr) == ("out\n", "err\n")


STEPS = """
def main():
    let_words_be_lost()
    with STOPS.deferred():
        while STOPS.number is None:
            print("step", flush=True)
            time.sleep(0.01)
        Path(sys.argv[1]).write_text("a checkpoint")
        STOPS._first.pop()
        try:
            STOPS.end_if_asked(" after a step")
        finally:
            STOPS._first.append("")
run_main(main)
"""


def test_a_terminal_that_is_closed_stops_a_program_as_a_signal_does(tmp_path):
    ours, terminal = os.openpty()
    words = [sys.executable, "-c", OPENING + STEPS, str(tmp_path / "file")]
    process = subprocess.Popen(words, env=ENVIRONMENT, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    os.read(ours, 1)  # it is at work
    os.close(ours)
    time.sleep(0.05)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=20) == 128 + signal.SIGHUP
    assert (tmp_path / "file").read_text() == "a checkpoint"


@pytest.mark.parametrize("words", [["-m", "sft"], ["-m", "apo_soup", "run", "mid"]])
def test_no_sentence_is_needed_for_the_code_of_a_mistake(words, tmp_path):
    recipe = [str(tmp_path)] if "run" in words else ["--config", str(tmp_path / "none.yaml")]
    result = subprocess.run(
        [sys.executable, *words, *recipe], cwd=ROOT, env=ENVIRONMENT, stdout=closed_pipe(), stderr=closed_pipe()
    )
    assert result.returncode == 2
