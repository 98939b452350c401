"""Talking to a model in the terminal: modes switch, commands answer, reasoning is not lost."""

import os
import subprocess
import sys

from helpers import ROOT, python


def test_chat_answers_in_both_modes_and_leaves():
    said = "/think\nWhat is 4 + 5?\n/no_think\nWhat is 4 + 5?\n/new\n/quit\n"
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "evals.chat",
            "--model",
            ROOT / "recipes/tiny/base",
            "--greedy",
            "--max_new_tokens",
            "5",
        ],
        input=said,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "mode /think" in result.stdout
    assert "mode /no_think" in result.stdout
    assert result.stdout.count("> ") == 6


def test_chat_with_no_model_is_one_sentence():
    result = python("-m", "evals.chat", "--model", "runs/none/merged")
    assert result.returncode == 2
    assert "model folder runs/none/merged does not exist" in result.stderr
