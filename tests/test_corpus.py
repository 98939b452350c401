"""Rows of every format, the draw, and `prepare` from rows to a folder: counts, overflow, cache, kills, processes."""

import codecs
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest
from helpers import ROOT, chat, preference, python, run_ok

from apo_soup.data.conversation import pair, supervised
from apo_soup.data.formats import canonical, formats_of, recognise
from apo_soup.data.preview import side_by_side
from apo_soup.data.rows import Row, RowError, Source, drawn, read
from apo_soup.errors import UserError

MESSAGES = chat("What?", "That.")["messages"]
ROWS = [chat(f"What is {a} + {b}?", f"It is {a + b}", False) for a in range(9) for b in range(9)]


def parsed(row, stage="sft"):
    """A row through its recognised format; returns the format's name and what came of it."""
    shape = recognise(row, formats_of(stage))
    make = pair if stage == "apo" else supervised
    return shape.name, make(canonical(row, shape), {})


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("messages", {"messages": MESSAGES, "prompt": "What?"}),
        ("sharegpt", {"conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]}),
        (
            "sharegpt",
            {"conversations": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "That."}]},
        ),
        ("alpaca", {"instruction": "What?", "input": "", "output": "That.", "text": "Below is an instruction"}),
        ("prompt_completion", {"prompt": "What?", "completion": "That."}),
    ],
)
def test_every_supervised_format_becomes_the_same_messages(name, row):
    found, item = parsed(row)
    assert found == name
    assert item.messages == MESSAGES


def test_plain_text_stays_text():
    assert parsed({"text": "Once upon a time"})[1].text == "Once upon a time"
    with pytest.raises(RowError, match="field text: it is empty"):
        parsed({"text": " "})


def test_sharegpt_calls_and_observations_become_tool_turns():
    turns = [
        {"from": "human", "value": "1 + 2?"},
        {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1, "b": 2}}'},
        {"from": "observation", "value": "3"},
        {"from": "gpt", "value": "3"},
    ]
    tools = '[{"name": "add"}]'
    _, item = parsed({"conversations": turns, "system": "Calculate.", "tools": tools})
    assert [m["role"] for m in item.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert item.messages[2]["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 1, "b": 2}}
    assert item.kwargs["tools"] == [{"name": "add"}]


def test_alpaca_puts_the_input_below_and_the_history_before():
    row = {"instruction": "Add.", "input": "1, 2", "output": "3", "history": [["Hi", "Hello"]], "system": "Be brief."}
    contents = [m["content"] for m in parsed(row)[1].messages]
    assert contents == ["Be brief.", "Hi", "Hello", "Add.\n\n1, 2", "3"]


PROMPT = [{"role": "user", "content": "What?"}]
GOOD, BAD = [{"role": "assistant", "content": "That."}], [{"role": "assistant", "content": "No."}]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("preference", {"prompt": "What?", "chosen": "That.", "rejected": "No."}),
        ("preference", {"prompt": PROMPT, "chosen": GOOD, "rejected": BAD}),
        ("preference", {"prompt": "What?", "chosen": PROMPT + GOOD, "rejected": PROMPT + BAD}),
        ("preference", {"chosen": PROMPT + GOOD, "rejected": PROMPT + BAD}),
        (
            "sharegpt_preference",
            {
                "conversations": [{"from": "human", "value": "What?"}],
                "chosen": {"from": "gpt", "value": "That."},
                "rejected": {"from": "gpt", "value": "No."},
            },
        ),
    ],
)
def test_every_preference_format_becomes_the_same_pair(name, row):
    found, item = parsed(row, "apo")
    assert found == name
    assert (item.prompt, item.chosen, item.rejected) == (PROMPT, GOOD, BAD)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {"conversations": [{"from": "alien", "value": "x"}]},
            r"conversations\[0\].from: expected one of .*found 'alien'",
        ),
        ({"conversations": "x"}, "conversations: expected a list of turns, found str 'x'"),
        ({"conversations": [{"from": "function_call", "value": "{"}]}, r"conversations\[0\].value: .* as JSON"),
        ({"instruction": 3, "output": "x"}, "field instruction: expected text, found int 3"),
        ({"instruction": "x", "output": "y", "history": ["a"]}, "field history: expected a list"),
    ],
)
def test_a_row_that_breaks_its_format_names_the_field(row, reason):
    with pytest.raises(RowError, match=reason):
        parsed(row)


