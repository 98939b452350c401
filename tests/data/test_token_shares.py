"""Mixtures by tokens: whole rows, no row twice, each source's share of the trained tokens."""

import json
import re

import pytest
from conftest import QWEN3_LIKE
from data_helpers import ROWS, documents_of, prepared, trained_ids
from helpers import chat, preference
from hypothesis import given, settings
from hypothesis import strategies as st

from apo_soup.data.statistics_table import statistics_table
from apo_soup.data.token_shares import drawn_by_tokens
from apo_soup.errors import UserError

LONG = [chat(f"Tell me of {n}.", "so it goes " * (8 + n % 5), False) for n in range(120)]


@pytest.fixture
def mixture(training_recipe, write_rows):
    """A recipe over sources of rows with keys of their own, by the name of the file."""

    def write(name="sft", sources=(), **keys):
        entries = [{"id": str(write_rows(file, rows)), **own} for file, rows, own in sources]
        return training_recipe(mixture={"datasets": entries, "seed": 0}, name=name, **keys)

    return write


def shares_of(stats):
    return {share["source"].rpartition("/")[2]: share for share in stats["shares"]}


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
def test_each_source_has_its_share_of_the_trained_tokens(mixture, share):
    sources = (("short.jsonl", ROWS, {"token_share": share}), ("long.jsonl", LONG, {"token_share": 1 - share}))
    _, splits, stats = prepared(mixture(sources=sources))
    found = shares_of(stats)
    assert found["short.jsonl"]["trained_share"] == pytest.approx(share, rel=0.01)
    assert found["long.jsonl"]["trained_share"] == pytest.approx(1 - share, rel=0.01)
    taken = documents_of(splits["train"])
    assert len(taken) == len(set(taken)) == found["short.jsonl"]["rows"] + found["long.jsonl"]["rows"]
    assert max(found["short.jsonl"]["rows"] / len(ROWS), found["long.jsonl"]["rows"] / len(LONG)) == 1, "the largest"
    assert (
        sum(len(trained_ids(r["input_ids"], r["trained_ranges"])) for r in splits["train"]) == stats["total"]["trained"]
    )
    assert stats["total"]["not_drawn"] == len(ROWS) + len(LONG) - len(taken)
    told = statistics_table(stats)
    assert "of the rows  trained tokens  of the trained" in told
    assert "token_share" not in told, "nothing was missed"


def test_the_draw_is_the_same_whatever_the_processes_and_another_with_another_seed(mixture):
    sources = (("short.jsonl", ROWS, {"token_share": 0.2}), ("long.jsonl", LONG, {"token_share": 0.8}))
    path = mixture(sources=sources)
    first, splits, _ = prepared(path)
    rows = documents_of(splits["train"])
    (first / "stats.json").unlink()
    again, splits, _ = prepared(path, "--dataset_num_proc", "2")
    assert (again, documents_of(splits["train"])) == (first, rows)
    other, splits, _ = prepared(path, "--dataset_mixture.seed", "7")
    assert other != first
    assert set(documents_of(splits["train"])) != set(rows)
    changed = prepared(
        path, "--dataset_mixture.datasets.0.token_share", "0.3", "--dataset_mixture.datasets.1.token_share", "0.7"
    )
    assert changed[0] != first, "the shares are in the folder's name"


def test_pairs_rejects_and_held_out_rows_go_with_shares(mixture):
    pairs = [preference(f"Q{n}", "good " * (1 + n % 4), "bad") for n in range(60)]
    others = [preference(f"W{n}", "fine", "poor " * 9) for n in range(60)]
    sources = (
        ("a.jsonl", [*pairs, {"prompt": 3}], {"token_share": 0.25}),
        ("b.jsonl", others, {"token_share": 0.75}),
    )
    path = mixture("apo", sources, max_reject_share=0.1)
    words = ("--dataset_mixture.test_split_size", "0.2")
    folder, splits, stats = prepared(path, *words)
    found = shares_of(stats)
    assert found["a.jsonl"]["trained_share"] == pytest.approx(0.25, rel=0.01)
    total = stats["total"]
    assert total["read"] == 121 == total["kept"] + total["rejected"] + total["not_drawn"]
    assert total["rejected"] == 1
    assert len(splits["train"]) + len(splits["test"]) == total["kept"]
    assert len(splits["test"]) == round(0.2 * total["kept"])
    assert json.loads((folder / "rejects.jsonl").read_text())["row"].endswith("a.jsonl:61")


def test_a_share_that_whole_rows_cannot_give_is_told(mixture):
    """Three rows of some hundred tokens: one, two or all of them are taken, and no part of one."""
    few = [chat(f"{n}?", "so it goes on " * 25, False) for n in range(3)]
    sources = (("few.jsonl", few, {"token_share": 0.3}), ("short.jsonl", ROWS[:30], {"token_share": 0.7}))
    _, _, stats = prepared(mixture(sources=sources))
    assert shares_of(stats)["few.jsonl"]["rows"] == 1
    assert re.search(
        r"few\.jsonl: token_share 0\.3 became 0\.\d{4}, the nearest that whole rows", statistics_table(stats)
    )
    path = mixture(sources=((*sources[0][:2], {"token_share": 0.05}), (*sources[1][:2], {"token_share": 0.95})))
    with pytest.raises(UserError, match="got none: of 3 rows 3 not drawn; raise weight or token_share"):
        prepared(path)


