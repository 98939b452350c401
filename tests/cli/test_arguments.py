"""Arguments of one command are not those of the next: what they made is told of, and never made again unseen."""

import json
import shutil

import pytest

from apo_soup.cli.order import print_states, run_stages
from apo_soup.errors import UserError
from apo_soup.runs.lineage import lineage_lines
from apo_soup.runs.manifest import read_manifest


@pytest.fixture
def recipe(tmp_path):
    """Rows, and a mid stage that reads them and is refused for want of a model, behind the rows."""
    folder = tmp_path / "recipe"
    folder.mkdir()
    data = {"output_dir": str(tmp_path / "run" / "data"), "seed": 0, "counts": {"sft_talk": 3}}
    (folder / "data.yaml").write_text(json.dumps(data))
    mid = {"output_dir": str(tmp_path / "run" / "mid"), "model_name_or_path": str(tmp_path / "nowhere")}
    rows = str(tmp_path / "run" / "data" / "sft_talk.jsonl")
    (folder / "mid.yaml").write_text(json.dumps(mid | {"dataset_mixture": {"datasets": [{"id": rows}]}}))
    return folder


def later_stage(recipe, capfd):
    """What a later stage says before it comes to its own model, which is not there."""
    assert run_stages("mid", recipe, None, []) == 2
    out, err = capfd.readouterr()
    assert "expected a model folder" in err
    return out


def test_a_later_stage_builds_on_what_was_made_with_arguments_and_says_so(recipe, capfd):
    rows = recipe.parent / "run" / "data"
    with pytest.raises(UserError, match="hub_token: expected a known key, got an unknown one; ") as refused:
        run_stages("data", recipe, None, ["--seed", "5", "--hub_token", "hf_abc"])
    assert "hf_abc" not in str(refused.value)
    assert run_stages("data", recipe, None, ["--seed", "5"]) == 0
    made = read_manifest(rows)
    assert made["arguments"] == ["--seed", "5"]
    capfd.readouterr()
    told = (
        f"warning: data was made with --seed 5 on the command line, beside {recipe}/data.yaml (seed was 5 and is 0); "
        f"`make data RECIPE={recipe}` makes it as the file says, or write the arguments into the file; "
    )
    assert f"{told}mid builds on it as it is\n" in later_stage(recipe, capfd)
    assert read_manifest(rows) == made
    print_states(recipe)
    assert f"{told}later stages build on it as it is\n" in capfd.readouterr().out
    assert lineage_lines({"data": made})[0].endswith("made with --seed 5 on the command line, beside its file")


def test_an_edit_of_the_file_has_its_effect_or_its_sentence(recipe, capfd):
    rows, file = recipe.parent / "run" / "data", recipe / "data.yaml"
    assert run_stages("data", recipe, None, ["--seed", "5"]) == 0
    edited = json.loads(file.read_text())
    file.write_text(json.dumps(edited | {"counts": {"sft_talk": 4}}))
    capfd.readouterr()
    assert 'counts was {"sft_talk": 3} and is {"sft_talk": 4}; seed was 5 and is 0' in later_stage(recipe, capfd)
    assert read_manifest(rows)["metrics"]["rows"] == {"sft_talk": 3}
    file.write_text(json.dumps(edited | {"seed": 5}))
    assert "warning" not in later_stage(recipe, capfd), "the file says now what was asked"
    file.write_text(json.dumps(edited | {"counts": {"sft_talk": 4}}))
    assert run_stages("data", recipe, None, []) == 0, "its own command, without the arguments"
    assert read_manifest(rows)["metrics"]["rows"] == {"sft_talk": 4}
    assert read_manifest(rows)["arguments"] == []
    assert "warning" not in later_stage(recipe, capfd)


def test_what_was_made_with_arguments_and_is_damaged_is_made_as_the_file_says(recipe, capfd):
    rows = recipe.parent / "run" / "data"
    assert run_stages("data", recipe, None, ["--seed", "5"]) == 0
    (rows / "sft_talk.jsonl").write_text("")
    capfd.readouterr()
    out = later_stage(recipe, capfd)
    assert "data: running, because sft_talk.jsonl has 0 bytes and not " in out
    assert " since it was made; seed was 5 and is 0\n" in out
    assert "warning" not in out
    assert read_manifest(rows)["arguments"] == []


def test_a_stage_that_came_to_no_end_is_made_as_the_file_says(recipe, capfd):
    assert run_stages("data", recipe, None, ["--seed", "5"]) == 0
    shutil.rmtree(recipe.parent / "run" / "data")
    assert "warning" not in later_stage(recipe, capfd)
    assert read_manifest(recipe.parent / "run" / "data")["config"]["seed"] == 0


def test_arguments_that_change_no_result_are_not_told_of(recipe):
    elsewhere = str(recipe.parent / "run" / "other")
    assert run_stages("data", recipe, None, ["--output_dir", elsewhere]) == 0
    assert read_manifest(recipe.parent / "run" / "other")["arguments"] == []


@pytest.mark.parametrize(("remembered", "warns"), [(["--seed", "5"], True), (["--seed", "6"], False)])
def test_what_older_releases_remembered_holds_where_it_is_true(recipe, capfd, remembered, warns):
    """They wrote the arguments into a file of the run, before the stage ran."""
    run = recipe.parent / "run"
    assert run_stages("data", recipe, None, ["--seed", "5"]) == 0
    manifest = read_manifest(run / "data")
    del manifest["arguments"]
    (run / "data" / "manifest.json").write_text(json.dumps(manifest))
    (run / "arguments.json").write_text(json.dumps({"data": remembered}))
    capfd.readouterr()
    assert ("warning: data was made with --seed 5 " in later_stage(recipe, capfd)) is warns
    assert read_manifest(run / "data")["config"]["seed"] == (5 if warns else 0)
