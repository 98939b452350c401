"""A report is as it was, or new, and written by one process at a time."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ENVIRONMENT

from apo_soup.errors import UserError
from apo_soup.report.page import write_report as written
from apo_soup.report.run_files import read_run

RECIPE = Path("recipes/x")


def write_report(recipe, run):
    return written(recipe, read_run(run))


def test_a_page_that_cannot_be_written_leaves_the_one_before_it(run):
    page = write_report(RECIPE, run)
    before = page.read_bytes()
    (run / ".report.html.123").write_text("what a killed process left")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, limits[1]))
    try:
        with pytest.raises(
            UserError, match=r"report: .*: expected to read and write there, got File too large; free or"
        ):
            write_report(RECIPE, run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert page.read_bytes() == before
    left = sorted(file.name for file in run.iterdir() if file.is_file())
    assert left == ["pipeline.svg", "report.html", "table.json"]


def test_a_second_report_is_told_who_writes_the_first(run):
    hold = "import time; from pathlib import Path; from apo_soup.runs.lock import at_work\n"
    hold += f"with at_work(Path({str(run / 'report.html')!r})):\n print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", hold], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(
            UserError, match=rf"report.html: expected to be the only one .*, got process {holder.pid} on"
        ):
            write_report(RECIPE, run)
    finally:
        holder.kill()
        holder.wait()
    assert write_report(RECIPE, run).is_file()
