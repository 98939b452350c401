"""Rows that lie elsewhere than they did make nothing stale."""

import pytest

from apo_soup.runs.renamed_rows import with_names_of
from apo_soup.runs.stage import Stage


def test_rows_that_lie_elsewhere_make_nothing_stale(tmp_path):
    """As in a run that was renamed, whose pairs and generated rows lie in it."""

    def training(run, rows="aaa", seed=1):
        mixture = {"datasets": [{"id": "of/the/hub"}, {"id": f"runs/{run}/data/a.jsonl", "weight": 0.5}]}
        inputs = {"model": "m", "rows of/the/hub #0": "h", f"rows runs/{run}/data/a.jsonl #1": rows}
        return Stage("sft", tmp_path / "sft", {"seed": seed, "dataset_mixture": mixture}, inputs)

    (training("old").begin() / "checkpoint-8").mkdir()
    (tmp_path / ".sft.partial" / "checkpoint-8" / "weights").touch()
    assert training("new").stale() == "it was begun and not finished"
    training("new").begin()
    assert (tmp_path / ".sft.partial" / "checkpoint-8" / "weights").exists(), "it goes on"
    training("old").finish(training("old").result_folder(), {})
    assert training("new").stale() is None
    told = training("new", rows="bbb").stale()
    assert "rows runs/new/data/a.jsonl #1 is new; rows runs/old/data/a.jsonl #1 is gone" in told
    assert training("new", seed=2).stale().startswith("rows runs/new/data/a.jsonl #1 is new")


def test_pairs_of_a_run_that_was_renamed_are_up_to_date(tmp_path):
    def pairs(run, model="m", form="jsonl"):
        prompts = [{"id": "of/the/hub"}, {"id": f"runs/{run}/data/a.{form}"}]
        sides = {side: {"model": f"runs/{run}/sft", "temperature": 0.6} for side in ("strong", "weak")}
        config = {"prompts": prompts, "mode": "think", **sides}
        return Stage("pairs", tmp_path / "pairs", config, {"prompts": "p", "code": "c", "strong": model, "weak": "w"})

    pairs("old").finish(pairs("old").begin() and pairs("old").result_folder(), {})
    assert pairs("new").stale() is None
    assert "strong changed" in pairs("new", model="n").stale()
    assert "prompts.1.id was" in pairs("old", form="json").stale()


@pytest.mark.parametrize("name", ["evals/sft", "sweep"])
def test_a_suite_that_asks_rows_of_a_renamed_run_is_up_to_date(tmp_path, name):
    def measured(run, rows="r", form="jsonl", swapped=False):
        files = [f"runs/{run}/pairs/test.{form}", "data/heldout.jsonl"]
        tasks = [{"name": task, "data": file} for task, file in zip("ab", files[:: -1 if swapped else 1], strict=True)]
        suite = {"tasks": [*tasks, {"name": "made"}]}
        inputs = {"model": "m", f"rows {files[0]}": rows, f"rows {files[1]}": "h"}
        return Stage(name, tmp_path / "x", {"suite": suite} if name == "sweep" else suite, inputs)

    measured("old").begin()
    measured("old").finish(measured("old").result_folder(), {})
    assert measured("old").stale() is None
    assert measured("new").stale() is None
    for changed in (measured("new", rows="s"), measured("new", form="json"), measured("new", swapped=True)):
        assert changed.stale()


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("a/x.jsonl", "b/x.JSONL", True),
        ("a/x.csv.gz", "b/x.csv", True),
        ("a/x.csv.gz", "a/x.tsv.gz", False),
        ("a/x.json", "a/x.jsonl", False),
        ("a/*", "b/*", False),
    ],
)
def test_rows_that_are_read_in_another_way_are_other_rows(old, new, same):
    """The same bytes, as JSON of another form or with another separator."""

    def rows(name):
        return {"dataset_mixture": {"datasets": [{"id": name}]}}, {f"rows {name} #0": "x"}

    config, inputs = rows(old)
    found = with_names_of(*rows(new), {"config": config, "inputs": inputs})
    assert (found == (config, inputs)) is same
