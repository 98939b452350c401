"""Lines of progress: rates that never read as nothing, bars on terminals, silence where it is asked for."""

import ast
import io
import sys

import pytest
from helpers import ROOT

from apo_soup.progress import QUIET, Progress, bar, rate_text, say, tell, warn


@pytest.mark.parametrize("per_second", [1e-4, 0.003, 0.02, 0.4, 0.999, 1, 9.96, 12, 40_000])
def test_no_rate_reads_as_nothing(per_second):
    number, _, unit = rate_text(per_second).partition("/")
    seconds = {"s": 1, "min": 60, "h": 3600, "day": 86_400}[unit]
    assert float(number.replace(",", "")) > 0
    assert float(number.replace(",", "")) / seconds == pytest.approx(per_second, rel=0.2)


def test_nothing_done_has_no_rate():
    assert [rate_text(rate, "tokens") for rate in (0.0, 1e-9)] == ["-", "<0.1 tokens/day"]


def test_slow_work_has_a_rate_and_what_is_left(capsys):
    progress = Progress("prepare", "rows", 100)
    progress.started -= 590
    progress._printed -= 590
    progress.at(10)
    assert capsys.readouterr().out == "prepare: 10/100 rows  1.0/min  1:28:30 left\n"


def test_a_terminal_has_a_bar(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", terminal)
    progress = Progress("merge", "tensors", 4)
    progress._printed -= 600
    progress.at(2)
    progress.end()
    assert f"merge: [{'#' * 10}{' ' * 10}] 2/4 tensors" in terminal.getvalue()
    assert (bar(9, 4), bar(3, 0)) == (f"[{'#' * 20}] ", "")


def test_a_quiet_process_tells_warnings_and_what_is_finished(monkeypatch, capsys):
    monkeypatch.setenv(QUIET, "1")
    say("sft: running")
    warn("look")
    tell("sft: written")
    progress = Progress("prepare", "rows", 100)
    progress._printed -= 600
    progress.at(10)
    assert capsys.readouterr().out == "warning: look\nsft: written\n"


# Those whose answer is what they print, and those that look themselves whether they are to be quiet.
PRINTING = {
    *("config/reference.py", "data/preview.py", "evals/chat.py", "evals/compare.py", "evals/streaming.py"),
    *("training/callbacks.py", "progress.py", "errors.py", "stops.py"),
}


def test_no_stage_prints_past_those_who_may_be_quiet():
    files = [file for room in ("apo", "sft", "merge", "apo_soup") for file in (ROOT / room).rglob("*.py")]
    found = set()
    for file in files:
        name = str(file.relative_to(ROOT)).removeprefix("apo_soup/")
        if name in PRINTING or name.startswith(("cli/", "report/")):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                elsewhere = any(word.arg == "file" for word in node.keywords)
                found |= set() if elsewhere else {name}
    assert len(files) > 200
    assert not found
