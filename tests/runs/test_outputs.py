"""Nobody's files are replaced: what lies in a stage's place is nothing, or what the same stage made."""

import json
import os
from pathlib import Path

import pytest
from helpers import ROOT, python

from apo_soup.config.load import load
from apo_soup.plan.check import check_recipe
from apo_soup.runs import outputs
from apo_soup.runs.machine_paths import machine_places
from apo_soup.runs.outputs import output_folders, output_problems


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with a recipe of rows, a model and its data in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "rows.jsonl").write_text('{"messages": []}\n')
    (tmp_path / "mine" / "notes.txt").write_text("years of work")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    (recipe / "sft.yaml").write_text(
        "model_name_or_path: base\noutput_dir: runs/x/sft\n"
        "dataset_mixture: {datasets: [{id: mine/rows.jsonl}, {id: 'mine/*.jsonl'}]}\n"
    )
    (recipe / "data.yaml").write_text("output_dir: runs/x/data\nseed: 1\ncounts: {preference: 3}\n")
    return recipe


def problem(file: Path, output: str | Path) -> str | None:
    recipe = load(file, file.stem, ["--output_dir", str(output)])
    problems = output_problems(recipe, output_folders(recipe))
    assert len(problems) < 2
    return problems[0] if problems else None


def test_a_file_in_the_place_of_the_run_is_told_once(place):
    (place / "recipe.yaml").write_text("name: here\nmodel: base\n")
    for kind in ("mid", "sft"):
        keys = "model_name_or_path: base\ndataset_mixture: {datasets: [{id: mine/rows.jsonl}]}\n"
        (place / f"{kind}.yaml").write_text(keys)
    (place / "data.yaml").unlink()
    Path("runs").mkdir()
    Path("runs/here").write_text("years of work")
    told = [one for one in check_recipe(place)[1] if "folder to write into" in one]
    assert told == [
        f"{place}/recipe.yaml:1: name: expected a folder to write into, got the file runs/here; name another "
        "folder, or move it away"
    ]


def test_places_of_others_are_refused(place):
    refused = {
        ".": "is the working directory",
        "..": "holds ",
        "/": "holds ",
        str(Path.home()): "is the home folder",
        "recipe": "is the recipe's folder",
        "mine": "holds mine/rows.jsonl, which sft.yaml reads",
        "base": "is base, which sft.yaml reads",
        "recipe/../base": "is base, which sft.yaml reads",
        "mine/rows.jsonl": "is mine/rows.jsonl",
    }
    for output, why in refused.items():
        told = problem(place / "sft.yaml", output)
        assert told, output
        assert "output_dir: expected a folder of the stage's own" in told
        assert why in told, told
    for output, why in (("runs/x/prepared", "where the prepared rows of all"), ("runs/x/logs", "where the trackers")):
        assert f"got {output}, {why}" in problem(place / "sft.yaml", output)
    assert "where a disk is mounted; name one on it, such as /dev/shm/run" in problem(place / "sft.yaml", "/dev/shm")
    for output, told in (
        ("x" * 201, "expected a name of at most 200 bytes, got 201; shorten it"),
        (
            "runs/.sft.partial",
            "expected a name that begins with no dot, as those of unfinished folders do, got runs/.sft",
        ),
        ("mine/rows.jsonl/x", "expected a folder to write into, got the file mine/rows.jsonl; name another folder"),
    ):
        assert told in problem(place / "sft.yaml", output)
    os.symlink("base", "link")
    assert "got link (a link to" in problem(place / "sft.yaml", "link")
    assert problem(place / "sft.yaml", "runs/x/sft") is None


def test_a_folder_with_files_is_left_alone_unless_the_stage_made_it(place):
    notes = Path("notes")
    notes.mkdir()
    assert problem(place / "sft.yaml", notes) is None, "an empty one can be replaced"
    (notes / ".DS_Store").touch()
    assert problem(place / "sft.yaml", notes) is None
    for name in ("a", "b", "c", ".d"):
        (notes / name).touch()
    assert "got notes with .d, a, b and 1 more, and no manifest.json" in problem(place / "sft.yaml", notes)
    (notes / "manifest.json").write_text(json.dumps({"stage": "mid"}))
    assert "got notes, which the stage mid made" in problem(place / "sft.yaml", notes)
    (notes / "manifest.json").write_text(json.dumps({"stage": "notes"}))
    assert problem(place / "sft.yaml", notes) is None
    Path("file").touch()
    assert "expected a folder, got the file file" in problem(place / "sft.yaml", "file")
    os.symlink("nowhere", "dangling")
    assert "a link to nothing" in problem(place / "sft.yaml", "dangling")