def test_shares_of_the_rows_count_copies(mixture):
    sources = (("short.jsonl", ROWS[:40], {"weight": 2.0}), ("long.jsonl", LONG[:80], {}))
    _, _, stats = prepared(mixture(sources=sources))
    found = shares_of(stats)
    assert (found["short.jsonl"]["rows"], found["long.jsonl"]["rows"]) == (80, 80)
    assert found["short.jsonl"]["rows_share"] == 0.5
    one_copy = next(r["trained"] for r in stats["sources"] if r["source"].endswith("short.jsonl") and r["kept"])
    assert found["short.jsonl"]["trained"] == 2 * one_copy
    assert "token_share" not in found["short.jsonl"]


@pytest.mark.parametrize(
    ("one", "two", "reason"),
    [
        ({"token_share": 0.5}, {}, r"datasets\.1: expected a token_share in every source or in none, got none here"),
        (
            {"token_share": 0.5, "weight": 2},
            {"token_share": 0.5},
            r"datasets\.0\.weight: expected weight or token_share, got both",
        ),
        ({"token_share": 0.5}, {"token_share": 0.6}, r"datasets: expected shares token_share that sum to 1, got 1\.1;"),
        ({"token_share": 0}, {"token_share": 1}, r"token_share: expected .*, got 0"),
    ],
)
def test_shares_that_do_not_go_together_are_refused(mixture, one, two, reason):
    sources = (("short.jsonl", ROWS[:3], one), ("long.jsonl", LONG[:3], two))
    with pytest.raises(UserError, match=reason):
        prepared(mixture(sources=sources))


def test_a_source_of_nothing_but_duplicates_has_no_share(mixture):
    sources = (("a.jsonl", ROWS[:9], {"token_share": 0.5}), ("b.jsonl", ROWS[:9], {"token_share": 0.5}))
    with pytest.raises(UserError, match=r"b\.jsonl: expected rows for token_share 0\.5, got none but duplicates"):
        prepared(mixture(sources=sources), "--dataset_mixture.deduplicate", "exact")


def test_a_source_at_fault_is_told_as_without_shares(mixture):
    sources = (("a.jsonl", ROWS[:9], {"token_share": 0.5}), ("b.jsonl", [{"messages": 3}], {"token_share": 0.5}))
    with pytest.raises(UserError, match=r"b\.jsonl: expected a row to train on, got none: of 1 rows 1 rejected"):
        prepared(mixture(sources=sources, max_reject_share=1))


def test_a_mixture_gives_up_some_rows_to_meet_its_shares():
    """100 tokens one by one beside rows of 40: 81 and 80 are even within 1 %, 100 and 80 or 120 are not."""
    small, large = dict.fromkeys(range(100), 1), dict.fromkeys(range(100, 110), 40)
    drawn = drawn_by_tokens([small, large], [0.5, 0.5], 0)
    assert sum(row < 100 for row in drawn) == 81
    assert sum(row >= 100 for row in drawn) == 2


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(1, 40), min_size=60, max_size=120), min_size=2, max_size=4),
    st.lists(st.integers(1, 5), min_size=4, max_size=4),
)
def test_shares_hold_for_any_rows(sizes, parts):
    """Rows of up to 40 tokens in sources of sixty and more: each share is met within 1 %, of most tokens."""
    shares = [part / sum(parts[: len(sizes)]) for part in parts[: len(sizes)]]
    starts = [sum(map(len, sizes[:number])) for number in range(len(sizes))]
    trained = [dict(enumerate(rows, start)) for start, rows in zip(starts, sizes, strict=True)]
    drawn = drawn_by_tokens(trained, shares, 3)
    whole = min(sum(rows) / share for rows, share in zip(sizes, shares, strict=True))
    taken = [sum(size for row, size in rows.items() if row in drawn) for rows in trained]
    total = sum(taken)
    assert 0.5 * whole <= total <= 1.01 * whole
    met = [abs(of_source / total / share - 1) <= 0.01 for of_source, share in zip(taken, shares, strict=True)]
    assert all(met) or total >= 0.98 * whole - 40, "the most tokens, where no mixture meets the shares"


def test_rows_that_are_not_drawn_count_among_those_that_may_be_rejected(mixture):
    big = [chat(f"Q{n}", "yes", False) for n in range(195)] + [{"messages": 3}] * 2
    small = [chat(f"W{n}", "yes", False) for n in range(5)]
    sources = (("big.jsonl", big, {"token_share": 0.5}), ("small.jsonl", small, {"token_share": 0.5}))
    path = mixture(sources=sources, max_reject_share=0.01)
    folder, _, stats = prepared(path)
    assert stats["total"]["rejected"] == 2
    assert stats["total"]["not_drawn"] == 190
    assert prepared(path)[0] == folder, "the folder is found, and held to the same share"
    with pytest.raises(UserError, match=re.escape("expected at most 0.009 of the rows rejected, got 2 of 202")):
        prepared(path, "--max_reject_share", "0.009")


def test_samples_and_shortened_answers_of_drawn_rows_are_counted(mixture):
    answers = [{"role": "assistant", "content": f"<think>\nI add {n}.\n</think>\n\nYes {n}."} for n in range(3)]
    turns = [turn for n, answer in enumerate(answers) for turn in ({"role": "user", "content": f"Q{n}?"}, answer)]
    sources = [(f"{name}.jsonl", [{"messages": turns}] * 4, {"token_share": 0.5}) for name in "ab"]
    total = prepared(mixture(sources=sources, chat_template=QWEN3_LIKE))[2]["total"]
    assert (total["shortened"], total["shortened_turns"], total["samples"]) == (8, 16, 8)
    total = prepared(mixture(sources=sources, train_on="unroll"))[2]["total"]
    assert (total["kept"], total["samples"]) == (8, 24)
