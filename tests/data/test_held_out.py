"""Rows are held out by prompt: none is on both sides, the size is near what was asked, near prompts are counted."""

from collections import Counter

import pytest
from data_helpers import ROWS, documents_of, prepared
from helpers import chat, preference
from hypothesis import given
from hypothesis import strategies as st

from apo_soup.data.held_out import split_off, wanted
from apo_soup.data.statistics_table import statistics_table
from apo_soup.errors import UserError

SIZE = "--dataset_mixture.test_split_size"


def questions(tokenizer, split):
    prompts = [tokenizer.decode(row["prompt_ids"]) for row in split]
    return [prompt.split("<|im_start|>user\n")[1].split("<|im_end|>")[0] for prompt in prompts]


@pytest.mark.parametrize("size", ["0.1", "6"])
def test_pairs_of_a_prompt_are_on_one_side(training_recipe, tokenizer, size):
    """Twenty prompts of three pairs each: in both modes, and with the prompt as text."""
    pairs = []
    for n in range(20):
        question = f"What is {n}?"
        thought = "<think>\nhm\n</think>\n"
        pairs.append(preference(question, f"It is {n}", f"Not {n}"))
        pairs.append(preference(f" What  is {n}?", f"{thought}It is {n}", f"{thought}Not {n}", True))
        pairs.append({**preference("", f"So {n}", f"Nor {n}"), "prompt": question})
    _, splits, stats = prepared(training_recipe(pairs, name="apo"), SIZE, size)
    train, test = (Counter(" ".join(q.split()) for q in questions(tokenizer, splits[s])) for s in ("train", "test"))
    assert not train.keys() & test.keys()
    assert set(test.values()) == {3}
    assert (len(splits["train"]), len(splits["test"])) == (54, 6)
    assert stats["held_out"] == {"rows": 6, "asked": 6, "prompts": 2, "near_prompts": 0}
    assert "6 rows of 2 prompts held out" in statistics_table(stats)


def test_several_answers_to_a_question_and_exact_duplicates_are_on_one_side(training_recipe):
    rows = [chat(f"What is {n}?", f"It is {n} {k}", False) for n in range(30) for k in range(4)] + ROWS[:20] * 2
    _, splits, stats = prepared(training_recipe(rows), SIZE, "0.2")
    train, test = set(documents_of(splits["train"])), documents_of(splits["test"])
    assert not train & set(test)
    assert len(test) == stats["held_out"]["rows"] == 32
    assert stats["held_out"]["prompts"] < 20


def test_a_prompt_with_more_rows_than_asked_for_stays_in_training(training_recipe, tokenizer):
    pairs = [preference("Hi", f"good {n}", f"bad {n}") for n in range(40)]
    pairs += [preference(f"Q{n}", f"good {n}", f"bad {n}") for n in range(20)]
    _, splits, stats = prepared(training_recipe(pairs, name="apo"), SIZE, "0.1")
    assert stats["held_out"]["rows"] == stats["held_out"]["prompts"] == 6
    assert sum(q.startswith("Hi") for q in questions(tokenizer, splits["train"])) == 40


def test_where_every_prompt_has_more_rows_than_asked_for_one_is_held_out_and_told(training_recipe):
    pairs = [preference(f"Q{n}", f"good {k}", f"bad {k}") for n in range(4) for k in range(10)]
    _, splits, stats = prepared(training_recipe(pairs, name="apo"), SIZE, "2")
    assert (len(splits["train"]), len(splits["test"])) == (30, 10)
    assert "10 rows of 1 prompt held out (2 asked for; a prompt is not parted)" in statistics_table(stats)


@pytest.mark.parametrize(
    ("rows", "size", "reason"),
    [
        (ROWS[:9], "2000", "got 2000 of 9 rows; take a smaller one, or leave the key out"),
        (ROWS[:1], "0.5", "got 0.5 of 1 row; take a smaller one"),
        (
            [chat("Hi", f"Hello {n}", False) for n in range(9)],
            "0.2",
            "got 9 rows with the same prompt, which is not parted; add rows of other prompts, or leave the key out",
        ),
    ],
)
def test_a_split_that_leaves_nothing_to_train_on_is_refused(training_recipe, rows, size, reason):
    with pytest.raises(UserError, match=r"test_split_size: expected a size that leaves a row to train on, " + reason):
        prepared(training_recipe(rows), SIZE, size)


@pytest.mark.parametrize("size", ["0", "1.5", "-3", "true", "0.0", "1.0", "many"])
def test_a_size_is_a_share_or_a_number_of_rows(training_recipe, size):
    with pytest.raises(
        UserError,
        match=r"test_split_size: expected a share between 0 and 1, or a number of rows of 1 or more, got",
    ):
        prepared(training_recipe(ROWS[:9]), SIZE, size)


def test_a_number_of_rows_is_held_out(training_recipe):
    _, splits, stats = prepared(training_recipe(ROWS), SIZE, "7")
    assert len(documents_of(splits["test"])) == 7 == stats["held_out"]["rows"]
    assert len(documents_of(splits["train"])) == len(ROWS) - 7


def test_prompts_that_are_nearly_trained_on_are_counted(training_recipe):
    """Each of ten long questions is there a second time with a word added; all others are different."""
    words = [f"w{n}" for n in range(400)]
    long = [" ".join(words[20 * n : 20 * n + 20]) for n in range(20)]
    rows = [chat(text, "yes", False) for text in long] + [chat(f"{text} please", "no", False) for text in long[:10]]
    counted = [prepared(training_recipe(rows), SIZE, "1", "--dataset_mixture.seed", str(s))[2] for s in range(6)]
    assert {c["held_out"]["near_prompts"] for c in counted} == {0, 1}
    near = next(c for c in counted if c["held_out"]["near_prompts"])
    assert "; the prompts of 1 are nearly the same as some that are trained on" in statistics_table(near)
    _, _, stats = prepared(training_recipe(rows), SIZE, "0.5")
    assert 3 <= stats["held_out"]["near_prompts"] <= 10


def test_the_split_is_the_same_whatever_the_processes(training_recipe):
    rows = [chat(f"What is {n}?", f"It is {n} {k}", False) for n in range(30) for k in range(3)]
    path = training_recipe(rows)
    folder, splits, stats = prepared(path, SIZE, "0.2")
    before = documents_of(splits["test"])
    (folder / "stats.json").unlink()
    _, splits, again = prepared(path, SIZE, "0.2", "--dataset_num_proc", "2")
    assert (documents_of(splits["test"]), again["held_out"]) == (before, stats["held_out"])


@given(
    st.lists(st.integers(0, 12), min_size=2, max_size=60),
    st.one_of(st.floats(0.01, 0.9), st.integers(1, 30)),
    st.integers(0, 3),
)
def test_every_row_is_on_one_side_and_no_group_is_parted(groups, size, seed):
    train, test = split_off(range(len(groups)), size, seed, groups)
    assert sorted(train + test) == list(range(len(groups)))
    assert not {groups[r] for r in train} & {groups[r] for r in test}
    assert test
    largest = max(Counter(groups).values())
    assert len(test) <= max(wanted(size, len(groups)) + largest, min(Counter(groups).values()))


@given(st.integers(1, 80), st.floats(0.01, 0.9), st.integers(0, 3))
def test_without_shared_prompts_the_split_is_a_seeded_shuffle(count, share, seed):
    train, test = split_off(range(count), share, seed, range(count))
    assert (train, test) == split_off(range(count), share, seed)
    order, _ = split_off(range(count), None, seed)
    assert test + train == order