def test_check_and_the_program_refuse_alike_and_touch_nothing(place):
    file = place / "data.yaml"
    file.write_text(file.read_text().replace("runs/x/data", "mine"))
    told = f"{file}:1: output_dir: expected an empty folder or one that the stage data made, got mine with notes.txt"
    _, problems = check_recipe(place)
    assert any(one.startswith(told) for one in problems), problems
    before = sorted((f, f.read_bytes()) for f in Path("mine").iterdir())
    result = python("-m", "apo_soup.toy", "--config", file, cwd=place.parent)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {told}")
    assert sorted((f, f.read_bytes()) for f in Path("mine").iterdir()) == before
    assert sorted(f.name for f in Path().iterdir()) == ["base", "mine", "recipe"]


def test_two_files_of_a_recipe_do_not_make_one_folder(place):
    (place / "mid.yaml").write_text((place / "sft.yaml").read_text())
    _, problems = check_recipe(place)
    assert any("got runs/x/sft, which mid.yaml makes; name another one" in one for one in problems), problems


def test_a_linked_folder_is_read_and_not_replaced(place):
    words = ("-m", "apo_soup.toy", "--config", place / "data.yaml")
    assert python(*words, cwd=place.parent).returncode == 0
    Path("runs/x/data").rename("elsewhere")
    Path("runs/x/data").symlink_to(Path("elsewhere").resolve())
    assert "up to date" in python(*words, cwd=place.parent).stdout
    result = python(*words, "--seed", "2", cwd=place.parent)
    assert result.returncode == 2
    assert "expected a folder that can be replaced, got a link to" in result.stderr
    assert Path("elsewhere/manifest.json").is_file()


@pytest.mark.parametrize("name", ["tiny", "smollm2-135m", "smollm3"])
def test_no_shipped_recipe_takes_a_place_of_others(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in (ROOT / "recipes" / name).glob("*.yaml"):
        if file.stem in ("mid", "sft", "apo", "merge", "pairs", "data", "eval"):
            recipe = load(file, "sft" if file.stem == "mid" else file.stem)
            assert output_problems(recipe, output_folders(recipe)) == []


def test_a_place_in_a_finished_folder_is_refused_and_a_tilde_is_the_home_folder(place, monkeypatch, tmp_path):
    (tmp_path / "runs" / "x" / "mid").mkdir(parents=True)
    (tmp_path / "runs" / "x" / "mid" / "manifest.json").write_text("{}")
    told = problem(place / "sft.yaml", "runs/x/mid/deep/sft")
    assert told.endswith("got runs/x/mid/deep/sft in runs/x/mid, which a stage made; name one beside it")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    recipe = load(place / "sft.yaml", "sft", ["--output_dir", "~/x/sft", "--model_name_or_path", "~/model"])
    assert (recipe.output_dir, recipe.model_name_or_path) == (f"{tmp_path}/home/x/sft", f"{tmp_path}/home/model")
    assert recipe.given_values()["model_name_or_path"] == "~/model"


def test_a_folder_of_the_same_disk_that_is_mounted_is_not_replaced(place, monkeypatch, tmp_path):
    """As a container has it, which a device's number does not tell."""
    folder = tmp_path / "runs" / "x y" / "sft"
    folder.mkdir(parents=True)
    line = f"36 35 98:0 /mnt1 {str(folder).replace(' ', chr(92) + '040')} rw,noatime master:1 - ext3 /dev/root rw\n"
    (tmp_path / "mounts").write_text(line)
    monkeypatch.setattr(outputs, "_MOUNTS", tmp_path / "mounts")
    assert "where a disk is mounted; name one on it, such as runs/x y/sft/run" in problem(
        place / "sft.yaml", "runs/x y/sft"
    )
    assert problem(place / "sft.yaml", "runs/x y/mid") is None


def test_what_lies_where_a_stage_works_is_told_before_it_begins(place, tmp_path):
    partial = tmp_path / "runs" / "x" / ".sft.partial"
    partial.parent.mkdir(parents=True)
    for make, what in ((lambda: partial.symlink_to("gone"), "a link"), (partial.touch, "a file")):
        make()
        told = f"expected to work in the folder runs/x/.sft.partial, got {what} in its place; move it away"
        assert told in problem(place / "sft.yaml", "runs/x/sft")
        partial.unlink()


def test_where_nobody_knows_the_home_folder_a_place_is_looked_at_all_the_same(place, monkeypatch):
    """As in a container whose user has a number and no name."""
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert problem(place / "sft.yaml", "runs/x/sft") is None
    assert "is the working directory" in (problem(place / "sft.yaml", ".") or "")
    assert machine_places(Path("runs/x")) == tuple(dict.fromkeys((Path("runs/x").absolute(), Path.cwd())))
