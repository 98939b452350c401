"""Folders that commit 193782e made are still up to date: today's code computes their fingerprints from their recipes.

`old_manifests/` holds that commit's tiny recipe and the manifests of its run. Content hashes of models and rows are
taken from the manifests, by label; configuration, labels and template come from today's code. Those of pairs and evals
are of commit 414696e, whose fingerprints held the cosmetic keys that stand inside other keys.
"""

import json
import shutil
from pathlib import Path

import pytest

from apo_soup.config.load import load
from apo_soup.config.members import member_recipes
from apo_soup.runs.manifest import differences
from apo_soup.runs.stage import Stage
from apo_soup.training.entry import training_stage
from merge.plan import merge_plan

OLD = Path(__file__).parent / "old_manifests"
STAGES = ("mid", "sft", "apo/1", "soup", "merged")


def old_manifest(name: str) -> dict:
    return json.loads((OLD / f"{name.replace('/', '-')}.json").read_text())


@pytest.fixture
def old_run(tmp_path, monkeypatch):
    """A working directory with the old recipe and the old run's folders, empty but for their manifests."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(OLD / "recipe", "recipes/tiny")
    for name in (*STAGES, "apo/2", "apo/3"):
        folder = Path("runs/tiny") / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        manifest = old_manifest(name if name in STAGES else "apo/1")
        (folder / "manifest.json").write_text(json.dumps(manifest | {"outputs": {}}))


def todays_stage(name: str, monkeypatch) -> Stage:
    """The stage as today's code sees it, with the old content hashes of the models and rows that it asks for."""
    inputs = old_manifest(name)["inputs"]

    def rows_hash(path: str, *_: object) -> str:
        return next(value for label, value in inputs.items() if label.startswith(f"rows {path} #"))

    def model_hash(model: str, *_: object) -> str:
        if "model" in inputs:
            return inputs["model"]
        place = Path(model).relative_to(Path("runs/tiny").resolve())
        return next(value for label, value in inputs.items() if label.endswith(f" {place}"))

    monkeypatch.setattr("apo_soup.runs.inputs.rows_hash", rows_hash)
    monkeypatch.setattr("apo_soup.runs.inputs.model_hash", model_hash)
    monkeypatch.setattr("merge.plan.model_hash", model_hash)
    if name in ("mid", "sft"):
        return training_stage(load(f"recipes/tiny/{name}.yaml", "sft"))
    if name == "apo/1":
        return training_stage(member_recipes(load("recipes/tiny/apo.yaml", "apo"))[0])
    return merge_plan(load("recipes/tiny/merge.yaml", "merge"), name).stage


@pytest.mark.parametrize("name", STAGES)
def test_a_folder_of_the_old_commit_is_up_to_date(name, old_run, monkeypatch):
    manifest, stage = old_manifest(name), todays_stage(name, monkeypatch)
    assert stage.config == manifest["config"], "a default, or a key of looks, would make every such folder stale"
    assert stage.inputs == manifest["inputs"]
    assert stage.name == manifest["stage"]
    assert stage.fingerprint == manifest["fingerprint"]
    assert stage.stale() is None


def test_what_is_given_makes_it_stale_and_a_default_or_a_look_does_not(old_run, monkeypatch):
    todays_stage("sft", monkeypatch)
    manifest = old_manifest("sft")
    for words, change in (
        (["--logging_steps", "1", "--save_steps", "7", "--report_to", "wandb"], []),
        (["--learning_rate", "1e-3"], ["learning_rate was 0.002 and is 0.001"]),
        (["--weight_decay", "0"], ["weight_decay was not given and is 0.0"]),
    ):
        stage = training_stage(load("recipes/tiny/sft.yaml", "sft", words))
        assert differences(manifest, stage.config, stage.inputs) == change
        assert (stage.stale() is None) == (not change)


@pytest.mark.parametrize(
    ("name", "kind", "looks", "decides", "change"),
    [
        (
            "pairs",
            "pairs",
            ["--strong.concurrency", "2", "--weak.api_key_env", "OTHER_KEY", "--judge.timeout", "9"],
            ["--weak.temperature", "0.5"],
            "weak.temperature was not given and is 0.5",
        ),
        (
            "evals/sft",
            "eval",
            ["--endpoint.timeout", "9", "--endpoint.retries", "1", "--tasks.1.processes", "8"],
            ["--tasks.1.timeout", "7"],
            "tasks.1.timeout was 9 and is 7",
        ),
    ],
)
def test_cosmetic_keys_in_an_old_fingerprint_are_left_aside(name, kind, looks, decides, change, old_run):
    manifest, folder = old_manifest(name), Path("runs/tiny") / name
    folder.mkdir(parents=True)

    def stage(*words: str) -> Stage:
        values = load(f"recipes/tiny/{kind}.yaml", kind, words).deciding_values()
        return Stage(name, folder, values, manifest["inputs"])

    begun = manifest["fingerprint"], manifest["config"], manifest["inputs"]
    stage().partial.mkdir()
    mark = dict(zip(("fingerprint", "config", "inputs"), begun, strict=True)) | {"processes": 1, "begun_as": "abc"}
    (stage().partial / "begun.json").write_text(json.dumps(mark))
    assert stage(*looks).stale() == "it was begun and not finished"
    assert f"it was begun otherwise ({change})" in stage(*looks, *decides).stale()
    stage(*looks).begin()
    assert stage().begun_as == "abc", "it goes on where it was"

    (folder / "manifest.json").write_text(json.dumps(manifest | {"outputs": {}}))
    assert stage().fingerprint != manifest["fingerprint"]
    assert stage().stale() is None
    assert stage(*looks).stale() is None
    assert stage(*looks, *decides).stale() == change
    other = {"pairs": ["--strong.extra_body.x-key", "def"], "eval": ["--endpoint.extra_body.x-key", "def"]}[kind]
    assert stage(*other).stale() is not None, "what is hidden in a manifest decides all the same"
