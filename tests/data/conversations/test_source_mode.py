"""Rows that state no mode: a source without reasoning is a no-think source, and says so."""

import json

import pytest
from conftest import CHATML
from data_helpers import documents_of, prepared
from helpers import chat, preference
from programs import run_ok

from apo_soup.errors import UserError

ALPACA = [{"instruction": f"Name the number {n}.", "input": "", "output": f"{n}"} for n in range(60)]
THINK = [chat(f"What is {n} + 1?", f"<think>\nso {n}\n</think>\n{n + 1}") for n in range(60)]
PLAIN = [chat(f"What is {n} + 1?", f"{n + 1}") for n in range(60)]


def modes(stats):
    return {row["mode"]: row["kept"] for row in stats["sources"] if row["kept"]}


def assumed(count):
    return [("no-think, as no row among the first of its source holds reasoning", count)]


def test_plain_instruction_rows_are_no_think_rows_and_it_is_said(training_recipe, tokenizer):
    path = training_recipe(ALPACA)
    said = run_ok("-m", "apo_soup", "prepare", "--config", path)
    assert "none of the first 60 rows holds reasoning, so its rows are no-think rows" in said
    assert "chat_template_kwargs: {enable_thinking: true} or mode: by_row in its entry says otherwise" in said
    _, splits, stats = prepared(path)
    assert modes(stats) == {"no_think": 60}
    assert [(r["remark"], r["rows"]) for r in stats["remarks"]] == assumed(60)
    text = tokenizer.decode(documents_of(splits["train"])[0])
    assert "<think>\n\n</think>" in text
    asked = training_recipe([{**r, "chat_template_kwargs": {"enable_thinking": False}} for r in ALPACA])
    assert sorted(documents_of(prepared(asked)[1]["train"])) == sorted(documents_of(splits["train"]))


def test_every_number_of_processes_decides_alike(training_recipe):
    path = training_recipe(ALPACA * 40)
    one, two = (prepared(path, "--dataset_num_proc", n, "--seed", n)[2] for n in ("1", "2"))
    assert modes(one) == modes(two) == {"no_think": 2400}


def test_rows_with_reasoning_stay_think_rows(training_recipe):
    assert modes(prepared(training_recipe(THINK))[2]) == {"think": 60}
    field = [
        {"messages": [*r["messages"][:1], {"role": "assistant", "content": "4", "reasoning_content": "hm"}]}
        for r in PLAIN
    ]
    assert modes(prepared(training_recipe(field))[2]) == {"think": 60}


def test_a_source_that_mixes_both_is_asked_for_by_row(training_recipe):
    path = training_recipe([*THINK, *PLAIN[:3]])
    with pytest.raises(UserError) as error:
        prepared(path)
    assert "sft.yaml:" in str(error.value)
    assert "dataset_mixture.datasets.0: source" in str(error.value)
    rows = str(path.parent / "rows.jsonl")
    assert (
        f"expected rows of one mode, got 60 with reasoning ({rows}:1 first) and 3 without ({rows}:61) among the first "
        "63; write mode: by_row into the source's entry"
    ) in str(error.value)
    by_row = training_recipe([*THINK, *PLAIN[:3]], {"datasets": [{"id": rows, "mode": "by_row"}]})
    _, _, stats = prepared(by_row)
    assert modes(stats) == {"think": 60, "no_think": 3}
    asked = training_recipe(
        [*THINK, *PLAIN[:3]],
        {"datasets": [{"id": rows, "mode": "by_row"}]},
        chat_template_kwargs={"enable_thinking": True},
    )
    assert modes(prepared(asked)[2]) == {"think": 60, "no_think": 3}


def test_a_later_row_with_reasoning_stops_the_run_and_names_the_cure(training_recipe):
    for last in (THINK[0], {"messages": [PLAIN[0]["messages"][0], {**PLAIN[0]["messages"][1], "reasoning": "so"}]}):
        path = training_recipe([*PLAIN * 20, last])
        with pytest.raises(UserError) as error:
            prepared(path)
        assert "expected no-think rows, as none among the first held reasoning, got reasoning in" in str(error.value)
        assert "rows.jsonl:1201; write mode: by_row into the source's entry" in str(error.value)


TAGGED = chat("What is 2 + 1?", "<reasoning>so 2</reasoning>3")


def test_few_rows_with_what_may_be_words_are_rejected_and_decide_nothing(training_recipe):
    places = {
        5: (
            "<reasoning>so 2</reasoning>3",
            "(reasoning between <reasoning> and </reasoning> was read as a think block)",
        ),
        700: ("The tags <think> and </think>.", "got think tags among its words"),
        1200: ("It ends with </think> alone.", "got think tags among its words"),
        1210: ("Close the block with\n</think>\nalways.", "got think tags among its words"),
    }
    rows = PLAIN * 21
    for place, (answer, _) in places.items():
        rows[place] = chat("Which tags?", answer)
    path, said = training_recipe(rows), list[str]()
    for processes in ("1", "2"):
        folder, _, stats = prepared(path, "--dataset_num_proc", processes, "--seed", processes, say=said.append)
        assert modes(stats) == {"no_think": 1256}
        rejects = [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]
        for reject, (place, (_, told)) in zip(rejects, places.items(), strict=True):
            assert reject["row"].endswith(f"rows.jsonl:{place + 1}")
            assert told in reject["reason"]
    assert "none of the first 998 rows holds reasoning" in said[0]
    assert f"; 2 with tags of reasoning, {path.parent / 'rows.jsonl'}:6 first, are rejected" in said[0]


