"""From rows to a folder: every row is counted, by source and mode, and those that are used are drawn and trained."""

import json

import pytest
from conftest import CHATML
from data_helpers import ROWS, documents_of, prepared
from helpers import chat

from apo_soup.config.load import load
from apo_soup.data.prepare import prepare_mixture
from apo_soup.data.sources.mixture import mixture_sources
from apo_soup.errors import UserError


def test_every_row_read_is_accounted_for_by_source_and_mode(training_recipe, write_rows, tmp_path):
    think = [chat(f"Q{n}?", f"<think>\nhm {n}\n</think>\n{n}", True) for n in range(10)]
    other = write_rows("other.jsonl", think + ROWS[:10])
    bad = [*ROWS[:40], {"messages": []}]
    sources = [{"id": str(other), "weight": 0.5}, {"id": str(write_rows("bad.jsonl", bad)), "weight": 2.0}]
    folder, _, stats = prepared(training_recipe(mixture={"datasets": sources}, max_reject_share=0.1))
    rows = {(r["source"].rpartition("/")[2], r["mode"]): r for r in stats["sources"]}
    assert rows["other.jsonl", "-"]["not_drawn"] == 10
    assert rows["other.jsonl", "think"]["kept"] + rows["other.jsonl", "no_think"]["kept"] == 10
    assert (rows["bad.jsonl", "no_think"]["kept"], rows["bad.jsonl", "no_think"]["copies"]) == (40, 40)
    assert rows["bad.jsonl", "-"]["rejected"] == 1
    total = stats["total"]
    assert total["read"] == 61 == total["kept"] + total["rejected"] + total["dropped"]
    assert rows["other.jsonl", "think"]["reasoning"] > 0
    assert rows["bad.jsonl", "no_think"]["reasoning"] == 0
    assert 0 < total["think_share"] < 1
    reject = json.loads((folder / "rejects.jsonl").read_text())
    assert reject["row"].endswith("bad.jsonl:41")
    assert reject["reason"] == "field messages: expected a list of turns, got list []; correct the row"


def test_a_source_that_is_listed_twice_has_a_line_each(training_recipe, write_rows):
    """The same file for both modes, say: its rows are not summed into one line."""
    rows = str(write_rows("rows.jsonl", ROWS[:10]))
    sources = [{"id": rows}, {"id": rows, "weight": 0.5, "chat_template_kwargs": {"date_string": "2025-07-01"}}]
    _, _, stats = prepared(training_recipe(mixture={"datasets": sources}))
    kept = {r["source"].rpartition("/")[2]: r["kept"] for r in stats["sources"] if r["kept"]}
    assert kept == {"rows.jsonl": 10, "rows.jsonl #2": 5}


def test_weight_above_one_repeats_in_training_and_never_in_the_held_out_rows(training_recipe):
    path = training_recipe(ROWS[:40])
    words = ("--dataset_mixture.datasets.0.weight", "2.0", "--dataset_mixture.test_split_size", "0.25")
    _, splits, _ = prepared(path, *words)
    train, test = documents_of(splits["train"]), documents_of(splits["test"])
    assert len(train) == 60
    assert len(set(train)) == 30
    assert len(test) == len(set(test)) == 10
    assert not set(train) & set(test)


def test_the_same_rows_are_drawn_under_every_path(training_recipe, write_rows):
    drawn_rows = []
    for name in ("one.jsonl", "two.jsonl"):
        source = {"id": str(write_rows(name, ROWS)), "weight": 0.5}
        path = training_recipe(
            mixture={"datasets": [source]}, output_dir=str(write_rows(name, ROWS).parent / name[:3] / "sft")
        )
        drawn_rows.append(sorted(documents_of(prepared(path)[1]["train"])))
    assert drawn_rows[0] == drawn_rows[1]


def test_a_source_that_gives_nothing_stops_the_run(training_recipe, write_rows):
    good, empty = write_rows("good.jsonl", ROWS * 3), write_rows("empty.jsonl", [])
    bad = write_rows("bad.jsonl", [{"messages": []}, {"messages": 3}])
    for other, reason in (
        (empty, "expected at least one row, got none"),
        (bad, "expected a row to train on, got none: of 2 rows 2 rejected"),
    ):
        path = training_recipe(mixture={"datasets": [{"id": str(good)}, {"id": str(other)}]}, max_reject_share=0.5)
        with pytest.raises(UserError, match=reason):
            prepared(path)
        assert not list((path.parent / "run" / "prepared").glob(".*partial")), "a failed run leaves no data"


