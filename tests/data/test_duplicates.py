"""Planted duplicates and near duplicates are found, and nothing else."""

import random

import pytest
from data_helpers import MESSAGES, dropped_rows, mode, prepared
from helpers import chat

from apo_soup.data.conversations.conversation import parse_supervised
from apo_soup.data.duplicates import Duplicates, fingerprint, jaccard


def sentences(seed: int, count: int = 60) -> str:
    generator = random.Random(seed)
    return " ".join(f"w{generator.randrange(2000)}" for _ in range(count))


@pytest.mark.parametrize("kind", ["exact", "near"])
def test_planted_duplicates_are_dropped_and_listed(training_recipe, kind):
    """Rows 21-30 are exact copies, 31-40 have one word more, 41-45 share half."""
    rows = [chat(f"Tell {n}", sentences(n), False) for n in range(20)]
    near = [chat(r["messages"][0]["content"], r["messages"][1]["content"] + " indeed", False) for r in rows[10:]]
    half = [chat(f"Say {n}", f"{sentences(n, 30)} {sentences(n + 100, 30)}", False) for n in range(5)]
    path = training_recipe([*rows, *rows[:10], *near, *half], max_length=512)
    folder, _, stats = prepared(path, "--dataset_mixture.deduplicate", kind)
    dropped = {int(d["row"].rpartition(":")[2]): d for d in dropped_rows(folder)}
    assert stats["total"]["duplicate"] == len(dropped)
    assert dropped[21] == {
        "source": str(path.parent / "rows.jsonl"),
        "row": f"{path.parent}/rows.jsonl:21",
        "reason": f"the same as {path.parent}/rows.jsonl:1",
        "kind": "duplicate",
    }
    assert set(dropped) == set(range(21, 31)) | (set(range(31, 41)) if kind == "near" else set())


def test_duplicates_are_told_by_what_is_said(training_recipe):
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
        _, _, stats = prepared(training_recipe(tagged + calls), "--dataset_mixture.deduplicate", kind)
        assert stats["total"]["duplicate"] == 5, kind


@pytest.mark.parametrize("kind", ["exact", "near"])
@pytest.mark.parametrize(
    "other",
    [
        {"tools": [{"name": "g"}]},
        {"tools": None, "python_tools": ["def f(): ..."]},
        {"chat_template_kwargs": {"enable_thinking": False, "reasoning_effort": 3}},
        {"messages": [MESSAGES[0], {**MESSAGES[1], "weight": 0}, *MESSAGES]},
        mode(True),
    ],
)
def test_other_tools_arguments_masks_or_modes_make_another_row(tmp_path, kind, other):
    row = {"messages": [*MESSAGES, *MESSAGES], "tools": [{"name": "f"}], **mode(False)}
    duplicates = Duplicates(kind == "near", 0.8, tmp_path)
    marks = [fingerprint(parse_supervised(one, {}), kind == "near") for one in (row, row | other, row)]
    found = [duplicates.duplicate_of(mark, f"row {number}") for number, mark in enumerate(marks)]
    duplicates.close()
    assert found == [None, None, "the same as row 0"]


def test_every_planted_near_duplicate_at_the_threshold_is_found(tmp_path):
    """One changed word in the middle of 49 leaves 40 of 50 runs of five (with the mode's name): 0.8 exactly."""
    duplicates = Duplicates(True, 0.8, tmp_path)
    generator = random.Random(0)
    for number in range(300):
        words = [f"w{generator.randrange(10**6)}" for _ in range(48)]
        for changed in (words, [*words[:24], "other", *words[25:]]):
            item = parse_supervised({"text": " ".join(changed)}, {})
            mark = fingerprint(item, near=True)
            found = duplicates.duplicate_of(mark, f"row {number}")
            if changed is words:
                first = mark
                assert found is None
        assert jaccard(first.near.shingles, mark.near.shingles) == pytest.approx(40 / 50)
        assert f"nearly the same as row {number} (similarity 0.80)" in found
    duplicates.close()
    assert not list(tmp_path.iterdir())
    smiles = [
        fingerprint(parse_supervised({"text": t}, {}), near=True) for t in ("\U0001f600 \U0001f44d", "\U0001f389")
    ]
    assert smiles[0].near is None
    assert smiles[0].digest != smiles[1].digest
