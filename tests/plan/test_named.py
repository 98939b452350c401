"""What a recipe names and what its folder holds: told before anything runs."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from helpers import ROOT

from apo_soup.config.load import load
from apo_soup.plan.check import check_recipe
from apo_soup.plan.recipe_files import shared_runs

BAD_ROWS = {"none.jsonl": "", "others.jsonl": '{"foo": 1}\n', "cut.jsonl": '{"messages": [\n', "notes.txt": "x\n",
            "silent.jsonl": '{"messages": []}\n'}  # fmt: skip


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """Checks a copy of the shipped recipe after a change; returns the sentences without the folder's name."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mine" / "r"
    shutil.copytree(ROOT / "recipes" / "tiny", folder)

    def check(file="", keys=(), change=None):
        if file:
            tree = yaml.safe_load((folder / file).read_text())
            for dotted, value in dict(keys).items():
                *parents, last = dotted.split(".")
                holder = tree
                for name in parents:
                    holder = holder[int(name)] if isinstance(holder, list) else holder.setdefault(name, {})
                holder[int(last) if isinstance(holder, list) else last] = value
            (folder / file).write_text(yaml.safe_dump(tree, sort_keys=False))
        if change:
            change(folder)
        return [told.replace(f"{folder}/", "").replace(str(folder), "r") for told in check_recipe(folder)[1]]

    return check


def test_the_shipped_recipe_passes_where_nothing_has_run(changed):
    assert changed() == []


@pytest.mark.parametrize(
    ("file", "key", "value", "told"),
    [
        ("sft.yaml", "model_name_or_path", "./there", "model_name_or_path: expected a model folder, got ./there"),
        ("sft.yaml", "chat_template", "a.jinja", "chat_template: expected apo-soup, trl, Jinja text, or a .jinja file"),
        ("sft.yaml", "chat_template", "{{ bad", "chat_template: expected Jinja text, got what it cannot"),
        ("sft.yaml", "dataset_mixture.datasets.0.format", "x", "format: expected one of messages, sharegpt"),
        ("sft.yaml", "eos_token", "<|nope|>", "eos_token: expected a token of runs/tiny/mid, got '<|nope|>'"),
        ("sft.yaml", "deepspeed", "z.json", "deepspeed: expected a JSON file of DeepSpeed's, got z.json"),
        ("sft.yaml", "fsdp_config", "z.json", "fsdp_config: expected a JSON file of FSDP's, got z.json"),
        ("sft.yaml", "dataset_mixture.decontaminate", ["e.yaml"], "decontaminate.0: expected an eval file, got e.yaml"),
        ("sft.yaml", "eval_suite", {"tasks": ["problem"]}, "eval_suite.tasks.0: expected a task of eval.yaml (prob"),
        ("mid.yaml", "eval_suite.tasks", ["trace_preference"], "tasks whose rows are there when mid trains, got trace"),
        ("mid.yaml", "dataset_mixture.datasets.0.id", "x.jsonl", "datasets.0.id: expected a data file, got x.jsonl"),
        ("pairs.yaml", "prompts", "x.jsonl", "prompts: expected a data file, got x.jsonl"),
        ("pairs.yaml", "strong.model", "./no", "strong.model: expected a model folder, got ./no"),
        ("pairs.yaml", "verifier", "nope", "verifier: expected one of number, exact, math"),
        ("pairs.yaml", "filters", {"language": True, "languages": ["enx"]}, "filters.languages: expected languages"),
        ("eval.yaml", "tasks.0.data", "x.jsonl", "tasks.0.data: expected a data file, got x.jsonl"),
        ("eval.yaml", "models", {"a": "nope"}, "models.a: expected a model folder, got nope"),
        ("eval.yaml", "models", {}, "models: expected at least one model, got none"),
        ("merge.yaml", "merge.models.0.model", "nope", "models.0.model: expected a stage (base, extend, mid, sft"),
        ("merge.yaml", "sweep.tasks", ["nope"], "sweep.tasks: expected one of the tasks of tuning.yaml ("),
        ("merge.yaml", "sweep.metric", "nedle/1536", "sweep.metric: expected a score of one of the tasks (problems, "),
        ("merge.yaml", "sweep.guardrails", {"x/y": 0}, "sweep.guardrails.x/y: expected a score of one of the tasks ("),
        ("merge.yaml", "sweep.eval", "e.yaml", "sweep.eval: expected an eval file, got e.yaml, which is not there"),
        ("data.yaml", "counts", {"mid_thin": 1}, "counts.mid_thin: expected one of extend_asked, mid_think"),
    ],
)  # fmt: skip
def test_what_is_named_is_opened(changed, file, key, value, told):
    sentences = changed(file, {key: value})
    assert sentences[0].startswith(f"{file}:")
    assert any(told in sentence for sentence in sentences)


