"""Stages as folders: absent or whole, stale for a reason."""

import json

import pytest

from apo_soup.errors import UserError
from apo_soup.runs.manifest import differences
from apo_soup.runs.stage import Stage, replace_folder


@pytest.fixture
def stage(tmp_path):
    return lambda **config: Stage("sft", tmp_path / "run" / "sft", config, {"model": "aaa"})


def finish(stage):
    final = stage.begin() / "final"
    final.mkdir()
    (final / "model.safetensors").write_bytes(b"weights")
    stage.finish(final, {"loss": 1.0})


def test_a_stage_is_absent_then_whole_then_stale_for_a_reason(stage):
    first = stage(seed=1)
    assert first.stale() == "it has not run yet"
    first.begin()
    assert first.stale() == "it was begun and not finished"
    assert not first.folder.exists()
    finish(first)
    assert first.stale() is None
    assert [f.name for f in first.folder.parent.iterdir()] == ["sft"]
    assert stage(seed=2).stale() == "seed was 1 and is 2"
    changed = Stage("sft", first.folder, {"seed": 1}, {"model": "bbb", "rows x": "c"})
    assert changed.stale() == "model changed; rows x is new"


def test_a_partial_folder_is_kept_for_the_same_work_and_emptied_for_other_work(stage):
    stage(seed=1).begin()
    kept = stage(seed=1).partial / "checkpoint-1"
    kept.mkdir()
    stage(seed=1).begin()
    assert kept.exists()
    assert "seed was 1 and is 2" in stage(seed=2).stale()
    stage(seed=2).begin()
    assert not kept.exists()
    assert (kept.parent.parent / ".sft.replaced" / "checkpoint-1").exists()


def test_a_manifest_says_what_made_the_folder(stage):
    finish(stage(seed=1))
    manifest = json.loads((stage().folder / "manifest.json").read_text())
    assert manifest["config"] == {"seed": 1}
    assert manifest["inputs"] == {"model": "aaa"}
    assert manifest["metrics"] == {"loss": 1.0}
    assert manifest["outputs"]["model.safetensors"]["bytes"] == 7
    assert manifest["versions"]["trl"]
    assert manifest["peak_memory_mb"] > 0
    assert manifest["seconds"] >= 0
    assert differences(manifest, {"seed": 1}, {"model": "aaa"}) == []


def test_a_folder_begun_with_other_processes_is_not_mixed(stage, monkeypatch):
    stage(seed=1).begin()
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UserError, match="sft: expected 1 processes, as it was begun with, got 4; launch with as many"):
        stage(seed=1).begin()


def test_a_fingerprint_holds_name_configuration_and_inputs(stage):
    first = stage(seed=1)
    assert first.fingerprint == stage(seed=1).fingerprint
    others = [stage(seed=2), Stage("mid", first.folder, {"seed": 1}, {"model": "aaa"})]
    others.append(Stage("sft", first.folder, {"seed": 1}, {"model": "bbb"}))
    assert first.fingerprint not in [other.fingerprint for other in others]
    assert Stage("sft", first.folder.parent, {"seed": 1}, {"model": "aaa"}).fingerprint == first.fingerprint


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for name in ("new", "final"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    replace_folder(tmp_path / "new", tmp_path / "final")
    assert [f.name for f in tmp_path.rglob("*")] == ["final", "new"]
    assert (tmp_path / "final" / "new").is_file()
