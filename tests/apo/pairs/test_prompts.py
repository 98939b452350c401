"""Prompts from rows of every shape, and the share of them that is held out."""

from dataclasses import replace

import pytest

from apo.pairs.pair_rows import is_held_out
from apo.pairs.prompts import Prompt, prompt_messages
from apo_soup.data.sources.rows import RowError

PROMPT = Prompt("p", [{"role": "user", "content": "2 + 2?"}], {}, "4", "rows.jsonl:1")
USER, BOT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}


@pytest.mark.parametrize(
    ("fields", "turns"),
    [
        ({"messages": [USER, BOT]}, 1),
        ({"messages": [USER, BOT, USER]}, 3),
        ({"prompt": "Hi", "chosen": [USER, BOT, USER, BOT], "rejected": [USER, BOT, USER, BOT]}, 3),
        ({"prompt": "Hi", "chosen": "Yes?", "rejected": "No"}, 1),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes?"}]}, 1),
        ({"instruction": "Hi", "output": "Yes?"}, 1),
        ({"conversation": [{"human": "Hi", "assistant": "Yes?"}]}, 1),
        ({"query": "Hi", "response": "Yes?"}, 1),
        ({"query": "Hi", "history": [["Hi", "Yes?"]]}, 3),
        ({"prompt": "Hi", "query": "a number"}, 1),
        ({"question": "Hi", "answer": "4"}, 1),
    ],
)
def test_prompts_come_from_rows_of_any_shape(fields, turns):
    found = prompt_messages(fields)
    assert len(found) == turns
    assert found[-1]["role"] == "user"
    assert found[0]["content"] == "Hi"


@pytest.mark.parametrize("name", ["question", "problem", "query", "instruction"])
def test_an_input_stands_below_what_asks_and_a_system_text_above(name):
    found = prompt_messages({name: "Translate.", "input": "chat", "system": "Be brief."})
    assert [(m["role"], m["content"]) for m in found] == [("system", "Be brief."), ("user", "Translate.\n\nchat")]


@pytest.mark.parametrize("asked", [{"prompt": "Hi"}, {"messages": [USER]}, {"prompt": "Hi", "chosen": "chat"}])
def test_nothing_beside_a_prompt_is_left_out(asked):
    assert prompt_messages({**asked, "system_prompt": "Be brief."})[0] == {"role": "system", "content": "Be brief."}
    assert len(prompt_messages({**asked, "input": "Hi"})) == 1
    with pytest.raises(RowError, match="fields prompt, input: expected one question, got str 'chat' as input"):
        prompt_messages({**asked, "input": "chat"})


@pytest.mark.parametrize(
    "fields", [{"text": "Hi"}, {"messages": [BOT]}, {"prompt": " "}, {"prompt": 3}, {"messages": []}]
)
def test_a_row_without_a_prompt_is_refused(fields):
    with pytest.raises(RowError):
        prompt_messages(fields)


def test_the_held_out_share_is_a_function_of_the_prompt():
    prompts = [replace(PROMPT, messages=[{"role": "user", "content": f"prompt {i}"}]) for i in range(2000)]
    held = [p for p in prompts if is_held_out(p, 0.25)]
    assert 430 < len(held) < 570
    assert all(is_held_out(p, 0.5) for p in held)
    assert not any(is_held_out(p, 0.0) for p in prompts)
