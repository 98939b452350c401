"""Talking to a model in the terminal: modes switch, commands answer, reasoning is not lost."""

import os
import signal
import time

import pytest
from helpers import ROOT, python
from programs import Programs, succeeded

from apo_soup.errors import UserError
from apo_soup.evals.chat import converse, model_of_recipe
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


OPENS = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<think>{% endif %}"


def said_to(folder, template, lines, monkeypatch):
    """What the settings of each answer were, with the model's words given beforehand."""
    asked, words = [], iter([*lines, "/quit"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(words))

    def answer(model, tokenizer, settings):
        asked.append(settings)
        yield from ("so</think>", "4<|im_end|>")

    monkeypatch.setattr("apo_soup.evals.streaming.streamed_answer", answer)
    converse(str(folder), template, 300, True)
    return asked


def test_an_answer_ends_where_the_template_ends_a_turn(base_like_qwen, monkeypatch, capsys):
    (asked,) = said_to(base_like_qwen, None, ["4?"], monkeypatch)
    assert asked["eos_token_id"] == [0, 2]
    assert capsys.readouterr().out.splitlines()[-1] == "so</think>4"


def test_a_block_that_the_prompt_opens_is_shown_and_not_read_again(tiny_model, tokenizer, monkeypatch, capsys):
    _, asked = said_to(tiny_model, OPENS, ["4?", "Sure?"], monkeypatch)
    assert tokenizer.decode(asked["input_ids"][0]) == "4?<|im_end|>4<|im_end|>Sure?<|im_end|><think>"
    assert capsys.readouterr().out.splitlines()[-1] == "<think>so</think>4"


def test_what_does_not_fit_is_a_sentence_and_the_talk_goes_on(tiny_model, monkeypatch, capsys):
    _, last = said_to(tiny_model, "apo-soup", ["4?", "long " * 600, "\udc80", "5?"], monkeypatch)
    told = capsys.readouterr().out
    assert "expected a conversation of fewer than 512 tokens, the model's context, got " in told
    assert "expected UTF-8, got half of a character (a lone surrogate)" in told
    assert last["max_new_tokens"] == 300
