"""Pairs of a model in this process: provenance, restarts, the same rows again, and what a file gets wrong."""

import json
import re
import time

import pytest
from helpers import chat, python
from programs import Programs, kill_when, run_ok

from apo_soup.config.load import load
from apo_soup.errors import UserError

SERVED = {"model": "m", "base_url": "http://x/v1"}


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def journal_lines(folder):
    """How many whole lines the journals beside a pairs folder have."""
    return sum(f.read_bytes().count(b"\n") for f in (folder.parent / "answers").glob("*.jsonl"))


def test_pairs_carry_where_they_come_from_and_every_prompt_is_accounted_for(
    pairs_recipe, talking_model, capsys, make_here
):
    path, folder = pairs_recipe(test_share=0.3, length_balance=0.6)
    make_here(path)
    shown = capsys.readouterr().out
    metrics = json.loads((folder / "manifest.json").read_text())["metrics"]
    pairs = rows_of(folder / "train.jsonl") + rows_of(folder / "test.jsonl")
    drops = rows_of(folder / "drops.jsonl")
    assert len(pairs) == metrics["kept"] > 5
    assert len(pairs) + len(drops) == 24
    assert sum(metrics["drops"].values()) == len(drops)
    assert len({p["provenance"]["prompt"] for p in pairs} | {d["prompt"] for d in drops}) == 24
    for pair in pairs:
        told = pair["provenance"]
        assert pair["chosen"] != pair["rejected"]
        assert pair["chat_template_kwargs"] == {"enable_thinking": False}
        assert told["strong"]["model"] == str(talking_model)
        assert (told["strong"]["temperature"], told["weak"]["temperature"]) == (0.7, 1.2)
        assert (told["strong"]["engine"], told["strong"]["seed"], told["strong"]["candidates"]) == (
            "transformers",
            5,
            2,
        )
        assert len(told["strong"]["template"]) == len(told["strong"]["content"]) == 64
        assert told["verdicts"] == {"chosen": None, "rejected": None}
        assert 0 < told["tokens"]["chosen"] <= 24
    longer = sum(p["provenance"]["tokens"]["chosen"] > p["provenance"]["tokens"]["rejected"] for p in pairs)
    assert longer <= 0.6 * len(pairs)
    assert metrics["chosen_longer"] == pytest.approx(longer / len(pairs), abs=1e-4)
    assert f"pairs kept            {len(pairs)}" in shown
    make_here(path, "--filters", "{min_tokens: 4}")
    assert capsys.readouterr().out.count("24 of 24 answered already") == 2, "another filter asks nothing again"
    preview = run_ok("-m", "apo_soup", "preview", "--config", path, "--rows", "2")
    assert "chosen (" in preview


def test_killed_runs_end_with_the_rows_of_one_that_was_not(pairs_recipe, tmp_path, make_here):
    """Killed as soon as a new batch is in the journal, twice over; the answers are the same bytes."""
    path, folder = pairs_recipe(count=30, batch_size=4)
    make_here(path)
    path, killed = pairs_recipe(count=30, batch_size=4, name="killed")
    for _ in range(2):
        before = journal_lines(killed)
        kill_when(Programs("-m", "apo.pairs", "--config", path), lambda before=before: journal_lines(killed) > before)
    make_here(path)
    assert (killed / "train.jsonl").read_text() == (folder / "train.jsonl").read_text()


def test_no_pair_at_all_is_an_error_and_leaves_no_folder(tiny_model, write_rows, write_recipe, tmp_path, make_here):
    row = {"messages": chat("2 + 2?", "")["messages"][:1], "answer": "4"}
    other = {**row, "messages": chat("1 + 1?", "")["messages"][:1]}
    prompts = write_rows("prompts.jsonl", [row, other, {**row, "answer": "5"}])
    values = {
        "output_dir": str(tmp_path / "pairs"),
        "prompts": str(prompts),
        "mode": "think",
        "strong": {"model": str(tiny_model)},
        "weak": {"model": str(tiny_model), "temperature": 1.5},
        "verifier": "number",
        "max_new_tokens": 4,
    }
    path = write_recipe("pairs.yaml", values)
    with pytest.raises(UserError, match=r"got none of 2 prompts \(2 strong: cut off, 1 duplicate prompt\)"):
        make_here(path)
    assert not (tmp_path / "pairs").exists()
    prompts.write_text(json.dumps({**row, "answer": "Paris"}) + "\n")
    with pytest.raises(UserError, match=f"{prompts}:1: field answer: .*number.*'Paris'"):
        make_here(path)
    prompts.write_text(json.dumps({"messages": row["messages"]}) + "\n")
    with pytest.raises(UserError, match="expected a field answer in the rows to verify answers by, got none"):
        make_here(path)