def test_a_served_models_tokenizer_is_asked_for_where_probabilities_are_read(changed):
    served = {"engine": "openai", "endpoint": {"model": "m", "base_url": "http://localhost:9/v1"}}
    (told,) = changed("eval.yaml", served)
    assert "endpoint.tokenizer: expected one for task needle of kind recall, which reads the probabilities of" in told


@pytest.mark.parametrize("stage", ["sft", "apo"])
@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("none.jsonl", "dataset_mixture.datasets.0.id: expected at least one row, got none in none.jsonl"),
        ("others.jsonl", "dataset_mixture.datasets.0.id: source others.jsonl: expected rows of a format among"),
        ("cut.jsonl", "cut.jsonl:1: expected a JSON object"),
        ("notes.txt", "dataset_mixture.datasets.0.id: expected a data file that ends in one of"),
    ],
)
def test_rows_that_are_none_are_told(changed, stage, rows, told):
    def write(folder):
        for name, text in BAD_ROWS.items():
            (folder / name).write_text(text)

    assert told in changed(f"{stage}.yaml", {"dataset_mixture.datasets.0.id": rows}, write)[0]


def test_members_of_a_soup_may_be_folders(changed, tmp_path):
    (tmp_path / "mine" / "r" / "member").mkdir()
    listed = {"soup.members": ["member", "./base", "1"]}
    assert changed("merge.yaml", listed) == []
    assert changed("merge.yaml", {"soup.members": ["runs/tiny/apo/1", "runs/tiny/apo/3"]}) == []
    (told,) = changed("merge.yaml", {"soup.members": ["./nowhere", "1"]})
    assert told.startswith("merge.yaml:2: soup.members: expected a model folder, got nowhere, which is not there (")


def test_what_cannot_be_looked_at_hides_no_other_mistake(changed):
    def damage(folder):
        (folder / "eval.yaml").write_text((folder / "eval.yaml").read_text() + "\nmodels: {a: nope}\n")
        (folder / "sft.yaml").write_text((folder / "sft.yaml").read_text() + '\noutput_dir: "a\\0b"\n')
        manifest = Path("runs/tiny/mid/manifest.json")
        manifest.parent.mkdir(parents=True)
        for file in (folder / "base" / "config.json", manifest):
            file.write_text('{"cut')

    sentences = changed("merge.yaml", {"soup.members": ["a\0b", "1"]}, damage)
    for told in (
        "models.a: expected a model folder, got nope",
        "soup.members: expected a path or an id, got 'a",
        "output_dir: expected a path or an id, got 'a",
        "runs/tiny/mid/manifest.json: expected valid JSON, got what is none",
        "model: base/config.json: expected valid JSON, got what is none",
    ):
        assert any(told in sentence for sentence in sentences), (told, sentences)