def test_rows_read_the_same_from_every_kind_of_file(tmp_path, write_rows):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [*ROWS[:5], {"messages": MESSAGES}]
    table = pa.Table.from_pylist(rows)
    write_rows("r.jsonl", rows)
    (tmp_path / "list.json").write_text(json.dumps(rows))
    (tmp_path / "inside.json").write_text(json.dumps({"version": 1, "data": rows}))
    (tmp_path / "lines.json").write_text("".join(json.dumps(r) + "\n" for r in rows))
    pq.write_table(table, tmp_path / "r.parquet")
    with pa.ipc.new_stream(str(tmp_path / "stream.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pa.ipc.new_file(str(tmp_path / "file.arrow"), table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "bom.jsonl").write_bytes(codecs.BOM_UTF8 + (tmp_path / "r.jsonl").read_bytes())
    files = (
        "r.jsonl",
        "bom.jsonl",
        "list.json",
        "inside.json",
        "lines.json",
        "r.parquet",
        "stream.arrow",
        "file.arrow",
    )
    for name in files:
        assert [r.fields for r in read(Source(str(tmp_path / name)), "x")] == rows, name
    found = list(read(Source(str(tmp_path / "*.arrow")), "x"))
    assert [r.fields for r in found] == rows * 2
    assert found[0].place == f"{tmp_path}/file.arrow:row 0"
    (tmp_path / "one[1].json").write_text(json.dumps(rows[0]))
    assert [r.fields for r in read(Source(str(tmp_path / "one[1].json")), "x")] == rows[:1]


def test_files_that_are_not_what_they_say_are_told(tmp_path):
    for name, content, reason in (
        ("a.json", "[1, 2", "a.json:1 is not valid JSON at column 6"),
        ("b.json", "3", "b.json holds no list of rows"),
        ("c.parquet", "no", "c.parquet cannot be read as parquet"),
        ("d.arrow", "no", "d.arrow cannot be read as arrow"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=reason):
            list(read(Source(str(tmp_path / name)), "x.yaml:3"))


def test_columns_are_chosen_and_renamed(write_rows):
    path = str(write_rows("r.jsonl", [{"question": "What?", "reply": "That.", "other": 1}]))
    entry = {"id": path, "columns": ["question", "reply"], "rename": {"question": "prompt", "reply": "completion"}}
    assert [r.fields for r in read(Source.from_entry(entry), "x")] == [{"prompt": "What?", "completion": "That."}]
    with pytest.raises(UserError, match=r"x: no row of .* has a column colour"):
        list(read(Source.from_entry({"id": path, "rename": {"colour": "prompt"}}), "x"))


@pytest.mark.parametrize("weight", [0.02, 0.25, 0.5, 0.999, 1.0, 2.0, 2.5])
@pytest.mark.parametrize("count", [1, 10, 1023, 1025, 5000])
def test_the_draw_takes_exactly_its_share_seeded(weight, count):
    rows = [Row(str(n), {}) for n in range(count)]
    taken = [times for _, times in drawn(iter(rows), weight, 7, 0)]
    assert len(taken) == count
    assert sum(taken) == int(weight) * count + round(weight % 1 * count)
    assert set(taken) <= {int(weight), int(weight) + 1}
    assert taken == [times for _, times in drawn(rows, weight, 7, 0)]
    if weight % 1 > 0.1 and count > 1000:
        assert taken != [times for _, times in drawn(rows, weight, 8, 0)]
        assert taken != [times for _, times in drawn(rows, weight, 7, 1)]


@pytest.fixture
def corpus_recipe(write_rows, write_recipe, tiny_model, tmp_path):
    """A recipe for `apo-soup prepare` over the given rows; keyword arguments override its keys."""

    def make(rows=None, mixture=None, name="sft", **changes):
        sources = {"datasets": [{"id": str(write_rows("rows.jsonl", rows))}]} if rows is not None else {}
        values = {
            "model_name_or_path": str(tiny_model),
            "output_dir": str(tmp_path / "run" / name),
            "dataset_mixture": {**sources, **(mixture or {})},
            "max_length": 128,
        }
        if name == "sft":
            values |= {"assistant_only_loss": True, "packing": True}
        return write_recipe(f"{name}.yaml", values | changes)

    return make


def prepared(path, *words):
    """Prepare in this process; returns the folder, its splits and its counts."""
    from datasets import load_from_disk

    from apo_soup.config.kinds import stage_of_file
    from apo_soup.config.recipe import load
    from apo_soup.data.prepare import prepare
    from apo_soup.models.tokenizer import recipe_tokenizer

    recipe = load(path, stage_of_file(path), list(words))
    folder = prepare(recipe, recipe_tokenizer(recipe), lambda text: None)
    return folder, load_from_disk(str(folder)), json.loads((folder / "stats.json").read_text())


def documents(rows):
    """The documents of packed rows, as lists of ids."""
    out = []
    for row in rows:
        place = 0
        for length in row["seq_lengths"]:
            out.append(tuple(row["input_ids"][place : place + length]))
            place += length
    return out


def test_every_row_read_is_accounted_for_by_source_and_mode(corpus_recipe, write_rows, tmp_path):
    think = [chat(f"Q{n}?", f"<think>\nhm {n}\n</think>\n{n}", True) for n in range(10)]
    other = write_rows("other.jsonl", think + ROWS[:10])
    bad = [*ROWS[:40], {"messages": []}]
    sources = [{"id": str(other), "weight": 0.5}, {"id": str(write_rows("bad.jsonl", bad)), "weight": 2.0}]
    folder, _, stats = prepared(corpus_recipe(mixture={"datasets": sources}, max_reject_share=0.1))
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
    assert reject["reason"] == "field messages: expected a list of turns, found list []"


def test_a_source_that_is_listed_twice_has_a_line_each(corpus_recipe, write_rows):
    """The same file for both modes, say: its rows are not summed into one line."""
    rows = str(write_rows("rows.jsonl", ROWS[:10]))
    sources = [{"id": rows}, {"id": rows, "weight": 0.5, "chat_template_kwargs": {"date_string": "2025-07-01"}}]
    _, _, stats = prepared(corpus_recipe(mixture={"datasets": sources}))
    kept = {r["source"].rpartition("/")[2]: r["kept"] for r in stats["sources"] if r["kept"]}
    assert kept == {"rows.jsonl": 10, "rows.jsonl #2": 5}


def test_weight_above_one_repeats_in_training_and_never_in_the_held_out_rows(corpus_recipe):
    path = corpus_recipe(ROWS[:40])
    words = ("--dataset_mixture.datasets.0.weight", "2.0", "--dataset_mixture.test_split_size", "0.25")
    _, splits, _ = prepared(path, *words)
    train, test = documents(splits["train"]), documents(splits["test"])
    assert len(train) == 60
    assert len(set(train)) == 30
    assert len(test) == len(set(test)) == 10
    assert not set(train) & set(test)


@pytest.mark.parametrize("overflow", ["truncate", "drop", "split"])
def test_overflow_is_counted_and_the_rest_is_whole(corpus_recipe, tokenizer, overflow):
    long = chat("Count.", "one two three four five " * 40, False)
    _, splits, stats = prepared(corpus_recipe([*ROWS[:20], long], overflow=overflow, max_length=96))
    whole = tokenizer.apply_chat_template(long["messages"], enable_thinking=False, tokenize=False).rstrip("\n")
    count = len(tokenizer(whole, add_special_tokens=False).input_ids)
    found = documents(splits["train"])
    total = stats["total"]
    if overflow == "truncate":
        assert (total["lost"], total["kept"], total["long"]) == (pytest.approx(count - 96, abs=1), 21, 0)
    elif overflow == "drop":
        assert (total["lost"], total["kept"], total["long"]) == (pytest.approx(count, abs=1), 20, 1)
    else:
        assert (total["lost"], total["kept"], total["long"]) == (0, 21, 0)
        assert len(found) > 21
    assert max(map(len, found)) <= 96


@pytest.mark.parametrize("think", [True, False])
def test_a_truncated_answer_is_trained_up_to_the_cut(corpus_recipe, tokenizer, think):
    thought = "<think>\nhm\n</think>\n" if think else ""
    answer = thought + "one two three four five " * 40
    _, splits, _ = prepared(corpus_recipe([*ROWS[:3], chat("Count.", answer, think)], max_length=96))
    (cut,) = [row for row in splits["train"] if "one two" in tokenizer.decode(row["input_ids"])]
    start = sum(cut["seq_lengths"][: cut["seq_lengths"].index(96)])
    labels = cut["labels"][start : start + 96]
    trained = tokenizer.decode([i for i in labels if i != -100])
    assert answer.startswith(trained)
    assert len(trained) > 100
    first = next(n for n, i in enumerate(labels) if i != -100)
    assert all(i != -100 for i in labels[first:]), "from its first word to the cut"


def test_many_processes_make_the_same_rows_as_one(corpus_recipe):
    path = corpus_recipe(ROWS * 4, max_reject_share=0.5)
    _, one, _ = prepared(path, "--output_dir", str(path.parent / "one" / "sft"))
    folder = path.parent / "two" / "sft"
    run_ok("-m", "apo_soup", "prepare", "--config", path, "--output_dir", folder, "--dataset_num_proc", "2")
    _, two, _ = prepared(path, "--output_dir", str(folder))
    assert one["train"].to_list() == two["train"].to_list()


def test_unchanged_content_is_found_and_anything_changed_is_not(corpus_recipe, write_rows):
    path = corpus_recipe(ROWS)
    first, *_ = prepared(path)
    assert prepared(path, "--learning_rate", "0.5", "--dataset_num_proc", "2")[0] == first
    changed = [
        prepared(path, *words)[0]
        for words in (
            ("--max_length", "127"),
            ("--dataset_mixture.seed", "9"),
            ("--overflow", "drop"),
            ("--chat_template_kwargs", "{date_string: 1 May 2026}"),
            ("--dataset_mixture.datasets.0.weight", "0.5"),
            ("--packing_strategy", "wrapped"),
        )
    ]
    write_rows("rows.jsonl", ROWS[:-1])
    changed.append(prepared(path)[0])
    assert len({first, *changed}) == 8


def test_two_processes_at_once_make_the_folder_once(corpus_recipe):
    path = corpus_recipe(ROWS * 20)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "apo_soup", "prepare", "--config", str(path)]
    running = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sum("prepared rows found" in output for output in outputs) == 1


def test_a_killed_preparation_leaves_nothing_half_made(corpus_recipe):
    path = corpus_recipe(ROWS * 400)
    folder = path.parent / "run" / "prepared"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "apo_soup", "prepare", "--config", path], cwd=ROOT, env=environment
    )
    while not any(f.stat().st_size for f in folder.glob(".sft-*.partial/spool.bin")):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(folder.glob("sft-*"))
    made, splits, _ = prepared(path)
    assert len(documents(splits["train"])) == 81 * 400
    assert sorted(f.name for f in made.iterdir()) == ["dataset_dict.json", "stats.json", "train"]
    assert [f.name for f in folder.iterdir() if not f.name.endswith(".lock")] == [made.name]


