"""Paths of a recipe: beside it, then in the working directory; what a stage makes, in the working directory alone."""

import os

import pytest
import yaml

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.runs.sources import row_files

SFT = {
    "model_name_or_path": "base",
    "output_dir": "runs/mine/sft",
    "dataset_mixture": {"datasets": [{"id": "rows.jsonl"}]},
}


def written(folder, values, name="sft.yaml"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_path_is_found_beside_the_recipe_from_any_folder(tmp_path, monkeypatch):
    recipe, elsewhere = tmp_path / "my recipes" / "mine", tmp_path / "elsewhere"
    path = written(recipe, SFT)
    (recipe / "base").mkdir()
    (recipe / "rows.jsonl").touch()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    found = load(path, "sft")
    assert found.model_name_or_path == str(recipe / "base")
    source = found.dataset_mixture.datasets[0]
    assert (source.id, source.written_id) == (str(recipe / "rows.jsonl"), "rows.jsonl")
    assert found.given_values()["dataset_mixture"]["datasets"] == [{"id": "rows.jsonl"}], "as written, from any folder"
    assert found.notes == []


def test_a_path_that_is_not_beside_the_recipe_is_the_working_directorys(tmp_path, monkeypatch):
    path = written(tmp_path / "mine", SFT)
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    found = load(path, "sft")
    assert found.model_name_or_path == "base"
    assert found.dataset_mixture.datasets[0].id == "rows.jsonl", "nowhere: the stage says so"


def test_where_both_places_have_one_a_line_says_which_was_taken(tmp_path, monkeypatch):
    path = written(tmp_path / "mine", SFT)
    for place in (tmp_path, tmp_path / "mine"):
        (place / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    found = load(path, "sft")
    assert found.model_name_or_path == str(tmp_path / "mine" / "base")
    (note,) = found.notes
    assert "base is beside the recipe and in the working directory" in note
    assert note.startswith(found.where("model_name_or_path"))


def test_what_a_stage_makes_is_the_working_directorys_alone(tmp_path, monkeypatch):
    values = SFT | {"model_name_or_path": "runs/mine/mid"}
    path = written(tmp_path / "mine", values)
    (tmp_path / "mine" / "runs" / "mine" / "mid").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert load(path, "sft").model_name_or_path == "runs/mine/mid"


def test_globs_templates_and_nested_names_are_looked_for_too(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    sources = {"datasets": [{"id": "rows/*.jsonl"}], "decontaminate": ["eval.yaml", {"id": "asked.jsonl"}]}
    inline = "{{ messages }}"
    path = written(folder, SFT | {"dataset_mixture": sources, "chat_template": inline})
    for name in ("rows/a.jsonl", "eval.yaml", "asked.jsonl"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    monkeypatch.chdir(tmp_path)
    mixture = load(path, "sft").dataset_mixture
    assert mixture.datasets[0].id == str(folder / "rows/*.jsonl")
    assert mixture.decontaminate[0] == str(folder / "eval.yaml")
    assert mixture.decontaminate[1].id == str(folder / "asked.jsonl")
    assert load(path, "sft").chat_template == inline
    tasks = [{"name": "a", "kind": "loss", "data": "asked.jsonl"}]
    suite = written(
        folder, {"output_dir": "o/evals", "models": {"base": "rows", "sft": "o/sft"}, "tasks": tasks}, "suite.yaml"
    )
    found = load(suite, "eval")
    assert found.models == {"base": str(folder / "rows"), "sft": "o/sft"}
    assert found.tasks[0].data == str(folder / "asked.jsonl")


def test_a_path_that_leads_nowhere_is_told_at_its_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    for changes, told in (
        ({"model_name_or_path": "loop"}, ":4: model_name_or_path: expected a path, got 'loop', a link that leads to"),
        ({"output_dir": "loop/sft"}, ":5: output_dir: expected a path, got 'loop/sft', a link that leads to itself"),
        ({"output_dir": "~nobody-here/x/sft"}, ":5: output_dir: expected a path, got '~nobody-here/x/sft', whose home"),
        (
            {"output_dir": "s3://b/sft"},
            ":5: output_dir: expected a folder of this machine, got the address 's3://b/sft'",
        ),
        ({"output_dir": "${TMP}/sft"}, ":5: output_dir: expected a path, got '${TMP}/sft', whose variable nobody"),
        ({"model_name_or_path": "~nobody-here/m"}, ":4: model_name_or_path: expected a path, got '~nobody-here/m', wh"),
    ):
        with pytest.raises(UserError) as refused:
            load(written(tmp_path, SFT | changes), "sft")
        assert f"sft.yaml{told}" in str(refused.value)


def test_a_name_that_is_no_utf_8_is_told_of(tmp_path, monkeypatch):
    """JSON and Arrow take none."""
    path = written(tmp_path / "mine", SFT)
    odd = tmp_path / os.fsdecode(b"a \xff")
    odd.mkdir()
    monkeypatch.chdir(odd)
    with pytest.raises(UserError, match=r"output_dir: expected a path in UTF-8, got '.*a \\udcff.*'; rename that file"):
        load(path, "sft")
    monkeypatch.chdir(tmp_path)
    (odd / "rows.jsonl").touch()
    with pytest.raises(UserError, match=r"^here: expected a path in UTF-8, got 'a \\udcff/rows.jsonl'; rename"):
        row_files("*/rows.jsonl", "here")
