"""Talking to a model in the terminal: modes switch, commands answer, reasoning is not lost."""

import os
import signal
import time

import pytest
from helpers import ROOT, python
from programs import Programs, succeeded

from apo_soup.errors import UserError
from apo_soup.evals.chat import model_of_recipe
from apo_soup.evals.streaming import DIMMED, UNDIMMED, print_answer, streamed_answer

CHAT = ("-m", "apo_soup", "chat", ROOT / "recipes/tiny/base", "--greedy", "--max_new_tokens")


def test_chat_answers_in_both_modes_and_leaves(tmp_path):
    words = tmp_path / "words"
    words.write_text("/think\nWhat is 4 + 5?\n/no_think\nWhat is 4 + 5?\n/new\n/quit\n")
    said = succeeded(Programs(*CHAT, "5", stdin=words).wait())
    assert "mode /think" in said
    assert "mode /no_think" in said
    assert said.count("> ") == 6


def test_chat_with_no_model_is_one_sentence():
    result = python("-m", "apo_soup", "chat", "runs/none/merged")
    assert result.returncode == 2
    assert "expected a model folder, got runs/none/merged, which is not there" in result.stderr


def test_without_a_stage_it_is_the_last_model_of_the_recipe(tmp_path, monkeypatch):
    """A recipe of rows alone has no merge."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    suite = "output_dir: evals\ntasks: [{name: a, kind: loss, data: a.jsonl}]\nmodels:"
    for models, last in (
        ("{base: a/b, sft: runs/sft, mid: runs/mid}", "runs/sft"),
        ("{base: a/b, tuned: runs/sft}", "runs/sft"),
        ("{merged: runs/m, soup: runs/soup, other: o/p}", "runs/m"),
    ):
        (tmp_path / "mine" / "eval.yaml").write_text(f"{suite} {models}\n")
        assert model_of_recipe(tmp_path / "mine", "")[0] == last
    assert model_of_recipe(tmp_path / "mine", "soup")[0] == "runs/soup"
    (tmp_path / "mine" / "eval.yaml").write_text(f"{suite} {{base: a/b, one: runs/1, two: runs/2}}\n")
    with pytest.raises(UserError, match="expected a stage of the run among the models, got one, two; say which"):
        model_of_recipe(tmp_path / "mine", "")


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


def test_an_interrupt_ends_the_answer_and_not_the_talk(tmp_path):
    os.mkfifo(tmp_path / "words")
    talk = Programs(*CHAT, "100000", stdin=tmp_path / "words")  # this model then goes on and on after these words
    with (tmp_path / "words").open("w", buffering=1) as words:
        words.write("Go on.\n")
        while len(talk.output().partition("> ")[2]) < 20:  # until the answer has begun
            assert talk.running()
            time.sleep(0.005)
        os.kill(talk.ids[0], signal.SIGINT)
        words.write("/quit\n")
    out = succeeded(talk.wait())
    assert "[stopped]" in out
    assert out.rstrip().endswith(">")