def test_a_source_may_set_template_arguments_below_those_of_its_rows(training_recipe, tokenizer, write_rows):
    plain = [chat(f"What is {n}?", f"It is {n}") for n in range(6)]
    own = {**chat("Why?", "<think>\nhm\n</think>\nSo", True)}
    source = {"id": str(write_rows("plain.jsonl", [*plain, own])), "chat_template_kwargs": {"enable_thinking": False}}
    _, splits, stats = prepared(training_recipe(mixture={"datasets": [source]}))
    assert {(r["mode"], r["kept"]) for r in stats["sources"] if r["kept"]} == {("no_think", 6), ("think", 1)}
    texts = [tokenizer.decode(d) for d in documents_of(splits["train"])]
    assert sum("<think>\n\n</think>" in t for t in texts) == 6


def test_a_date_that_yaml_reads_as_a_date_is_text(training_recipe, tokenizer):
    _, splits, _ = prepared(training_recipe(ROWS[:3]), "--chat_template_kwargs", "{date_string: 2025-07-01}")
    assert "Today Date: 2025-07-01" in tokenizer.decode(documents_of(splits["train"])[0])


def test_rows_of_no_known_format_say_what_to_do(training_recipe):
    path = training_recipe([{"question": "What?", "reply": "That."}])
    no_think = ("--chat_template_kwargs", "{enable_thinking: false}")
    with pytest.raises(
        UserError,
        match=r"expected rows of a format among messages, .*, got rows with question, reply; write rename",
    ):
        prepared(path)
    _, splits, _ = prepared(
        path, "--dataset_mixture.datasets.0.rename", "{question: prompt, reply: completion}", *no_think
    )
    assert len(splits["train"]) == 1
    with pytest.raises(UserError, match=r"dataset_mixture.datasets.0.format: expected one of messages, .*, got alpca"):
        prepared(path, "--dataset_mixture.datasets.0.format", "alpca")


def test_plain_text_is_trained_as_a_whole_and_ends(training_recipe, tokenizer):
    _, splits, stats = prepared(training_recipe([{"text": "the cat sat"}, {"text": "a dog ran"}]))
    assert {tokenizer.decode(d) for d in documents_of(splits["train"])} == {
        "the cat sat<|im_end|>",
        "a dog ran<|im_end|>",
    }
    (row,) = [r for r in stats["sources"] if r["kept"]]
    assert row["mode"] == "text"
    assert row["trained"] == row["tokens"] - 2


def test_a_row_counts_as_what_it_says_where_the_template_knows_no_modes(training_recipe):

    rows = [chat("Q?", "A") for _ in range(3)] + [chat("Q?", "<think>\nso\n</think>\nA")]
    _, _, stats = prepared(training_recipe(rows, chat_template=CHATML))
    kept = {s["mode"]: s["kept"] for s in stats["sources"] if s["kept"]}
    assert kept == {"no_think": 3, "think": 1}


def test_a_control_word_that_is_no_token_is_named(training_recipe):
    from apo_soup.config.load import load
    from apo_soup.models.recipe_tokenizer import recipe_tokenizer

    template = CHATML.replace("<|im_start|>", "<|turn|>")
    for new, named in ((), 1), (("--add_special_tokens", "<|turn|>", "--resize_embeddings", "true"), 0):
        recipe = load(training_recipe(ROWS, chat_template=template), "sft", list(new))
        said = []
        prepare_mixture(recipe, recipe_tokenizer(recipe), said.append)
        notes = [line for line in said if "chat template writes <|turn|>, which the tokenizer cuts into pieces" in line]
        assert len(notes) == named


def test_nulls_inside_calls_are_missing_keys_and_a_line_says_so(training_recipe, tokenizer):
    def of_mixture(said, **entry):
        """The calls of the rows as they are read, and in `said` the notes of a preparation."""
        call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": None}}}
        rows = [
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [call]}]}
        ]
        path = training_recipe(rows * 3)
        words = [f"--dataset_mixture.datasets.0.{key}={value}" for key, value in entry.items()]
        recipe = load(path, "sft", ["--chat_template_kwargs={enable_thinking: false}", *words])
        prepare_mixture(recipe, tokenizer, said.append)
        sources = mixture_sources(recipe)
        return [row.fields["messages"][1]["tool_calls"][0]["function"] for source in sources for row in source.rows]

    said: list[str] = []
    assert of_mixture(said) == [{"name": "add", "arguments": {"a": 1}}] * 3
    (line,) = [line for line in said if "nulls" in line]
    assert line.startswith("note: nulls inside the calls or tools of 3 rows of ")
    assert line.endswith("where they are meant, write keep_nulls: true for the source")
    assert of_mixture(said, keep_nulls="true") == [{"name": "add", "arguments": {"a": 1, "b": None}}] * 3
    assert sum("nulls" in line for line in said) == 1