@pytest.mark.parametrize(
    ("changes", "key", "told"),
    [
        ({"strong": {"model": "x", "temprature": 1}}, "strong.temprature", "the nearest is temperature"),
        ({"strong": {"temperature": 1}}, "strong.model", "expected text, got nothing"),
        ({"weak": {"model": "m", "engine": "openai"}}, "weak.base_url", "expected text, got nothing"),
        ({"weak": {**SERVED, "batch_size": 4}}, "weak.batch_size", "expected a key of openai, got one of transformers"),
        ({"strong": {"model": "m", "engine": "vlm"}}, "strong.engine", "expected one of transformers, vllm, openai"),
        ({"strong": {"model": "m", "engine": ["vllm"]}}, "strong.engine", "expected one of transformers, vllm, openai"),
        ({"mode": "thinking"}, "mode", "expected one of think, no_think, got 'thinking'"),
        ({"keep": "right_over_wrong"}, "keep", "expected verifier beside right_over_wrong"),
        ({"filters": {"near": 2}}, "filters.near", "expected a number above 0 and at most 1, got 2"),
        ({"filters": {"langauge": True}}, "filters.langauge", "the nearest is language"),
        ({"filters": {"min_tokens": "x"}}, "filters.min_tokens", "expected a whole number of 0 or more, got 'x'"),
        ({"candidates": 0}, "candidates", "expected a whole number of 1 or more, got 0"),
        ({"candidates": "two"}, "candidates", "expected a whole number of 1 or more, got 'two'"),
        ({"prompts": [{"split": "train"}]}, "prompts.0.id", "expected text, got nothing"),
        ({"format": "csv"}, "format", "expected one of jsonl, parquet"),
        ({"chat_template_kwargs": 5}, "chat_template_kwargs", "expected a mapping without enable_thinking"),
        ({"weak": {**SERVED, "base_url": "http://[::1/v1"}}, "weak.base_url", "got 'http://[::1/v1'"),
        ({"weak": {**SERVED, "base_url": "localhost:80"}}, "weak.base_url", "begin it with http:// or https://"),
        (
            {"weak": {**SERVED, "extra_body": {"chat_template_kwargs": {}}}},
            "weak.extra_body",
            "expected no chat_template_kwargs, which is a key",
        ),
        (
            {"strong": {"model": "m", "engine": "vllm", "engine_kwargs": {"dtype": "auto"}}},
            "strong.engine_kwargs",
            "expected no dtype, which is a key of its own",
        ),
        ({"strong": {"model": "m", "engine": "vllm", "temperature": 3.0}}, "strong.temperature", "at most 2"),
    ],
)
def test_a_mistake_in_a_pairs_file_is_told_with_its_key(pairs_recipe, changes, key, told):
    path, _ = pairs_recipe(**changes)
    with pytest.raises(UserError) as error:
        load(path, "pairs")
    (sentence,) = str(error.value).splitlines()
    assert re.match(rf"{re.escape(str(path))}:\d+: {re.escape(key)}: ", sentence)
    assert told in sentence


def test_mistakes_are_told_at_once(pairs_recipe):
    """Before torch is imported; the models and rows that a file names are looked for then too."""
    path, _ = pairs_recipe(prompts="nowhere.jsonl")
    started = time.monotonic()
    result = python("-m", "apo.pairs", "--config", path)
    assert time.monotonic() - started < 5
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {path}:2: ")
    assert "nowhere.jsonl" in result.stderr


def test_pairs_may_be_parquet_with_bad_rows_listed(pairs_recipe, write_rows, make_here):
    path, folder = pairs_recipe(format="parquet", max_reject_share=0.2, count=12)
    rows = [{"prompt": f"Say {n}"} for n in range(12)] + [{"prompt": "Say 3"}, {"prompt": 5}]
    write_rows("prompts.jsonl", rows)
    make_here(path)
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "train.parquet").to_pylist()
    metrics = json.loads((folder / "manifest.json").read_text())["metrics"]
    assert len(table) == metrics["kept"] > 0
    assert metrics["drops"]["duplicate prompt"] == 1
    (reject,) = rows_of(folder / "rejects.jsonl")
    assert reject["row"].endswith("prompts.jsonl:14")
    assert {"prompt", "chosen", "rejected", "provenance"} <= table[0].keys()


def test_the_benchmark_asks_as_a_recipe_does():
    from argparse import Namespace

    from bench.pairs import transformers_side

    side = transformers_side("m", 2, Namespace(tokens=7))
    assert (side.sampling.max_new_tokens, side.sampling.temperature, side.sampling.top_k) == (7, 1.0, 0)
    assert (side.batch_size, side.candidates) == (2, 1)


def test_a_further_field_that_takes_the_place_of_a_key_is_told(pairs_recipe):
    """Every candidate would be drawn with one seed."""
    path, _ = pairs_recipe(
        weak={**SERVED, "extra_body": {"seed": 1, "n": 4, "top_p": 0.5, "max_tokens": None, "model": None}}
    )
    told = [note.rpartition(": weak.extra_body: ")[2] for note in load(path, "pairs").notes if "extra_body" in note]
    assert told == [
        "its seed takes the place of the key seed",
        "its n takes the place of the one that every request has",
        "its max_tokens is null, so no request has that field",
        "its model is null, and every request has that field all the same",
    ]
