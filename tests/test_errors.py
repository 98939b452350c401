"""Mistakes are one sentence, faults of ours a traceback; `--debug` shows a sentence's cause."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ENVIRONMENT, ROOT, python

from apo_soup.errors import UserError, first_line, need_file, run_main, told_by_library, told_while_at_work


def outcome(main, capsys) -> tuple[int, str]:
    """Exit code of a program, and what it wrote to stderr."""
    with pytest.raises(SystemExit) as end:
        run_main(main)
    return end.value.code, capsys.readouterr().err


@pytest.fixture(autouse=True)
def command_line(monkeypatch):
    """A command line of the test's own, and no debugging."""
    monkeypatch.setenv("APO_SOUP_DEBUG", "")  # set, so that what the program sets is taken back
    monkeypatch.setattr(sys, "argv", ["program"])


def mistaken():
    try:
        int("x")
    except ValueError as error:
        raise UserError("sft.yaml:3: seed: expected a number, got x; write one") from error


def faulty():
    raise ValueError("our own")


@pytest.mark.parametrize(
    ("main", "told"),
    [(mistaken, "sft.yaml:3: seed: expected a number, got x; write one"), (faulty, "ValueError: our own")],
)
def test_who_starts_a_program_is_told_why_it_ended(main, told, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("APO_SOUP_REASON", str(tmp_path / "reason.txt"))
    outcome(main, capsys)
    assert (tmp_path / "reason.txt").read_text() == told
    monkeypatch.setenv("APO_SOUP_REASON", str(tmp_path / "absent" / "reason.txt"))
    assert outcome(main, capsys)[0] in (1, 2), "the code says it where nothing can be written"


@pytest.mark.parametrize("debug", ["", "1"])
@pytest.mark.parametrize("kind", [UserError, ValueError])
def test_no_key_is_printed_with_what_is_wrong(kind, debug, monkeypatch, capsys):
    monkeypatch.setenv("APO_SOUP_DEBUG", debug)

    def main():
        raise kind("id: got https://me:planted@host/x") from ValueError("Bearer hf_planted0123456789ab")

    _, said = outcome(main, capsys)
    assert "https://(hidden)@host/x" in said
    assert "planted" not in said.replace(__name__, "")


def test_a_mistake_is_one_sentence(capsys):
    assert outcome(mistaken, capsys) == (2, "error: sft.yaml:3: seed: expected a number, got x; write one\n")


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_debugging_shows_the_cause_of_a_mistake(how, monkeypatch, capsys):
    if how == "flag":
        monkeypatch.setattr(sys, "argv", ["program", "--debug", "--seed", "x"])
    else:
        monkeypatch.setenv("APO_SOUP_DEBUG", "1")
    code, said = outcome(mistaken, capsys)
    assert code == 2
    assert "ValueError: invalid literal for int()" in said
    assert "test_errors.py" in said
    assert said.endswith("error: sft.yaml:3: seed: expected a number, got x; write one\n")


@pytest.mark.parametrize(
    ("words", "left", "shown"),
    [
        (["--debug", "check", "tiny"], ["check", "tiny"], True),
        (["--config", "x", "--debug"], ["--config", "x"], True),
        (["--debug", "underflow_overflow"], ["--debug", "underflow_overflow"], False),
        (["--debug=underflow_overflow"], ["--debug=underflow_overflow"], False),
    ],
)
def test_the_flag_is_taken_out_and_transformers_key_of_that_name_is_not(words, left, shown, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(sys, "argv", ["program", *words])
    code, _ = outcome(lambda: seen.extend(sys.argv[1:]), capsys)
    assert (code, seen) == (0, left)
    _, said = outcome(mistaken, capsys)
    assert ("Traceback" in said) is shown, "child processes are told by the variable"


def test_a_fault_of_ours_is_a_traceback_and_where_to_report_it(capsys):
    code, said = outcome(faulty, capsys)
    assert code == 1
    assert "Traceback (most recent call last)" in said
    assert "ValueError: our own" in said
    last = said.splitlines()[-1]
    assert last.startswith("unexpected ValueError: ")
    assert "please report them at " in last


@pytest.mark.parametrize(("what", "code"), [("UserError('x')", 2), ("ValueError()", 1), ("KeyboardInterrupt()", 130)])
def test_a_disk_that_takes_no_sentence_changes_no_exit_code(what, code):
    words = f"from apo_soup.errors import *\ndef main():\n    raise {what}\nrun_main(main)"
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-c", words], env=ENVIRONMENT, stderr=full, stdout=subprocess.PIPE)
    assert (ended.returncode, ended.stdout) == (code, b"")


def test_an_interrupt_and_an_exit_code_end_quietly(capsys):
    def interrupted():
        raise KeyboardInterrupt

    assert outcome(interrupted, capsys) == (130, "stopped; run the same command again to go on\n")
    assert outcome(lambda: 3, capsys) == (3, "")
    assert outcome(lambda: None, capsys) == (0, "")


@pytest.mark.parametrize("program", [["sft"], ["merge"], ["apo_soup", "check"]])
def test_every_program_takes_the_flag(program, tmp_path):
    words = [str(tmp_path / "none")] if program[1:] else ["--config", str(tmp_path / "none.yaml")]
    plain = python("-m", *program, *words)
    debug = python("-m", *program, "--debug", *words)
    assert (plain.returncode, debug.returncode) == (2, 2)
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debug.stderr
    assert debug.stderr.splitlines()[-1] == plain.stderr.splitlines()[-1]


def test_what_a_library_refuses_is_a_mistake_and_other_exceptions_are_not():
    words = {"expected": "a thing", "way": "name another"}
    told = r"^sft.yaml:2: thing: expected a thing, got a refusal: no such thing; name another$"
    with pytest.raises(UserError, match=told), told_by_library("sft.yaml:2: thing", **words):
        raise ValueError("no such\n  thing.")
    with pytest.raises(KeyError), told_by_library("sft.yaml:2", **words):
        raise KeyError("ours")
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"


def test_what_our_code_raises_when_a_library_calls_it_back_is_our_fault():
    words = {"expected": "JSON", "way": "correct it", "libraries": ("json",)}
    with pytest.raises(UserError, match="got a refusal: Expecting property"), told_by_library("a.json", **words):
        json.loads("{]")  # a JSONDecodeError, which is a ValueError, of the library's own lines

    def ours(_: object) -> None:
        raise_as("apo_soup.somewhere", ValueError("our own"))

    with pytest.raises(ValueError, match="our own"), told_by_library("a.json", **words):
        json.loads("{}", object_hook=ours)


def raise_as(module: str, error: Exception) -> None:
    """Raise from a line of a module of that name."""
    exec("raise error", {"__name__": module, "error": error})


def test_a_file_that_is_not_there_is_told_with_who_asked(tmp_path):
    file = tmp_path / "x.json"
    file.touch()
    assert need_file(file, "configuration", "--config") == file
    with pytest.raises(UserError, match=r"expected a configuration file, got .*, which is not there"):
        need_file(ROOT / "none", "configuration", "--config")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "", "/elsewhere/tmp"), "/elsewhere/tmp: expected to read and write there, got No space"),
        (OSError(errno.ENOSPC, ""), "/run: expected to read and write there, got No space"),
        (
            RuntimeError("I/O error: No space left on device (os error 28)"),
            "/run: expected to read and write there, got",
        ),
        (
            OSError(errno.EACCES, "", "/run/sft/f"),
            "/run/sft/f: expected to read and write there, got Permission denied",
        ),
        (
            OSError(errno.EACCES, "", f"/run/.page.html.{os.getpid()}"),
            "/run/page.html: expected to read and write there",
        ),
        (
            OSError(errno.EACCES, "", "/rows.jsonl"),
            "/rows.jsonl: expected a file that can be read, got Permission denied",
        ),
    ],
)
def test_what_the_disk_refuses_is_told_of_the_file_that_it_is_about(error, told):
    with pytest.raises(UserError) as raised, told_while_at_work("sft.yaml", Path("/run")):
        raise error
    assert str(raised.value).startswith(f"sft.yaml: {told}")


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "", "/run/kernel.so"),
        OSError(errno.EPERM, "Operation not permitted"),  # of a call that is about no file, such as one on processes
        OSError(errno.EIO, "Input/output error"),  # of a terminal that is gone
        RuntimeError("Permission denied by the hub"),
        OSError("We couldn't connect to 'https://huggingface.co' to load the files"),
    ],
)
def test_what_is_no_refusal_of_the_disk_passes(error):
    with pytest.raises(type(error)) as raised, told_while_at_work("sft.yaml", Path("/run")):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("words", [["-OO"], []])
def test_python_without_docstrings_is_refused_in_a_sentence(words):
    program = [sys.executable, *words, "-c", "from apo_soup.errors import run_main\nrun_main(lambda: 0)"]
    environment = ENVIRONMENT | ({} if words else {"PYTHONOPTIMIZE": "2"})
    ended = subprocess.run(program, env=environment, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: PYTHONOPTIMIZE: expected at most 1, got 2 (or python -OO), which leaves out")
