"""What check says of a stage that was begun and not finished."""

import json

import pytest

from apo_soup.config.load import load
from apo_soup.plan.begun import begun_problems
from apo_soup.plan.check import check_recipe
from apo_soup.runs.stage import Stage


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "recipe").mkdir()
    file = tmp_path / "recipe" / "data.yaml"
    file.write_text(json.dumps({"output_dir": str(tmp_path / "run" / "data"), "counts": {"sft_talk": 3}}))
    return load(file, "data")


def begin(tmp_path, name="data"):
    begun = Stage(name, tmp_path / "run" / name, {"seed": 1}, {}).begin()
    (begun / "checkpoint-3").mkdir()
    (begun / "checkpoint-3" / "model.safetensors").touch()
    return begun / "begun.json"


def test_a_mark_that_cannot_be_read_beside_work_is_found_before_the_run(recipe, tmp_path):
    assert (begun_problems(recipe), recipe.notes) == ([], [])
    mark = begin(tmp_path)
    assert (begun_problems(recipe), recipe.notes) == ([], [])
    written = mark.read_text()
    for text in ("", "{", written.replace('"seed": 1', '"seed": 2')):
        mark.write_text(text)
        (problem,) = begun_problems(recipe)
        assert problem.startswith(f"{recipe.path}:1: output_dir: {mark}: expected ")
        assert problem.endswith("; put that file back to go on, or move its folder elsewhere to start anew")
        assert check_recipe(recipe.path.parent)[1] == [problem]
    (tmp_path / "run" / "data").mkdir()
    assert begun_problems(recipe) == []
    assert recipe.notes == [f"{problem}, where {tmp_path / 'run' / 'data'} is to be made again"]


def test_of_an_evaluation_what_was_begun_is_looked_at(tmp_path):
    file = tmp_path / "eval.yaml"
    task = {"name": "p", "kind": "preference", "data": "rows.jsonl"}
    file.write_text(json.dumps({"output_dir": str(tmp_path / "run"), "models": {"m": "m"}, "tasks": [task]}))
    begin(tmp_path, "m").write_text("{")
    (problem,) = begun_problems(load(file, "eval"))
    assert f"{tmp_path}/run/.m.partial/begun.json: expected valid JSON" in problem


def test_as_many_processes_are_named(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    begin(tmp_path)
    assert begun_problems(recipe) == []
    assert recipe.notes == [f"{recipe.path}:1: output_dir: data was begun with 4 processes, and goes on with as many"]
