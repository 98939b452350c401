"""The console script in this process."""

import sys
from subprocess import CompletedProcess

import pytest
from helpers import ROOT

from apo_soup.cli.app import main


@pytest.fixture
def apo_soup(monkeypatch, capfd, tmp_path):
    """Run `apo-soup WORDS` in the test's folder and this process, whose libraries are imported once; gives its exit
    code, output and errors.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(*words):
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["apo-soup", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        written = capfd.readouterr()
        return CompletedProcess(words, left.value.code, written.out, written.err)

    return run