def test_rows_of_which_none_can_be_used_are_told(changed):
    told = changed(
        "sft.yaml",
        {"dataset_mixture.datasets.0.id": "silent.jsonl"},
        lambda folder: (folder / "silent.jsonl").write_text(BAD_ROWS["silent.jsonl"]),
    )
    assert "expected a row that can be used among the first 1 of silent.jsonl, got none; the first: " in told[0]


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("sft.yaml", "apo.yaml: model_name_or_path: expected a model that is there or that a stage makes, got "
                     "runs/tiny/sft and no sft.yaml in r; add that file, or name a model that is there"),
        ("apo.yaml", "merge.yaml:6: soup: expected a model that is there or that a stage makes, got runs/tiny/apo/1 "
                     "and no apo.yaml in r; add that file, or name a model that is there"),
        ("pairs.yaml", "dataset_mixture.datasets.2.id: expected a data file, got pairs/train.jsonl"),
    ],
)  # fmt: skip
def test_a_stage_that_another_needs_and_no_file_makes_is_told(changed, file, told):
    assert any(told in sentence for sentence in changed(change=lambda folder: (folder / file).unlink()))


@pytest.mark.parametrize("file", ["data.yaml", "mid.yaml", "sft.yaml", "apo.yaml", "pairs.yaml", "merge.yaml"])
def test_a_file_that_cannot_be_read_is_told_alone(changed, file):
    """It is there, so no other file lacks what it makes."""
    (told,) = changed(change=lambda folder: (folder / file).write_text("seed: 1\nseed: 2\n"))
    assert told == f"{file}:2: seed: expected the key once, got it twice (first on line 1); keep one"


@pytest.mark.parametrize("name", ["7", "2-at-0.5"])
def test_a_member_that_apo_does_not_make_is_told(changed, name):
    (told,) = changed("merge.yaml", {"soup.members": ["1", name]})
    assert "soup: expected a model that is there or that a stage makes, got " in told
    assert told.endswith(f"runs/tiny/apo/{name}, which apo.yaml does not make; correct one of the two")
    assert changed("apo.yaml", {"members": [{"seed": n} for n in range(7)], "checkpoints": [0.5]}) == []


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("runs/tiny/mid/sft", "in mid, which mid.yaml makes; name another one"),
        ("runs/tiny/apo", "around 1, which apo.yaml makes; name another one"),
        ("runs/tiny/evals/sft", "in evals, which eval.yaml makes; name another one"),
        ("runs/tiny/data", "which data.yaml makes; name another one"),
    ],
)
def test_a_stage_in_the_folder_of_another_is_told(changed, output, told):
    sentences = changed("sft.yaml", {"output_dir": output})
    assert any(s.startswith("sft.yaml:") and s.endswith(told) and f"got {output}" in s for s in sentences), sentences


def test_files_that_begin_with_each_other_are_told(changed):
    (told,) = changed("mid.yaml", {"model_name_or_path": "sft"})
    circle = (
        "a circle (mid.yaml begins with sft.yaml begins with mid.yaml); name the model that one of them begins with"
    )
    assert told.endswith(f": model_name_or_path: expected a model that is there before, got {circle}")


@pytest.mark.parametrize(
    ("file", "model", "way"),
    [
        ("apo.yaml", "soup", "apo.yaml begins with merge.yaml begins with apo.yaml"),
        ("mid.yaml", "merged", "mid.yaml begins with merge.yaml begins with mid.yaml"),
    ],
)
def test_files_that_begin_with_each_other_by_way_of_a_soup_are_told(changed, file, model, way):
    told = [t for t in changed(file, {"model_name_or_path": model}) if "got a circle" in t]
    assert [t.startswith(f"{file}:") and f"got a circle ({way}); " in t for t in told] == [True]


def test_a_home_that_nobody_knows_is_told_whoever_names_the_stage(changed):
    told = changed("sft.yaml", {"output_dir": "~nobody-here/sft"})
    assert any("output_dir: expected a path, got '~nobody-here/sft', whose home folder" in s for s in told)


def test_a_soup_that_cannot_be_is_told_before_its_members_are_trained(changed, tmp_path):
    (told,) = changed("merge.yaml", {"soup.members": ["1", "runs/tiny/apo/1"]})
    assert "soup.members.1: expected every model once, got " in told
    members = [{"seed": 1}, {"seed": 2, "model_name_or_path": "mid"}]
    changed("merge.yaml", {"soup.members": "all"})
    assert changed("apo.yaml", {"members": members}) == [
        "merge.yaml:2: soup.members: expected members trained from one model, got member 2, which begins with "
        "runs/tiny/mid, and 1 with runs/tiny/sft; begin all with one, or list those of one"
    ]
    assert changed("merge.yaml", {"soup.members": ["2"]}) == []