def sentences(seed: int, count: int = 60) -> str:
    generator = random.Random(seed)
    return " ".join(f"w{generator.randrange(2000)}" for _ in range(count))


def listed(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "dropped.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["exact", "near"])
def test_planted_duplicates_are_dropped_and_listed(corpus_recipe, kind):
    """Rows 21-30 are exact copies, 31-40 have one word more, 41-45 share half."""
    rows = [chat(f"Tell {n}", sentences(n), False) for n in range(20)]
    near = [chat(r["messages"][0]["content"], r["messages"][1]["content"] + " indeed", False) for r in rows[10:]]
    half = [chat(f"Say {n}", f"{sentences(n, 30)} {sentences(n + 100, 30)}", False) for n in range(5)]
    path = corpus_recipe([*rows, *rows[:10], *near, *half], max_length=512)
    folder, _, stats = prepared(path, "--dataset_mixture.deduplicate", kind)
    dropped = {int(d["row"].rpartition(":")[2]): d for d in listed(folder)}
    assert stats["total"]["duplicate"] == len(dropped)
    assert dropped[21] == {
        "source": str(path.parent / "rows.jsonl"),
        "row": f"{path.parent}/rows.jsonl:21",
        "reason": f"the same as {path.parent}/rows.jsonl:1",
        "kind": "duplicate",
    }
    assert set(dropped) == set(range(21, 31)) | (set(range(31, 41)) if kind == "near" else set())


QUESTION = "If a train leaves the old station at noon and another one leaves at two how far apart are they then"


def test_rows_that_an_evaluation_asks_for_are_removed_and_listed(corpus_recipe, write_rows):
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
    folder, splits, stats = prepared(corpus_recipe(rows), "--dataset_mixture.decontaminate", f"[{evals}]")
    found = listed(folder)
    assert [int(d["row"].rpartition(":")[2]) for d in found] == [1, 3, 5, 7, 9, 11, 13, 15, 17]
    assert all(d["kind"] == "contaminated" and "eval.jsonl" in d["reason"] for d in found)
    assert "shares 13 words with" in found[0]["reason"]
    assert stats["total"]["contaminated"] == 9
    assert len(documents(splits["train"])) == 12


def test_decontamination_takes_a_suite_file_and_changes_the_folder(corpus_recipe, write_rows, write_recipe, tmp_path):
    evals = write_rows("eval.jsonl", [{"messages": [{"role": "user", "content": QUESTION}], "answer": "3"}])
    task = {"name": "trains", "kind": "answer", "data": str(evals)}
    suite = write_recipe("eval.yaml", {"output_dir": str(tmp_path), "models": {}, "tasks": [task]})
    path = corpus_recipe([chat(QUESTION, "No idea", False), *ROWS[:5]])
    words = ("--dataset_mixture.decontaminate", f"[{suite}]")
    first, _, stats = prepared(path, *words)
    assert stats["total"]["contaminated"] == 1
    write_rows("eval.jsonl", [{"messages": [{"role": "user", "content": "Something else"}], "answer": "3"}])
    second, _, stats = prepared(path, *words)
    assert second != first
    assert stats["total"]["contaminated"] == 0
    with pytest.raises(UserError, match=r"rows\.jsonl:1 has no prompt to stay clear of; looked for question"):
        prepared(path, "--dataset_mixture.decontaminate", f"[{{id: {path.parent}/rows.jsonl, column: question}}]")


def test_pairs_are_deduplicated_cut_and_dropped_too(corpus_recipe):
    pairs = [preference(f"Q{n}", f"good {n}", f"bad {n}") for n in range(8)]
    long = preference("Q", "good " * 200, "bad " * 200)
    path = corpus_recipe([*pairs, pairs[3], long], name="apo")
    folder, splits, stats = prepared(path, "--dataset_mixture.deduplicate", "exact")
    assert (stats["total"]["kept"], stats["total"]["duplicate"]) == (9, 1)
    assert stats["total"]["lost"] > 100
    assert max(len(r["prompt_ids"]) + len(r["chosen_ids"]) for r in splits["train"]) == 128
    _, splits, stats = prepared(path, "--overflow", "drop")
    assert (stats["total"]["kept"], stats["total"]["long"]) == (9, 1)
    refused = python("-m", "apo_soup", "prepare", "--config", path, "--overflow", "split")
    assert refused.returncode == 2
    assert "a pair cannot be split; overflow is truncate or drop" in refused.stderr
    assert "duplicate" in listed(folder)[0]["kind"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"messages": [\n', "not valid JSON"),
        (b'{"messages": "\xff\xfe"}\n', "not valid UTF-8 at byte"),
        (b"[1]\n", "expected a JSON object, found list"),
        (json.dumps(chat("Q", "<think>\nno end", True)).encode() + b"\n", "opened and never closed"),
        (json.dumps(chat("Q", "")).encode() + b"\n", "the assistant turn is empty"),
        (json.dumps({"messages": MESSAGES[::-1]}).encode() + b"\n", "wrong order, assistant comes first"),
        (json.dumps(chat("word " * 200, "A", False)).encode() + b"\n", "no trained token among the first 128 tokens"),
    ],
)
def test_a_bad_row_is_listed_and_too_many_stop_the_run(corpus_recipe, line, reason):
    path = corpus_recipe(ROWS)
    rows = path.parent / "rows.jsonl"
    rows.write_bytes(rows.read_bytes() + line)
    with pytest.raises(UserError, match=r"1 of 82 rows cannot be used, more than max_reject_share 0\.01; the first is"):
        prepared(path)
    beside = path.parent / "run" / "prepared" / "sft-rejects.jsonl"
    reject = json.loads(beside.read_text())
    assert reject["row"] == f"{rows}:82"
    assert reason in reject["reason"]
    _, _, stats = prepared(path, "--max_reject_share", "0.02")
    assert (stats["total"]["read"], stats["total"]["kept"], stats["total"]["rejected"]) == (82, 81, 1)


def test_duplicates_are_told_by_what_is_said(corpus_recipe):
    """Other keys of a message do not make it another row; another call or mode does."""
    tagged = [{"messages": [{**m, "id": n} for m in MESSAGES], **mode(False)} for n in range(6)]
    calls = [
        {
            "messages": [MESSAGES[0], {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"n": n}}]}],
            "xml_tools": [{"name": "f"}],
            **mode(False),
        }
        for n in range(6)
    ]
    for kind in ("exact", "near"):
        _, _, stats = prepared(corpus_recipe(tagged + calls), "--dataset_mixture.deduplicate", kind)
        assert stats["total"]["duplicate"] == 5, kind


