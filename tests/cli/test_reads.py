"""What stages read of each other: what a stage waits for, and what is made for it."""

import json

import pytest

from apo_soup.cli.order import print_states, run_stages
from apo_soup.cli.reads import steps_needed, steps_read


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Rows; mid, sft and apo that read nothing of each other; a merge and a suite."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "recipe"
    folder.mkdir()

    def write(name, **values):
        (folder / f"{name}.yaml").write_text(json.dumps(values))

    write("data", output_dir="run/data", counts={"sft_talk": 3})
    for name in ("mid", "sft", "apo"):
        mixture = {"datasets": [{"id": "own/rows.jsonl"}]}
        write(name, output_dir=f"run/{name}", model_name_or_path="owner/base", dataset_mixture=mixture)
    models = [{"model": name, "parameters": {"weight": 0.5}} for name in ("soup", "owner/base")]
    write("merge", output_dir="run", soup={"members": "all"}, merge={"merge_method": "linear", "models": models})
    task = {"name": "facts", "kind": "loss", "data": "run/data/sft_talk.jsonl"}
    write("eval", output_dir="run/evals", models={"base": "owner/base"}, tasks=[task])
    return folder, write


def test_a_stage_needs_what_its_file_names_and_no_more(recipe):
    folder, write = recipe
    assert steps_needed(folder, "apo", []) == {"apo"}
    assert steps_needed(folder, "apo", ["--model_name_or_path", "run/sft"]) == {"apo", "sft"}
    assert steps_read(folder, "merge", []) == {"soup"}
    assert steps_needed(folder, "merge", []) == {"merge", "soup", "apo"}
    assert steps_read(folder, "sweep", []) == {"soup", "mid", "data"}, "the rows of the suite it asks"
    assert steps_read(folder, "eval", []) == {"data"}
    assert steps_needed(folder, "eval", []) == {"eval", "merge", "soup", "apo", "sweep", "mid", "data"}
    mixture = {"datasets": [{"id": "run/*/sft_talk.jsonl"}], "decontaminate": [str(folder / "eval.yaml")]}
    write("sft", output_dir="run/sft", model_name_or_path="run/mid", dataset_mixture=mixture)
    assert steps_read(folder, "sft", []) == {"mid", "data"}
    members, alone = {"members": ["2", "run/sft"]}, [{"model": "mid", "parameters": {"weight": 1.0}}]
    write("merge", output_dir="run", soup=members, merge={"merge_method": "linear", "models": alone})
    assert steps_read(folder, "soup", []) == {"apo", "sft"}
    assert steps_read(folder, "merge", []) == {"mid"}


def test_a_walk_needs_what_its_points_name_and_its_suite(recipe):
    folder, write = recipe
    write("sweep", stage="apo", output_dir="run/settings", over={"beta": [0.1, 0.2]})
    assert steps_needed(folder, "settings", []) == {"settings", "data"}, "the rows of the suite it asks"
    write("sweep", stage="apo", output_dir="run/settings", over={"beta": [0.1]}, against="run/sft")
    assert steps_read(folder, "settings", []) == {"sft", "data"}
    write("sweep", stage="apo", output_dir="run/settings", over={"model_name_or_path": ["run/mid", "owner/base"]})
    assert steps_read(folder, "settings", []) == {"mid", "data"}
    assert "settings" not in steps_needed(folder, "eval", [])


def test_what_is_not_read_is_neither_waited_for_nor_made(recipe, tmp_path, capfd):
    folder, _ = recipe
    for name in ("merge", "eval"):
        (folder / f"{name}.yaml").unlink()
    assert print_states(folder) == 2
    told = capfd.readouterr()
    assert "waits for" not in told.out
    assert told.err.count("expected a data file, got own/rows.jsonl") == 3
    assert run_stages("apo", folder, None, []) == 2
    lines = capfd.readouterr().out.splitlines()
    skipped = "{0}: not read for apo, skipped; `apo-soup run {0} {1}` makes it for itself"
    assert [skipped.format(n, folder) for n in ("data", "mid", "sft")] == lines[:3]
    assert not (tmp_path / "run").exists()


def test_a_merge_file_that_asks_for_a_merge_alone_makes_no_soup(recipe, capfd):
    folder, write = recipe
    for name in ("data", "mid", "sft", "apo", "eval"):
        (folder / f"{name}.yaml").unlink()
    models = [{"model": name, "parameters": {"weight": 0.5}} for name in ("./a", "./b")]
    write("merge", output_dir="run", merge={"merge_method": "linear", "models": models})
    assert print_states(folder) == 2
    assert "soup" not in "".join(capfd.readouterr())
    assert run_stages("merge", folder, None, []) == 2
    told = capfd.readouterr()
    assert "soup:" not in told.out
    assert "expected the key for --only soup" not in told.err
