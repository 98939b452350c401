"""Rows that an evaluation asks for are removed, wherever in a row its prompt stands."""

from pathlib import Path

import pytest
from data_helpers import MESSAGES, ROWS, documents_of, dropped_rows, mode, prepared
from helpers import chat

from apo_soup.errors import UserError

QUESTION = "If a train leaves the old station at noon and another one leaves at two how far apart are they then"


def test_rows_that_an_evaluation_asks_for_are_removed_and_listed(training_recipe, write_rows):
    """Planted: the prompt itself, inside a longer text, otherwise written, half of it; and a short one, whole."""
    evals = write_rows(
        "eval.jsonl", [{"question": QUESTION, "answer": "3"}, {"question": "Name a bird.", "answer": "x"}]
    )
    half = QUESTION.split()
    planted = [
        chat(QUESTION, "No idea", False),
        chat("Say something", f"As they say: {QUESTION}, well", False),
        chat(QUESTION.upper().replace(" ", ",  "), "No idea", False),
        chat(" ".join([*half[:14], "nothing", "else"]), "No idea", False),
        chat(" ".join([*half[:12], "stop", *half[-9:]]), "No idea", False),
        chat("name a bird", "Wren", False),
        {
            "messages": [
                {"role": "user", "content": "Look it up"},
                {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"q": "\n".join(half)}}}]},
                {"role": "tool", "content": "found"},
                {"role": "assistant", "content": "It is 3"},
            ],
            **mode(False),
        },
        chat(QUESTION.replace("e", "e\u00ad"), "No idea", False),
        {
            **chat("Go on", "No idea"),
            "chat_template_kwargs": {"custom_instructions": QUESTION, "enable_thinking": False},
        },
    ]
    clean = [
        chat(" ".join(half[:8]), "No idea", False),
        chat("Name a bird of prey.", "Kite", False),
        chat("If a train leaves the station", "It goes", False),
    ]
    rows = [row for pair_ in zip(planted, ROWS, strict=False) for row in pair_] + clean
    folder, splits, stats = prepared(training_recipe(rows), "--dataset_mixture.decontaminate", f"[{evals}]")
    found = dropped_rows(folder)
    assert [int(d["row"].rpartition(":")[2]) for d in found] == [1, 3, 5, 7, 9, 11, 13, 15, 17]
    assert all(d["kind"] == "contaminated" and "eval.jsonl" in d["reason"] for d in found)
    assert "shares 13 words with" in found[0]["reason"]
    assert stats["total"]["contaminated"] == 9
    assert len(documents_of(splits["train"])) == 12


def test_decontamination_takes_a_suite_file_and_changes_the_folder(training_recipe, write_rows, write_recipe, tmp_path):
    evals = write_rows("eval.jsonl", [{"messages": [{"role": "user", "content": QUESTION}], "answer": "3"}])
    task = {"name": "trains", "kind": "answer", "data": str(evals)}
    suite = write_recipe("eval.yaml", {"output_dir": str(tmp_path), "models": {}, "tasks": [task]})
    path = training_recipe([chat(QUESTION, "No idea", False), *ROWS[:5]])
    words = ("--dataset_mixture.decontaminate", f"[{suite}]")
    first, _, stats = prepared(path, *words)
    assert stats["total"]["contaminated"] == 1
    write_rows("eval.jsonl", [{"messages": [{"role": "user", "content": "Something else"}], "answer": "3"}])
    second, _, stats = prepared(path, *words)
    assert second != first
    assert stats["total"]["contaminated"] == 0
    with pytest.raises(UserError, match=r"rows\.jsonl:1: expected a prompt in question, got none; name the column"):
        prepared(path, "--dataset_mixture.decontaminate", f"[{{id: {path.parent}/rows.jsonl, column: question}}]")


def test_a_prompt_is_found_in_system_turns_and_calls_too(training_recipe, write_rows):
    evals = write_rows("eval.jsonl", [{"question": QUESTION}])
    call = {"name": "ask", "arguments": {"text": QUESTION}}
    rows = [
        {"messages": [{"role": "system", "content": f"Know: {QUESTION}"}, *MESSAGES], **mode(False)},
        {
            "messages": [MESSAGES[0], {"role": "assistant", "tool_calls": [call]}],
            "tools": [{"name": "ask"}],
            **mode(False),
        },
        *ROWS[:4],
    ]
    folder, _, _ = prepared(training_recipe(rows), "--dataset_mixture.decontaminate", f"[{evals}]")
    assert [int(d["row"].rpartition(":")[2]) for d in dropped_rows(folder)] == [1, 2]
    evals.write_text("{broken\n")
    with pytest.raises(
        UserError,
        match=r"eval\.jsonl:1: expected a JSON object, got .*; write one object a line, or its prompt stays",
    ):
        prepared(training_recipe(rows), "--dataset_mixture.decontaminate", f"[{evals}]")


def test_an_eval_file_that_is_not_there_is_told_with_its_key_and_both_places(training_recipe):
    path = training_recipe([chat("What?", "That.", False)])
    with pytest.raises(UserError) as told:
        prepared(path, "--dataset_mixture.decontaminate", "[nothere.yaml]")
    key = (
        "dataset_mixture.decontaminate.0: expected an eval file, got nothere.yaml, which is not there; correct the path"
    )
    both = f"(looked for {path.parent / 'nothere.yaml'} and {Path.cwd() / 'nothere.yaml'})"
    assert str(told.value) == f"{path} (command line): {key} {both}"