def test_a_file_that_makes_another_folder_is_told_of_as_one_that_is_there(changed):
    told = changed("sft.yaml", {"output_dir": "runs/tiny/other"}, lambda f: (f / "eval.yaml").unlink())
    assert told == [], "what names the stage follows it"
    (told,) = changed("apo.yaml", {"model_name_or_path": "runs/tiny/sft"})
    assert told.endswith("got runs/tiny/sft, which sft.yaml does not make; correct one of the two")


@pytest.mark.parametrize(
    ("written", "right"),
    [("sfft.yaml", "sft"), ("mid.yml", "mid"), ("Mid.yaml", "mid"), ("evals.yaml", "eval"), ("aproo.yaml", None),
     ("sft2.yaml", "sft"), ("notes.yaml", None), ("sft_long.yaml", None), ("accelerate.yaml", None)],
)  # fmt: skip
def test_a_file_that_no_stage_reads_for_its_name_is_told(changed, written, right):
    kind = "sft" if right in ("sft", "mid") or written == "sft_long.yaml" else "eval"
    told = changed(change=lambda folder: shutil.copy(folder / f"{kind}.yaml", folder / written))
    sentences = [t for t in told if t.startswith(f"{written}: expected the name of a stage's file")]
    assert len(sentences) == (right is not None)
    if right:
        assert f"got {written}, which no stage reads; name it {right}.yaml" in sentences[0]


def test_a_model_folder_that_is_not_whole_is_told(changed):
    def cut(folder):
        os.mkdir(folder / "m")
        shutil.copy(folder / "base" / "config.json", folder / "m" / "config.json")

    assert "got " in changed("mid.yaml", {"model_name_or_path": "m"}, cut)[0]
    whole = changed(
        "mid.yaml", {}, lambda f: shutil.copy(f / "base" / "model.safetensors", f / "m" / "model.safetensors")
    )
    assert "model_name_or_path: expected a model folder with a tokenizer, got " in whole[0]
    for name, told in (("tokenizer.json", "expected a model with an end-of-turn token, got m without one"),
                       ("tokenizer_config.json", None)):  # fmt: skip
        sentences = changed("mid.yaml", {}, lambda f, name=name: shutil.copy(f / "base" / name, f / "m" / name))
        assert [told in sentence for sentence in sentences] == [True] * bool(told)
    (told,) = changed("mid.yaml", {}, lambda f: os.truncate(f / "m" / "model.safetensors", 100_000))
    assert "m/model.safetensors: expected" in told
    assert "got 100,000: the file is cut off; copy or make it again" in told


def test_two_recipes_that_write_into_one_run_are_told(changed, tmp_path):
    """Once where the name says so of all; else with the line of each."""
    told = changed(change=lambda folder: shutil.copytree(folder, folder.parent / "copy"))
    assert told == [
        "recipe.yaml:3: name: expected a run of this recipe's own, got one where copy/apo.yaml makes its apo too; give "
        "one of the two recipes another name"
    ]
    told = changed(change=lambda folder: shutil.copytree(folder, folder.parent / "third"))
    assert told == [
        "recipe.yaml:3: name: expected a run of this recipe's own, got one where copy/apo.yaml and third/apo.yaml make "
        "its apo too; give all but one of these recipes another name"
    ]
    shutil.rmtree(tmp_path / "mine" / "third")
    told = changed("sft.yaml", {"output_dir": "runs/tiny/sft"}, lambda folder: (folder / "recipe.yaml").unlink())
    lines = (tmp_path / "mine" / "r" / "sft.yaml").read_text().splitlines()
    assert [sentence for sentence in told if "a folder of this recipe's own" in sentence] == [
        f"sft.yaml:{1 + lines.index('output_dir: runs/tiny/sft')}: output_dir: expected a folder of this recipe's own, "
        "got sft of the run tiny, which copy/sft.yaml makes too; give every output_dir of one of the two recipes "
        "another run's name"
    ]


