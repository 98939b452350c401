"""Rows longer than `max_length` are a matter of `overflow`: told as such, and counted apart from bad rows."""

import pytest
from data_helpers import ROWS, dropped_rows, prepared
from helpers import chat, preference
from programs import run_ok

from apo_soup.data.statistics_table import statistics_table
from apo_soup.errors import UserError

LONG_PROMPT = chat("word " * 200, "A", False)
PAIRS = [preference(f"Q{n}", f"good {n}", f"bad {n}") for n in range(6)]
LONG_PAIRS = {
    "the prompt fills the length": preference("word " * 200, "good", "bad"),
    "the answers part behind the cut": preference("Q", "same " * 200 + "good", "same " * 200 + "bad"),
}


@pytest.mark.parametrize("overflow", ["truncate", "split", "drop"])
def test_rows_without_a_trained_token_before_the_cut_are_too_long_and_no_rejects(training_recipe, overflow):
    rows = [*ROWS[:5], *[LONG_PROMPT] * 5]
    folder, _, stats = prepared(training_recipe(rows, overflow=overflow))
    total = stats["total"]
    if overflow == "split":
        assert (total["kept"], total["rejected"], total["long"]) == (10, 0, 0), "the last piece has the answer"
        return
    assert (total["kept"], total["rejected"], total["long"], total["dropped"]) == (5, 0, 5, 5)
    assert not (folder / "rejects.jsonl").exists()
    reason = {
        "truncate": "expected a trained token within max_length 128, got none in what overflow: truncate keeps of ",
        "drop": "expected at most max_length 128 tokens, got ",
    }[overflow]
    listed = dropped_rows(folder)
    assert [row["kind"] for row in listed] == ["long"] * 5
    assert all(row["reason"].startswith(reason) and "; raise max_length" in row["reason"] for row in listed)
    told = f"5 rows too long for max_length 128 under overflow: {overflow} left out, with reasons in dropped.jsonl"
    assert told in statistics_table(stats)


@pytest.mark.parametrize("overflow", ["truncate", "drop"])
@pytest.mark.parametrize("what", LONG_PAIRS)
def test_long_pairs_are_left_out_as_too_long(training_recipe, overflow, what):
    path = training_recipe([*PAIRS, *[LONG_PAIRS[what]] * 3], name="apo", overflow=overflow)
    folder, splits, stats = prepared(path)
    assert (stats["total"]["kept"], stats["total"]["rejected"], stats["total"]["long"]) == (6, 0, 3)
    assert len(splits["train"]) == 6
    reason = dropped_rows(folder)[0]["reason"]
    if overflow == "drop":
        assert "which overflow: drop leaves out; raise max_length, or write overflow: truncate" in reason
    elif what == "the prompt fills the length":
        assert reason.startswith("expected a prompt shorter than max_length 128, got ")
        assert reason.endswith("leave no room for an answer, and overflow cuts answers alone; raise max_length")
    else:
        assert reason == (
            "expected answers that differ before max_length 128, got the same 128 tokens up to the cut of overflow: "
            "truncate; raise max_length"
        )


def test_a_prompt_of_exactly_the_length_leaves_no_answer_and_one_shorter_leaves_a_token(training_recipe, tokenizer):
    """At the limit: the answers differ in their first token, which is all that is left of them."""
    pair = preference("word " * 40, "good", "bad")
    _, splits, _ = prepared(training_recipe([pair], name="apo"))
    length = len(splits["train"][0]["prompt_ids"])
    path = training_recipe([*PAIRS, pair], name="apo", max_length=length)
    assert prepared(path)[2]["total"]["long"] == 1
    _, splits, stats = prepared(path, "--max_length", str(length + 1))
    assert (stats["total"]["long"], stats["total"]["cut"]) == (0, 1)
    assert [len(row["chosen_ids"]) for row in splits["train"] if len(row["prompt_ids"]) == length] == [1]


@pytest.mark.parametrize("name", ["sft", "apo"])
def test_rows_that_are_all_too_long_name_the_keys_and_the_first(training_recipe, name):
    rows = [LONG_PROMPT] * 4 if name == "sft" else [LONG_PAIRS["the prompt fills the length"]] * 4
    path = training_recipe(rows, name=name)
    with pytest.raises(
        UserError,
        match=r"expected a row to train on, got none: of 4 rows 4 too long for max_length 128 under overflow: "
        r"truncate; raise max_length; the first is .*rows\.jsonl:1: expected",
    ):
        prepared(path)


def test_a_row_that_trains_nothing_at_any_length_is_at_fault(training_recipe):
    """A text of one token: it is not too long, it has no token that another one predicts."""
    rows = [{"text": "the cat sat"}] * 3 + [{"text": ""}]
    folder, _, stats = prepared(training_recipe(rows, max_reject_share=0.5))
    assert (stats["total"]["rejected"], stats["total"]["long"]) == (1, 0)
    assert (folder / "rejects.jsonl").is_file()


def test_bad_rows_still_stop_a_run_of_long_ones(training_recipe):
    path = training_recipe([*ROWS[:5], *[LONG_PROMPT] * 5, {"messages": 3}])
    with pytest.raises(UserError, match=r"at most 0\.01 of the rows rejected, got 1 of 11; .*rows\.jsonl:11: field"):
        prepared(path)


def test_preview_tells_a_long_pair_from_a_bad_one(training_recipe):
    path = training_recipe([LONG_PAIRS["the prompt fills the length"], {"chosen": 3, "rejected": 4}], name="apo")
    output = run_ok("-m", "apo_soup", "preview", "--config", path)
    assert "dropped: expected a prompt shorter than max_length 128" in output
    assert "rejected: field chosen" in output
