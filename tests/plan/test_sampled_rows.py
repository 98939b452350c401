"""The figures of rows by a sample of them, beside those of them all."""

import json
from dataclasses import replace

import pytest
from helpers import TRAINING, chat
from transformers import AutoTokenizer

from apo_soup.config.load import load
from apo_soup.data.prepare import prepare_mixture
from apo_soup.errors import UserError
from apo_soup.plan.row_counts import row_counts
from apo_soup.plan.sampled_rows import sampled_counts


@pytest.fixture
def sources(write_rows, write_recipe, tiny_model, tmp_path):
    """A recipe of 400 short rows of one source, one of which is none, and 100 long ones of another."""
    short = [chat(f"Say {n}", f"It is {n}.", False) for n in range(400)]
    long = [chat(f"Say {n} often", f"It is {n}. " * 12, False) for n in range(100)]
    write_rows("long.jsonl", long)
    text = "".join(json.dumps(row) + "\n" for row in short[:200]) + "{\n"
    (tmp_path / "short.jsonl").write_text(text + "".join(json.dumps(row) + "\n" for row in short[201:]))
    values = {"model_name_or_path": str(tiny_model), "output_dir": str(tmp_path / "run" / "sft"), **TRAINING}
    ids = [{"id": str(tmp_path / name), "weight": weight} for name, weight in (("short.jsonl", 0.5), ("long.jsonl", 1))]
    mixture = {"datasets": ids, "test_split_size": 50}
    return load(write_recipe("sft.yaml", values | {"dataset_mixture": mixture, "max_reject_share": 0.1}), "sft")


def test_a_sample_tells_of_all_rows_within_its_noise_and_leaves_nothing(sources, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(sources.model_name_or_path)
    counts, told = sampled_counts(sources, tokenizer, 200)
    assert told == f"{sources.path}: rows, tokens and steps are estimated from 200 of 500 rows"
    assert not (tmp_path / "run").exists()
    exact = row_counts(prepare_mixture(sources, tokenizer), False)
    assert counts.rows == pytest.approx(exact.rows, rel=0.02)
    for name in ("tokens", "trained", "squares", "held_out"):
        assert getattr(counts, name) == pytest.approx(getattr(exact, name), rel=0.1), name
    assert counts.longest <= exact.longest
    again, _ = sampled_counts(sources, tokenizer, 200)
    assert replace(again, folder_bytes=counts.folder_bytes) == counts, "but for the seconds that a folder tells"


def test_a_small_weight_and_bad_rows_end_no_sample_and_sentences_name_the_sources(
    write_rows, write_recipe, tiny_model, tmp_path
):
    few = [chat(f"Say {n}", f"It is {n}.", False) for n in range(200)]
    write_rows("few.jsonl", few)
    bad = [{"messages": 5} if n % 4 == 0 else row for n, row in enumerate(few)]
    write_rows("bad.jsonl", bad)
    values = {"model_name_or_path": str(tiny_model), "output_dir": str(tmp_path / "run" / "sft"), **TRAINING}
    ids = [{"id": str(tmp_path / "few.jsonl"), "weight": 0.01}, {"id": str(tmp_path / "bad.jsonl")}]
    mixture = {"datasets": ids, "deduplicate": "exact"}
    recipe = load(write_recipe("sft.yaml", values | {"dataset_mixture": mixture}), "sft")
    tokenizer = AutoTokenizer.from_pretrained(recipe.model_name_or_path)
    counts, told = sampled_counts(recipe, tokenizer, 40)
    assert counts.rows == pytest.approx(152, abs=30)
    assert told.endswith("what deduplicate drops is not, for copies are rare in a sample")
    think = [chat(f"Say {n}", f"It is {n}.", True) for n in range(200)]
    write_rows("bad.jsonl", think)
    with pytest.raises(UserError, match=r"bad.jsonl:\d+") as refused:
        sampled_counts(recipe, tokenizer, 40)
    assert "apo-soup-sample" not in str(refused.value)


def test_a_mixture_by_tokens_is_estimated_as_it_is_drawn(write_rows, write_recipe, tiny_model, tmp_path):
    """Of a source of few long rows a sample has too few to meet a share of the tokens within 1 %."""
    write_rows("few.jsonl", [chat(f"Say {n}", f"It is {n}. " * (3 + n % 9), False) for n in range(60)])
    write_rows("many.jsonl", [chat(f"Say {n}", f"It is {n}.", False) for n in range(1200)])
    values = {"model_name_or_path": str(tiny_model), "output_dir": str(tmp_path / "run" / "sft"), **TRAINING}
    ids = [{"id": str(tmp_path / f"{name}.jsonl"), "token_share": s} for name, s in (("few", 0.7), ("many", 0.3))]
    recipe = load(write_recipe("sft.yaml", values | {"dataset_mixture": {"datasets": ids}}), "sft")
    tokenizer = AutoTokenizer.from_pretrained(recipe.model_name_or_path)
    counts, _ = sampled_counts(recipe, tokenizer, 126)
    exact = row_counts(prepare_mixture(recipe, tokenizer), False)
    for name in ("rows", "tokens", "trained"):
        assert getattr(counts, name) == pytest.approx(getattr(exact, name), rel=0.25), name


def test_a_sample_of_more_rows_than_there_are_is_none(sources):
    tokenizer = AutoTokenizer.from_pretrained(sources.model_name_or_path)
    assert sampled_counts(sources, tokenizer, 500) == (None, "")
