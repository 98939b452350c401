"""Results by checkpoint: their order, their parents, and the closing table of a run."""

import json

from helpers import whole_results

from apo_soup.runs.results import Cell, column_titles, evaluated_checkpoints, parent_checkpoint, pipeline_order, summary


def test_checkpoints_stand_in_the_order_of_the_pipeline():
    assert sorted(["merged", "apo/2", "base", "soup", "apo/1", "sft", "mid"], key=pipeline_order) == [
        "base", "mid", "sft", "apo/1", "apo/2", "soup", "merged",
    ]  # fmt: skip


def test_parents_are_those_of_the_pipeline():
    known = ["base", "mid", "sft", "apo/1", "soup", "merged"]
    assert [parent_checkpoint(name, known) for name in known] == [None, "base", "mid", "sft", "sft", "soup"]
    assert parent_checkpoint("sft", ["base", "sft"]) == "base"


def test_a_cell_shows_its_interval_where_it_has_one():
    assert [Cell().text(), Cell(0.5).text(), Cell(0.5, 0.4, 0.6).text()] == ["-", "0.50", "0.50 [0.40, 0.60]"]


def test_the_closing_table_has_a_row_a_checkpoint_with_its_cost(tmp_path):
    metric = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "better": "higher", "headline": True}
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "manifest.json").write_text(
        json.dumps({"stage": "sft", "seconds": 61.4, "peak_memory_mb": 900})
    )
    for name in ("sft", "base"):
        folder = tmp_path / "evals" / name
        folder.mkdir(parents=True)
        results = whole_results(name=name, model=str(tmp_path / name), metrics={"problems/no_think": metric})
        (folder / "results.json").write_text(json.dumps(results))
    assert evaluated_checkpoints(tmp_path / "nowhere") == []
    header, _, base, sft = summary(evaluated_checkpoints(tmp_path)).splitlines()
    assert header.split() == ["stage", "no", "think", "seconds", "peak", "MB"]
    assert base.split() == ["base", "0.50", "[0.40,", "0.60]", "-", "-"]
    assert sft.split() == ["sft", "0.50", "[0.40,", "0.60]", "61", "900"]


def test_two_tasks_of_a_kind_keep_their_names():
    """Case N19: two `answer` tasks had columns of one name."""
    names = [
        "easy/think",
        "easy/no_think",
        "easy/obedience",
        "hard/think",
        "hard/no_think",
        "needle/128",
        "tools/x/valid",
    ]
    assert list(column_titles(names).values()) == [
        "easy think", "easy no think", "mode kept", "hard think", "hard no think", "needle 128", "tools valid",
    ]  # fmt: skip
    assert list(column_titles(["a/think", "b/no_think"]).values()) == ["think", "no think"]
    odd = ["a b/c", "a_b/c", "a/b_c", "x/a b c", "a/b c"]
    assert len(set(column_titles(odd).values())) == len(odd)
    assert list(column_titles(["t/1/valid", "t/2/valid"]).values()) == ["t 1/valid", "t 2/valid"]