def mode(think):
    return {"chat_template_kwargs": {"enable_thinking": think}}


def test_a_prompt_is_found_in_system_turns_and_calls_too(corpus_recipe, write_rows):
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
    folder, _, _ = prepared(corpus_recipe(rows), "--dataset_mixture.decontaminate", f"[{evals}]")
    assert [int(d["row"].rpartition(":")[2]) for d in listed(folder)] == [1, 2]
    evals.write_text("{broken\n")
    with pytest.raises(UserError, match=r"eval\.jsonl:1: not valid JSON .* cannot be kept out"):
        prepared(corpus_recipe(rows), "--dataset_mixture.decontaminate", f"[{evals}]")


def test_a_source_that_gives_nothing_stops_the_run(corpus_recipe, write_rows):
    good, empty = write_rows("good.jsonl", ROWS * 3), write_rows("empty.jsonl", [])
    bad = write_rows("bad.jsonl", [{"messages": []}, {"messages": 3}])
    for other, reason in ((empty, "holds no row"), (bad, "gives no row to train on: of 2 rows 2 rejected")):
        path = corpus_recipe(mixture={"datasets": [{"id": str(good)}, {"id": str(other)}]}, max_reject_share=0.5)
        with pytest.raises(UserError, match=reason):
            prepared(path)
        assert not list((path.parent / "run" / "prepared").glob(".*partial")), "a failed run leaves no data"


