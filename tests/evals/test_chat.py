"""Talking to a model in the terminal: modes switch, commands answer, reasoning is not lost."""

import os
import signal
import subprocess
import sys

import pytest
from helpers import ROOT, python

from apo_soup.evals.streaming import DIMMED, UNDIMMED, print_answer, streamed_answer


def test_chat_answers_in_both_modes_and_leaves():
    said = "/think\nWhat is 4 + 5?\n/no_think\nWhat is 4 + 5?\n/new\n/quit\n"
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "apo_soup",
            "chat",
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
    result = python("-m", "apo_soup", "chat", "runs/none/merged")
    assert result.returncode == 2
    assert "expected a model folder, got runs/none/merged, which is not there" in result.stderr


def test_reasoning_is_dimmed_on_a_terminal_and_ends_are_left_out(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    pieces = (p for p in ["<think>", "so", "</think>", "4<|im_end|>"])
    assert print_answer(pieces, ["<|im_end|>"]) == "<think>so</think>4"
    assert capsys.readouterr().out == "".join(f"{DIMMED}{p}{UNDIMMED}" for p in ("<think>", "so", "</think>")) + "4\n"


def test_what_goes_wrong_in_an_answer_is_raised_and_not_waited_for(tokenizer):
    class Broken:
        def generate(self, **settings):
            raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        list(streamed_answer(Broken(), tokenizer, {}))
    result = python("-m", "apo_soup", "chat", "recipes/tiny/base", "--max_new_tokens", "0")
    assert result.returncode == 2
    assert "--max_new_tokens" in result.stderr


def test_an_interrupt_ends_the_answer_and_not_the_talk():
    words = [
        sys.executable,
        "-u",
        "-m",
        "apo_soup",
        "chat",
        ROOT / "recipes/tiny/base",
        "--max_new_tokens",
        "100000",
        "--greedy",  # this model then goes on and on after these words
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
        # A shell that runs the suite in the background has its children ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as talk:
        talk.stdin.write("Go on.\n")
        talk.stdin.flush()
        head = ""
        while "> " not in head:
            head += talk.stdout.read(1)
        head += talk.stdout.read(20)  # the answer has begun
        talk.send_signal(signal.SIGINT)
        out, errors = talk.communicate("/quit\n", timeout=60)
    assert talk.returncode == 0, errors
    assert "[stopped]" in out
    assert out.rstrip().endswith(">")
