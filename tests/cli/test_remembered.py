"""Arguments of one command are not those of the next: what they made is told of, and never made again unseen."""

import json
import shutil

import pytest
from helpers import NO_WEIGHTS

from apo_soup.cli.order import print_states, run_stages
from apo_soup.cli.remembered import parts_made_otherwise, words_for_parts
from apo_soup.cli.steps import STEPS
from apo_soup.config.load import load
from apo_soup.config.members import member_recipes
from apo_soup.errors import UserError
from apo_soup.runs.arguments import deciding_arguments
from apo_soup.runs.lineage import lineage_lines
from apo_soup.runs.manifest import read_manifest
from apo_soup.runs.members import kept_checkpoints
from apo_soup.runs.state import FolderState
from apo_soup.training.entry import training_stage


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
        f"`apo-soup run data {recipe}` makes it as the file says, or write the arguments into it; "
    )
    assert f"{told}mid builds on what is there\n" in later_stage(recipe, capfd)
    assert read_manifest(rows) == made
    print_states(recipe)
    assert f"{told}later stages build on what is there\n" in capfd.readouterr().out
    assert lineage_lines({"data": made}, rows.parent)[0].endswith(
        "made with --seed 5 on the command line, beside its file"
    )


def test_an_edit_of_the_file_has_its_effect_or_its_sentence(recipe, capfd):
    rows, file = recipe.parent / "run" / "data", recipe / "data.yaml"
    assert run_stages("data", recipe, None, ["--seed", "5"]) == 0
    edited = json.loads(file.read_text())
    file.write_text(json.dumps(edited | {"counts": {"sft_talk": 4}}))
    capfd.readouterr()
    assert "counts.sft_talk was 3 and is 4; seed was 5 and is 0" in later_stage(recipe, capfd)
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
    assert "data: running, because sft_talk.jsonl has 0 bytes, not " in out
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


@pytest.fixture
def members(tmp_path):
    """A recipe of three members with a model and rows of one byte, and what makes a member's folders by hand."""
    (tmp_path / "model").mkdir()
    for file in ("model/config.json", "model/model.safetensors", "rows.jsonl"):
        (tmp_path / file).write_bytes(NO_WEIGHTS if file.endswith(".safetensors") else b"{}")
    values = {
        "output_dir": str(tmp_path / "run" / "apo"),
        "model_name_or_path": str(tmp_path / "model"),
        "dataset_mixture": {"datasets": [{"id": str(tmp_path / "rows.jsonl")}]},
        "members": [{"seed": 1}, {"seed": 2}, {"beta": 0.3}],
    }
    file = tmp_path / "recipe" / "apo.yaml"
    file.parent.mkdir()

    def write(**changes):
        file.write_text(json.dumps({**values, **changes}))
        return file

    def make(number, *words):
        member = member_recipes(load(write(), "apo", words))[number - 1]
        stage = training_stage(member)
        stage.begin()
        stage.finish(stage.result_folder(), {})
        return read_manifest(stage.folder)["arguments"]

    return write, make


def states(file, *words):
    """The states of an apo file's folders that are not up to date, in this process."""
    members = member_recipes(load(file, "apo", words))
    stages = [
        s for m in members for s in (*(k.stage for k in kept_checkpoints(m, training_stage(m))), training_stage(m))
    ]
    told = ((s, s.stale()) for s in stages)
    return [FolderState(stage=s.name, folder=str(s.folder), reason=reason) for s, reason in told if reason]


def judged(file):
    return parts_made_otherwise(file.parent, "apo", states(file), lambda words: set())


def test_of_the_members_those_made_with_arguments_stay_and_the_others_are_made(members, capfd):
    write, make = members
    assert make(1, "--max_steps", "1") == ["--max_steps", "1"]
    told = "apo/1 was made with --max_steps 1 on the command line, beside {0}/apo.yaml "
    told += "(max_steps was 1 and is not given); "
    told += "`apo-soup run apo {0}` makes it as the file says, or write the arguments into it"
    file = write()
    told = told.format(file.parent)
    assert judged(file) == ([told], ["apo/2", "apo/3"])
    assert words_for_parts(STEPS["apo"], ["apo/2-at-0.5", "apo/2", "apo/3"]) == ["--member", "2", "--member", "3"]
    assert print_states(file.parent) == 0
    waiting = "apo/2: stale, because it has not run yet\napo/3: stale, because it has not run yet\n"
    assert capfd.readouterr().out == f"warning: {told}; later stages build on what is there\n{waiting}"
    make(2)
    make(3, "--max_steps", "1")
    both = told.replace("apo/1 was", "apo/1, apo/3 were").replace("makes it", "makes them")
    assert judged(file) == ([both], [])
    lines, due = judged(write(learning_rate=1e-5))
    assert (due, len(lines)) == (["apo/2"], 1)
    assert "(learning_rate was not given and is 1e-05; max_steps was 1 and is not given)" in lines[0]
    assert judged(write(max_steps=1, members=[{"seed": 1}])) == ([], [])
    assert judged(write(checkpoints=[0.5], members=[{"seed": 1}])) == ([], ["apo/1-at-0.5", "apo/1"])
    (file.parent.parent / "run" / "apo" / "1" / "manifest.json").unlink()
    assert judged(write(members=[{"seed": 1}])) == ([], ["apo/1"])


def test_words_that_do_not_reach_a_member_are_none_of_its_arguments(members):
    _, make = members
    words = ("--seed", "5", "--members.1.beta", "0.4")
    assert make(1, *words) == [], "it has a seed of its own"
    assert make(2, *words) == ["--members.1.beta", "0.4"]
    assert make(3, *words) == ["--seed", "5"]
    assert make(3, "--max_seq_length", "64", "--max-steps=2") == ["--max_seq_length", "64", "--max-steps=2"]
    assert make(3, "--logging_steps", "7", "--save_safetensors", "true") == [], "nothing is learned otherwise"


def test_a_word_counts_for_the_folder_of_a_merge_file_that_it_reaches(tmp_path):
    from merge.plan import folder_arguments

    file = tmp_path / "merge.yaml"
    models = "[{model: mid, parameters: {weight: 1.0}}]"
    file.write_text(f"output_dir: run\nsoup: {{members: all}}\nmerge: {{merge_method: linear, models: {models}}}\n")
    recipe = load(file, "merge", ["--soup.dtype", "float32", "--merge.out_dtype", "float16", "--output_dir", "run2"])
    assert folder_arguments(recipe, ("soup",)) == ["--soup.dtype", "float32"]
    assert deciding_arguments(recipe) == ["--soup.dtype", "float32", "--merge.out_dtype", "float16"]