def test_the_same_rows_are_drawn_under_every_path(corpus_recipe, write_rows):
    drawn_rows = []
    for name in ("one.jsonl", "two.jsonl"):
        source = {"id": str(write_rows(name, ROWS)), "weight": 0.5}
        path = corpus_recipe(
            mixture={"datasets": [source]}, output_dir=str(write_rows(name, ROWS).parent / name[:3] / "sft")
        )
        drawn_rows.append(sorted(documents(prepared(path)[1]["train"])))
    assert drawn_rows[0] == drawn_rows[1]


ODD_LINES = {
    "a lone surrogate": json.dumps(chat("\ud800", "A", False)),
    "the row has \ud800": json.dumps({"\ud800": 1}),
    "expected a list of tools": json.dumps({**chat("Q", "A"), "tools": {"name": "f"}}),
    "never closed": json.dumps(chat("Q", "Well: <think>\nhm")),
    "not usable JSON": '{"messages": ' + "9" * 5000 + "}",
    "custom_instructions: expected text": json.dumps(
        {**chat("Q", "A"), "chat_template_kwargs": {"custom_instructions": 5}}
    ),
}


@pytest.mark.parametrize("reason", ODD_LINES)
def test_odd_rows_are_rejected_and_not_a_traceback(corpus_recipe, reason):
    path = corpus_recipe(ROWS)
    with (path.parent / "rows.jsonl").open("a") as file:
        file.write(ODD_LINES[reason] + "\n")
    folder, _, _ = prepared(path, "--max_reject_share", "0.1")
    assert reason in json.loads((folder / "rejects.jsonl").read_text())["reason"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--max_length", "-5"), "max_length must be 1 or more, found -5"),
        (("--dataset_num_proc", "0"), "dataset_num_proc must be 1 or more"),
        (("--dataset_mixture.datasets.0.weight", ".inf"), "weight must be above 0, found inf"),
        (("--dataset_mixture.datasets.0.weight", ".nan"), "weight must be above 0, found nan"),
        (("--dataset_mixture.decontaminate_ngram", "0"), "decontaminate_ngram must be 2 or more"),
        (("--dataset_mixture.deduplicate", "fuzzy"), "must be one of exact, near"),
        (("--overflow", "cut"), "must be one of truncate, drop, split"),
        (("--packing_strategy", "wrapped", "--overflow", "drop"), "key overflow has no effect here"),
        (("--dataset_mixture.datasets.0.id", "."), "is not a data file"),
        (("--dataset_mixture.deduplicate_threshold", "0.05"), r"must be 0\.3 or more and below 1, found 0\.05"),
        (("--max_reject_share", "-1"), "max_reject_share must be between 0 and 1, found -1"),
        (("--dataset_mixture.datasets.0.rename", "{messages: 3}"), "rename must be a mapping from text to text"),
        (("--dataset_mixture.datasets.0.columns", "[messages, 3]"), "columns must be a list of text"),
        (("--chat_template_kwargs", "{1: a, b: c}"), "chat_template_kwargs must be a mapping with text keys"),
    ],
)
def test_values_that_mean_nothing_are_refused(corpus_recipe, words, reason):
    with pytest.raises(UserError, match=reason):
        prepared(corpus_recipe(ROWS[:5]), *words)


def test_a_date_that_yaml_reads_as_a_date_is_text(corpus_recipe, tokenizer):
    _, splits, _ = prepared(corpus_recipe(ROWS[:3]), "--chat_template_kwargs", "{date_string: 2025-07-01}")
    assert "Today Date: 2025-07-01" in tokenizer.decode(documents(splits["train"])[0])


def test_pairs_that_part_before_their_last_turn_are_no_pair():
    sides = [[*PROMPT, {"role": "assistant", "content": a}, *PROMPT, *GOOD] for a in ("one", "two")]
    with pytest.raises(RowError, match="3 turns follow the prompt and only the assistant's answer may"):
        pair({"chosen": sides[0], "rejected": sides[1]}, {})


def test_rows_of_no_known_format_say_what_to_do(corpus_recipe):
    path = corpus_recipe([{"question": "What?", "reply": "That."}])
    no_think = ("--chat_template_kwargs", "{enable_thinking: false}")
    with pytest.raises(UserError, match="have question, reply; they fit none of the formats messages, sharegpt"):
        prepared(path)
    _, splits, _ = prepared(
        path, "--dataset_mixture.datasets.0.rename", "{question: prompt, reply: completion}", *no_think
    )
    assert len(splits["train"]) == 1
    with pytest.raises(UserError, match="no format of this stage is called alpca; known: messages"):
        prepared(path, "--dataset_mixture.datasets.0.format", "alpca")


def test_plain_text_is_trained_as_a_whole_and_ends(corpus_recipe, tokenizer):
    _, splits, stats = prepared(corpus_recipe([{"text": "the cat sat"}, {"text": "a dog ran"}]))
    assert {tokenizer.decode(d) for d in documents(splits["train"])} == {"the cat sat<|im_end|>", "a dog ran<|im_end|>"}
    (row,) = [r for r in stats["sources"] if r["kept"]]
    assert row["mode"] == "text"
    assert row["trained"] == row["tokens"] - 2