def test_recipes_beside_each_other_that_are_each_worked_in_make_folders_of_their_own(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sft.yaml").write_text("output_dir: run/sft\n")
    monkeypatch.chdir(tmp_path)
    assert "got sft of the run run, which two/sft.yaml makes too" in next(shared_runs(Path("one")))
    monkeypatch.chdir(tmp_path / "one")
    assert list(shared_runs(Path())) == []


def test_a_copy_that_would_replace_what_the_original_made_is_noted(changed, tmp_path):
    assert changed() == []
    other = tmp_path / "elsewhere" / "sft.yaml"
    other.parent.mkdir()
    other.write_text("seed: 0\n")
    made = tmp_path / "runs" / "tiny" / "sft"
    made.mkdir(parents=True)
    unquoted = {"stage": "sft", "command": "python -m sft --config it's/sft.yaml"}
    (made / "manifest.json").write_text(json.dumps(unquoted))
    assert changed() == [], "an older release did not quote"
    manifest = {"stage": "sft", "command": f"python -m sft --config {other} --seed 1"}
    (made / "manifest.json").write_text(json.dumps(manifest))
    recipes, problems = check_recipe(tmp_path / "mine" / "r")
    assert problems == []
    notes = [note for recipe in recipes for note in recipe.notes]
    assert notes == [
        f"{tmp_path}/mine/r/recipe.yaml:3: name: runs/tiny/sft was made by {other}, and a run of this recipe takes its "
        "place; where that is not meant, give the recipe another name"
    ]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("mid.yaml", "data/mid_asked.jsonl", "data/mid_aksed.jsonl"),
        ("mid.yaml", "data/mid_asked.jsonl", "data/more/mid_asked.jsonl"),
        ("apo.yaml", "pairs/train.jsonl", "pairs/trian.jsonl"),
        ("apo.yaml", "pairs/train.jsonl", "pairs/train.parquet"),
        ("eval.yaml", "data/heldout_tools.jsonl", "data/heldout_tool.jsonl"),
    ],
)
def test_rows_that_no_stage_writes_into_its_folder_are_not_there(file, old, new, tmp_path):
    """Of the files that a stage will have made in its folder, those that it names alone."""
    folder = tmp_path / "mine"
    shutil.copytree(ROOT / "recipes" / "tiny", folder)
    (folder / "recipe.yaml").write_text("name: mine\nmodel: base\nchat_template: apo-soup\n")
    assert check_recipe(folder)[1] == []
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    (problem,) = check_recipe(folder)[1]
    assert f"expected a data file, got runs/mine/{new}, which is not there" in problem


def test_a_pattern_of_rows_that_a_stage_will_write_counts_as_there(tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(ROOT / "recipes" / "tiny", folder)
    (folder / "recipe.yaml").write_text("name: mine\nmodel: base\nchat_template: apo-soup\n")
    mid = (folder / "mid.yaml").read_text()
    (folder / "mid.yaml").write_text(mid.replace("data/mid_asked.jsonl", "data/mid_a*.jsonl"))
    assert check_recipe(folder)[1] == []


def test_a_merge_by_stages_passes_in_a_folder_with_a_plus(tmp_path, monkeypatch):
    here = tmp_path / "c++"
    shutil.copytree(ROOT / "recipes" / "tiny", here / "r")
    monkeypatch.chdir(here)
    assert check_recipe(Path("r"))[1] == []


def test_a_mode_that_is_written_twice_is_asked_once(changed, tmp_path):
    assert changed("eval.yaml", {"tasks.0.modes": ["think", "no_think", "think"]}) == []
    assert load(tmp_path / "mine" / "r" / "eval.yaml", "eval").tasks[0].modes == ["think", "no_think"]
