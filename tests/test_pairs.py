"""Preference pairs: right over wrong, the mode kept, every prompt accounted for."""

import json

import pytest
from helpers import chat, python

from apo.pairs.make import choose, held_out
from corpus.generate import Completion
from corpus.verify import number

ROW = {"messages": chat("2 + 2?", "")["messages"][:1], "answer": "4"}
RIGHT = Completion("<think>\n2 + 2 = 4\n</think>\n4", 12, True)
WRONG = Completion("<think>\n2 + 2 = 5\n</think>\n5", 12, True)
CUT = Completion("<think>\n2 + 2 = 4\n</think>\n4", 12, False)
SILENT = Completion("4", 1, True)


def test_the_first_right_strong_answer_over_the_first_wrong_weak_one():
    assert choose(ROW, [WRONG, RIGHT], [RIGHT, WRONG], True, number) == (RIGHT, WRONG)


@pytest.mark.parametrize(
    ("strong", "weak", "reason"),
    [
        ([WRONG], [WRONG], "no strong answer is finished, in mode and right"),
        ([CUT], [WRONG], "no strong answer is finished, in mode and right"),
        ([SILENT], [WRONG], "no strong answer is finished, in mode and right"),
        ([RIGHT], [RIGHT], "no weak answer is finished, in mode and wrong"),
    ],
)
def test_a_prompt_without_a_pair_says_why(strong, weak, reason):
    assert choose(ROW, strong, weak, True, number) == reason


def test_the_held_out_share_is_a_function_of_the_prompt():
    prompts = [f"prompt {i}" for i in range(2000)]
    held = [p for p in prompts if held_out(p, 0.25)]
    assert 430 < len(held) < 570
    assert all(held_out(p, 0.5) for p in held)
    assert not any(held_out(p, 0.0) for p in prompts)


def test_no_pair_at_all_is_an_error_and_leaves_no_folder(tiny_model, write_rows, write_recipe, tmp_path):
    prompts = write_rows("prompts.jsonl", [ROW, ROW])
    values = {
        "output_dir": str(tmp_path / "pairs"),
        "prompts": str(prompts),
        "mode": "think",
        "strong": {"model": str(tiny_model)},
        "weak": {"model": str(tiny_model), "temperature": 1.5},
        "max_new_tokens": 4,
    }
    result = python("-m", "apo.pairs", "--config", write_recipe("pairs.yaml", values))
    assert result.returncode == 2
    assert "no pair could be made of 2 prompts" in result.stderr
    assert not (tmp_path / "pairs").exists()
    values["strong"]["temprature"] = 1
    result = python("-m", "apo.pairs", "--config", write_recipe("pairs.yaml", values))
    assert "unknown key strong.temprature; the nearest known key is temperature" in result.stderr
    del values["strong"]["temprature"]
    prompts.write_text(json.dumps({**ROW, "answer": "Paris"}) + "\n")
    result = python("-m", "apo.pairs", "--config", write_recipe("pairs.yaml", values))
    assert f"{prompts}:1: field answer: the number verifier needs a number, found 'Paris'" in result.stderr
    prompts.write_text(json.dumps({"messages": ROW["messages"]}) + "\n")
    result = python("-m", "apo.pairs", "--config", write_recipe("pairs.yaml", values))
    assert f"{prompts}:1: field answer is missing" in result.stderr