def test_the_gate_stops_a_source_and_shows_the_row(corpus_recipe):
    path = corpus_recipe([*ROWS, chat("Q?", "no thought here", True)])
    result = python("-m", "apo_soup", "prepare", "--config", path)
    assert result.returncode == 2
    assert "rows.jsonl:82: a think row trains on no reasoning" in result.stderr
    assert "no thought here" in result.stderr
    assert not list((path.parent / "run" / "prepared").glob("sft-*"))


def test_preview_shows_rows_with_the_trained_tokens_marked(corpus_recipe):
    output = run_ok("-m", "apo_soup", "preview", "--config", corpus_recipe(ROWS), "--rows", "2")
    assert "<|im_start|>user\nWhat is 0 + 0?<|im_end|>\n" in output
    assert "<think>\n\n</think>\n«It is 0<|im_end|>»" in output
    assert output.count("--- ") == 2
    pairs = [preference("Why?", "because it is good", "because it is bad")]
    output = run_ok("-m", "apo_soup", "preview", "--config", corpus_recipe(pairs, name="apo"))
    assert "«because it is»" in output
    line = next(line for line in output.splitlines() if "bad<|im_end|>" in line)
    assert line.split(" | ")[0].strip() == "good<|im_end|>"


def test_side_by_side_wraps_both_answers(tokenizer):
    ids = {
        k: tokenizer(v, add_special_tokens=False).input_ids
        for k, v in {"prompt_ids": "Q", "chosen_ids": "a b " * 60, "rejected_ids": "c"}.items()
    }
    lines = side_by_side(ids, tokenizer).splitlines()
    assert all(" | " in line for line in lines[1:])
    assert "".join(line.split(" | ")[0].strip() for line in lines[2:]).replace(" ", "") == "ab" * 60


def test_faults_behind_the_rows_of_the_gate_are_rejected(corpus_recipe):
    """The gate reads the first 200 rows; what it would stop at later is listed row by row."""
    good = [chat(f"What is {n} + 1?", f"<think>\nso {n}\n</think>\n{n + 1}", True) for n in range(210)]
    empty = {
        "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "", "reasoning_content": "hm"}]
    }
    bad = {
        "a think row trains on no reasoning": chat("Q", "Just so", True),
        "a no-think row trains on reasoning": chat("Q", "Sure.\n<think>\nhm\n</think>\n4", False),
        "an answer is nothing but its end of turn": {**empty, "chat_template_kwargs": {"enable_thinking": False}},
        "the empty think block of no-think mode": chat("Q", "<think>\n\n</think>\n\n4", False),
    }
    folder, _, stats = prepared(corpus_recipe([*good, *bad.values()]), "--max_reject_share", "0.1")
    found = [json.loads(line)["reason"] for line in (folder / "rejects.jsonl").read_text().splitlines()]
    assert len(found) == len(bad)
    assert all(reason.startswith(told) for reason, told in zip(found, bad, strict=True))
    assert stats["total"]["kept"] == 210


def test_a_folder_found_is_held_to_the_share_of_rejects(corpus_recipe):
    path = corpus_recipe([*ROWS[:40], *[{"messages": "x"}] * 10])
    first, _, _ = prepared(path, "--max_reject_share", "0.5")
    with pytest.raises(
        UserError, match=r"10 of 50 rows cannot be used, .* the first is .*rows\.jsonl:41: field messages"
    ):
        prepared(path, "--max_reject_share", "0.01")
    assert prepared(path, "--max_reject_share", "0.2")[0] == first


def test_rows_that_change_while_they_are_read_make_no_folder(corpus_recipe):
    """Another process holds the lock; the file is cut before it lets go."""
    from filelock import FileLock

    from apo_soup.config.recipe import load
    from apo_soup.data.prepare import prepared_folder
    from apo_soup.models.tokenizer import recipe_tokenizer

    path = corpus_recipe(ROWS)
    recipe = load(path, "sft")
    folder = prepared_folder(recipe, recipe_tokenizer(recipe))
    folder.parent.mkdir(parents=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        process = subprocess.Popen(
            [sys.executable, "-m", "apo_soup", "prepare", "--config", str(path)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(6)
        rows = path.parent / "rows.jsonl"
        rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:30]))
    assert "a file of rows was written to while it was read; run again" in process.communicate()[1]
    assert process.returncode == 2
    assert not folder.exists()


def test_what_a_killed_preparation_left_is_removed_by_the_next(corpus_recipe, write_rows):
    path = corpus_recipe(ROWS)
    folder, _, _ = prepared(path)
    left = folder.parent / ".sft-0123456789abcdef.partial"
    left.mkdir()
    write_rows("rows.jsonl", ROWS[:50])
    prepared(path)
    assert not left.exists()


def test_wrapped_sequences_without_a_trained_token_are_kept_back_and_counted(corpus_recipe):
    rows = [chat("so " * 400, "Yes", False) for _ in range(10)]
    _, splits, stats = prepared(corpus_recipe(rows, packing_strategy="wrapped", max_length=64))
    labels = [[label for label in row["labels"] if label != -100] for row in splits["train"]]
    assert all(labels)
    packed = stats["packed"]
    assert packed["trained"] == sum(map(len, labels))
    assert packed["tokens"] + packed["untrained"] == stats["total"]["tokens"]
    assert packed["untrained"] > packed["tokens"]