def test_many_rows_with_what_may_be_words_are_a_source_that_mixes_both(training_recipe):
    with pytest.raises(UserError) as error:
        prepared(training_recipe([*PLAIN, TAGGED]))
    assert "got 1 with reasoning" in str(error.value)
    as_words = "or chat_template_kwargs: {enable_thinking: false} where what looks like it is words of the answer"
    assert str(error.value).endswith(f"write mode: by_row into the source's entry, {as_words}")
    with pytest.raises(UserError, match=r"max_reject_share: expected at most 0\.01 .* mode: by_row into"):
        prepared(training_recipe([*PLAIN * 20, *[TAGGED] * 20]))
    rows = training_recipe([*PLAIN, TAGGED]).parent / "rows.jsonl"
    said = {"chat_template_kwargs": {"enable_thinking": False}}
    for entry, kept in (({"mode": "by_row"}, {"no_think": 60, "think": 1}), (said, {"no_think": 61})):
        assert modes(prepared(training_recipe(None, {"datasets": [{"id": str(rows), **entry}]}))[2]) == kept


def test_a_row_that_states_its_mode_is_held_to_it(training_recipe):
    stated = {**THINK[0], "chat_template_kwargs": {"enable_thinking": True}}
    by_word = {"messages": [{"role": "system", "content": "Go. /think"}, *THINK[1]["messages"]]}
    _, _, stats = prepared(training_recipe([*PLAIN, stated, by_word]))
    assert modes(stats) == {"think": 2, "no_think": 60}
    lost = {**PLAIN[0], "chat_template_kwargs": {"enable_thinking": True}}
    with pytest.raises(UserError, match=r"expected reasoning in a think row, got none; .*mode: by_row"):
        prepared(training_recipe([*PLAIN[1:], lost]))


def test_the_recipe_decides_where_it_says_the_mode(training_recipe):
    with pytest.raises(UserError, match="expected reasoning in a think row, got none"):
        prepared(training_recipe(PLAIN, chat_template_kwargs={"enable_thinking": True}))
    assert prepared(training_recipe(PLAIN, chat_template_kwargs={"enable_thinking": False}))[2]["remarks"] == []


def test_a_template_without_modes_asks_for_none(training_recipe):
    _, _, stats = prepared(training_recipe([*PLAIN, *THINK], chat_template=CHATML))
    assert stats["total"]["kept"] == 120
    assert stats["remarks"] == []


def test_pairs_without_reasoning_are_no_think_pairs(training_recipe):
    pairs = [preference(f"What is {n}?", f"{n}", "no idea") for n in range(30)]
    for pair in pairs:
        pair.pop("chat_template_kwargs")
    _, _, stats = prepared(training_recipe(pairs, name="apo"))
    assert modes(stats) == {"no_think": 30}
    thinking = [json.loads(json.dumps(pair)) for pair in pairs]
    for pair in thinking[:10]:
        pair["chosen"] = [{"role": "assistant", "content": "<think>\nhm\n</think>\n4"}]
    path = training_recipe(thinking, name="apo")
    with pytest.raises(UserError, match=r"got 10 with reasoning \(.*:1 first\) and 20 without \(.*:11\)"):
        prepared(path)


def test_mode_beside_enable_thinking_is_a_mistake(training_recipe):
    source = {"mode": "by_row", "chat_template_kwargs": {"enable_thinking": True}}
    path = training_recipe(PLAIN)
    path = training_recipe(PLAIN, {"datasets": [{"id": str(path.parent / "rows.jsonl"), **source}]})
    with pytest.raises(UserError, match=r"datasets\.0\.mode: expected one way to give the mode"):
        prepared(path)


@pytest.mark.parametrize("how", ["nobody", "row", "by_row"])
def test_an_empty_think_block_is_a_no_think_answers_and_is_taken_off(training_recipe, tokenizer, how):
    """As Qwen3's own no-think data has it."""
    rows = [chat(f"What is {n} + 1?", f"<think>\n\n</think>\n\n{n + 1}") for n in range(30)]
    if how == "row":
        rows = [{**row, "chat_template_kwargs": {"enable_thinking": False}} for row in rows]
    path = training_recipe(rows)
    if how == "by_row":
        source = {"id": str(path.parent / "rows.jsonl"), "mode": "by_row"}
        path = training_recipe([*rows, *THINK], {"datasets": [source]})
    _, splits, stats = prepared(path)
    assert modes(stats)["no_think"] == 30
    assert "a no-think answer began with an empty think block" in stats["remarks"][0]["remark"]
    text = next(t for t in map(tokenizer.decode, documents_of(splits["train"])) if "<think>\n\n</think>" in t)
    assert text.count("<think>") == 1