def test_every_planted_near_duplicate_at_the_threshold_is_found(tmp_path):
    """One changed word in the middle of 49 leaves 40 of 50 runs of five (with the mode's name): 0.8 exactly."""
    from apo_soup.data.clean import Cleaner, Duplicates, jaccard

    cleaner, seen = Cleaner("near"), Duplicates(True, 0.8, tmp_path)
    generator = random.Random(0)
    for number in range(300):
        words = [f"w{generator.randrange(10**6)}" for _ in range(48)]
        for changed in (words, [*words[:24], "other", *words[25:]]):
            item = supervised({"text": " ".join(changed)}, {})
            mark = cleaner.fingerprint(item)
            found = seen.seen(mark, f"row {number}")
            if changed is words:
                first = mark
                assert found is None
        assert jaccard(first.shingles, mark.shingles) == pytest.approx(40 / 50)
        assert f"nearly the same as row {number} (similarity 0.80)" in found
    seen.close()
    assert not list(tmp_path.iterdir())
    smiles = [cleaner.fingerprint(supervised({"text": t}, {})) for t in ("\U0001f600 \U0001f44d", "\U0001f389")]
    assert smiles[0].minhash is None
    assert smiles[0].digest != smiles[1].digest


def test_a_source_may_set_template_arguments_below_those_of_its_rows(corpus_recipe, tokenizer, write_rows):
    plain = [chat(f"What is {n}?", f"It is {n}") for n in range(6)]
    own = {**chat("Why?", "<think>\nhm\n</think>\nSo", True)}
    source = {"id": str(write_rows("plain.jsonl", [*plain, own])), "chat_template_kwargs": {"enable_thinking": False}}
    _, splits, stats = prepared(corpus_recipe(mixture={"datasets": [source]}))
    assert {(r["mode"], r["kept"]) for r in stats["sources"] if r["kept"]} == {("no_think", 6), ("think", 1)}
    texts = [tokenizer.decode(d) for d in documents(splits["train"])]
    assert sum("<think>\n\n</think>" in t for t in texts) == 6


def test_nulls_and_globs_mean_the_same_in_every_kind_of_file(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    call = {"name": "f", "arguments": {"a": 0, "b": None}}
    rows = [{"messages": None, "prompt": "Hi", "completion": "Yes", "chat_template_kwargs": {"enable_thinking": None}}]
    deep = tmp_path / "d" / "x" / "y"
    deep.mkdir(parents=True)
    for folder in (tmp_path / "d", deep):
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    kinds = [list(read(Source(str(tmp_path / name)), "w")) for name in ("d/**/*.jsonl", "rows.parquet")]
    assert [len(k) for k in kinds] == [2, 1]
    for row in (*kinds[0], *kinds[1]):
        assert {k: v for k, v in row.fields.items() if v} == {"prompt": "Hi", "completion": "Yes"}
        assert "messages" not in row.fields
    (tmp_path / "calls.jsonl").write_text(json.dumps({"calls": [call], "x": None}) + "\n")
    (row,) = read(Source(str(tmp_path / "calls.jsonl")), "w")
    assert row.fields == {"calls": [call]}, "a null argument of a call is the author's"


def test_a_bad_text_in_a_table_is_one_bad_row(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.array([b"one", b"\xff\xfe", b"three"]).cast(pa.binary())
    column = pa.Array.from_buffers(pa.string(), 3, texts.buffers())
    pq.write_table(pa.table({"text": column}), tmp_path / "rows.parquet")
    found = list(read(Source(str(tmp_path / "rows.parquet")), "w"))
    assert [row.content for row in found] == [{"text": "one"}, None, {"text": "three"}]
    assert "not valid UTF-8" in found[1].problem


def test_a_plain_text_with_half_a_character_is_rejected(corpus_recipe):
    rows = [{"text": "bad \ud800 x"}, *({"text": f"good {n}"} for n in range(9))]
    folder, _, _ = prepared(corpus_recipe(rows), "--max_reject_share", "0.1")
    assert "a lone surrogate) at character 4" in json.loads((folder / "rejects.jsonl").read_text())["reason"]


def test_preview_tells_what_overflow_does(corpus_recipe):
    long = chat("Q", "so " * 400, False)
    for overflow, told in (("drop", "dropped: "), ("split", "[split into "), ("truncate", "beyond max_length 64]")):
        path = corpus_recipe([long, chat("Q", "A", False)], max_length=64, overflow=overflow)
        assert told in run_ok("-m", "apo_soup", "preview", "--config", path), overflow


def test_pairs_count_their_reasoning(corpus_recipe, tokenizer):
    thought = "<think>\nlong and good\n</think>\n"
    rows = [preference(f"Q {n}?", f"{thought}yes", f"{thought}no", True) for n in range(5)]
    _, splits, stats = prepared(corpus_recipe(rows, name="apo"))
    row = next(r for r in stats["sources"] if r["mode"] == "think")
    assert 0 < row["reasoning"] < row["trained"]
    answers = [pair_[side] for pair_ in splits["train"] for side in ("chosen_ids", "rejected_ids")]
    assert row["trained"] == sum(map(len, answers))
    texts = [tokenizer.decode(ids).partition("</think>")[2] for ids in answers]
    assert row["trained"] - row["reasoning"] == sum(
        len(tokenizer(t, add_special_tokens=False).input_ids) for t in texts
    )


@pytest.mark.parametrize("column", ["tools", "xml_tools", "python_tools"])
def test_an_empty_column_of_tools_says_nothing(column):
    row = chat("What?", "That.", False)
    for empty in ("", "  ", [], "[]"):
        assert column not in supervised({**row, column: empty}, {}).kwargs
        own = {**row, column: empty, "chat_template_kwargs": {column: [{"name": "f"}]}}
        assert supervised(own, {}).kwargs[column] == [{"name": "f"}]


def test_a_system_column_is_read_in_every_format():
    system = {"role": "system", "content": "Be brief."}
    for row in (
        {"messages": MESSAGES, "system": "Be brief."},
        {"prompt": "What?", "completion": "That.", "system": "Be brief."},
    ):
        assert parsed(row)[1].messages == [system, *MESSAGES]
    for row in (
        {"prompt": "What?", "chosen": "That.", "rejected": "No.", "system": "Be brief."},
        {"prompt": [system, *PROMPT], "chosen": PROMPT + GOOD, "rejected": PROMPT + BAD},
    ):
        assert parsed(row, "apo")[1].prompt == [system, *PROMPT]


def test_marks_beside_the_words_do_not_part_a_pair():
    sides = {s: [{**PROMPT[0], "id": s}, a] for s, a in (("chosen", GOOD[0]), ("rejected", BAD[0]))}
    item = parsed(sides, "apo")[1]
    assert (item.prompt[0]["content"], item.chosen, item.rejected) == ("What?", GOOD, BAD)
    same = {s: [{**PROMPT[0]}, {**GOOD[0], "id": s}] for s in ("chosen", "rejected")}
    with pytest.raises(RowError, match="both sides are the same"):
        parsed(same, "apo")


def test_a_renamed_column_takes_the_place_of_one_of_that_name(write_rows):
    rows = write_rows("r.jsonl", [{"question": "Q?", "prompt": "OTHER", "completion": "A"}])
    (row,) = read(Source(str(rows), rename=(("question", "prompt"),)), "here")
    assert row.fields == {"prompt": "Q?", "completion": "A"}


def test_a_column_of_nulls_may_be_named(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / "r.parquet"
    pq.write_table(pa.table({"text": ["a"], "tools": pa.array([None], pa.string())}), file)
    assert [r.fields for r in read(Source(str(file), columns=("text", "tools")), "here")] == [{"text": "a"}]


def test_a_bad_line_of_a_json_file_of_lines_is_one_bad_row(tmp_path):
    file = tmp_path / "r.json"
    good = [json.dumps({"text": t}).encode() for t in "abc"]
    file.write_bytes(b"\n".join([b"{broken", *good, b'{"text": "\xff"}']))
    rows = list(read(Source(str(file)), "here"))
    assert [r.content for r in rows] == [None, {"text": "a"}, {"text": "b"}, {"text": "c"}, None]
    assert rows[0].problem.startswith("not valid JSON")
    assert rows[-1].problem.startswith("not valid UTF-8")


@pytest.mark.parametrize(
    ("think", "chosen", "rejected", "reason"),
    [
        (False, "fine", "<think>\n\n</think>\nbad", "holds reasoning|empty think block"),
        (True, "fine", "bad", "the chosen answer of a think pair holds no reasoning"),
        (True, "<think>\na\n</think>\nfine <think> open", "bad", "field chosen: a think block is opened"),
    ],
)
def test_every_pair_is_held_to_its_mode(corpus_recipe, think, chosen, rejected, reason):
    good = ("<think>\na\n</think>\nyes", "<think>\na\n</think>\nno") if think else ("yes", "no")
    rows = [preference(f"Q{n}", *good, think) for n in range(210)] + [preference("Q", chosen, rejected, think)]
    folder, _, stats = prepared(corpus_recipe(rows, name="apo"), "--max_reject_share", "0.5")
    assert (stats["total"]["kept"], stats["total"]["rejected"]) == (210, 1)
    assert re.search(reason, json.loads((folder / "rejects.jsonl").read_text())["reason"])


def test_wrapped_documents_carry_no_label_over_their_start(corpus_recipe):
    """Each stretch of a sequence begins anew, so its first token has nothing before it to be foreseen from."""
    _, splits, _ = prepared(corpus_recipe(ROWS, packing_strategy="wrapped", max_length=13))
    starts = 0
    for row in splits["train"]:
        assert sum(row["seq_lengths"]) == len(row["input_ids"]) <= 13
        place = 0
        for length in row["seq_lengths"]:
            assert row["labels"][place] == -100
            starts += 1
            place += length
    assert starts > len(ROWS), "some documents were cut"


def test_a_row_counts_as_what_it_says_where_the_template_knows_no_modes(corpus_recipe):
    from conftest import CHATML

    rows = [chat("Q?", "A") for _ in range(3)] + [chat("Q?", "<think>\nso\n</think>\nA")]
    _, _, stats = prepared(corpus_recipe(rows, chat_template=CHATML))
    kept = {s["mode"]: s["kept"] for s in stats["sources"] if s["kept"]}
    assert kept == {"no_think": 3, "think": 1}


def test_reasoning_is_counted_where_a_long_prompt_is_split_off(corpus_recipe, tokenizer):
    rows = [chat("word " * 60, "<think>\nso it is\n</think>\nA", True)]
    _, _, stats = prepared(corpus_recipe(rows, overflow="split", max_length=48))
    (source,) = (s for s in stats["sources"] if s["kept"])
    assert 0 < source["reasoning"] < source["trained"]


def test_whole_rows_are_held_to_their_mode_too(corpus_recipe):
    rows = [chat("Q?", "A", False)] * 3 + [chat("Q?", "<think>\nso\n</think>\nA", False)]
    result = python("-m", "apo_soup", "prepare", "--config", corpus_recipe(rows, assistant_only_loss=False))
    assert result.returncode == 2
    assert "a no-think row trains on reasoning" in result.stderr


@pytest.mark.parametrize("beside", [{}, {"prompt": PROMPT}, {"system": "Be brief."}])
def test_conversations_that_share_no_prompt_are_no_pair(beside):
    other = [{"role": "user", "content": "Another?"}]
    for sides in ((PROMPT + GOOD, other + BAD), (PROMPT + PROMPT + GOOD, PROMPT + other + BAD)):
        with pytest.raises(RowError, match="they do not share a prompt that ends before an assistant turn"):
            parsed(dict(zip(("chosen", "rejected"), sides, strict=True)) | beside, "apo")
