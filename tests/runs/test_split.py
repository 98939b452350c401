"""Folders that were begun or made by a file without `global_batch_size`, for one with it."""

import json

import pytest

from apo_soup.errors import UserError
from apo_soup.runs.manifest import MANIFEST
from apo_soup.runs.stage import Stage

OLD = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "seed": 1}


@pytest.fixture
def stage(tmp_path):
    """A stage sft of this configuration."""
    return lambda config: Stage("sft", tmp_path / "sft", config, {"model": "aaa"})


def finish(begun):
    begun.begin()
    result = begun.result_folder()
    (result / "model.safetensors").write_bytes(b"weights")
    begun.finish(result, {})


@pytest.mark.parametrize(
    ("old", "processes", "batch", "stale"),
    [
        (OLD, "1", 8, None),
        (OLD, "8", 64, None),
        (OLD, "8", 8, "global_batch_size was 64 and is 8"),
        ({"seed": 1}, "2", 16, None),  # 8 a device and one micro-batch, as the keys' defaults are
        ({"seed": 1}, "2", 2, "global_batch_size was 16 and is 2"),
        (OLD | {"seed": 2}, "1", 8, "seed was 2 and is 1"),
    ],
)
def test_a_folder_is_current_where_the_product_is_the_global_batch(stage, monkeypatch, old, processes, batch, stale):
    monkeypatch.setenv("WORLD_SIZE", processes)
    finish(stage(old))
    monkeypatch.setenv("WORLD_SIZE", "1")  # as a look at the state is no launch
    told = stage({"global_batch_size": batch, "seed": 1}).stale()
    assert told is None if stale is None else stale in told


def test_the_size_of_a_micro_batch_counts_where_a_loss_depends_on_it(stage):
    finish(stage(OLD))
    assert stage({"global_batch_size": 8, "per_device_train_batch_size": 2, "seed": 1}).stale() is None
    other = stage({"global_batch_size": 8, "per_device_train_batch_size": 4, "seed": 1}).stale()
    assert other == "per_device_train_batch_size was 2 and is 4"


def test_a_manifest_that_does_not_tell_its_processes_is_of_another_batch(stage):
    finish(stage(OLD))
    file = stage(OLD).folder / MANIFEST
    manifest = json.loads(file.read_text())
    del manifest["processes"]
    file.write_text(json.dumps(manifest))
    assert "global_batch_size" in stage({"global_batch_size": 8, "seed": 1}).stale()


def test_what_was_begun_goes_on_on_other_processes_with_the_key_alone(stage, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    partial = stage(OLD).begin()
    (partial / "checkpoint-3").mkdir()
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(
        UserError, match=r"expected 2 processes, as it was begun with, got 4; .* write global_batch_siz"
    ):
        stage(OLD).begin()
    new = stage({"global_batch_size": 16, "seed": 1})
    assert new.begin() == partial
    assert capsys.readouterr().out == ("sft: begun on 2 processes, goes on on 4, with the same global batch of 16\n")
    assert json.loads((partial / "begun.json").read_text())["processes"] == 4
    assert (partial / "checkpoint-3").is_dir()
    assert stage({"global_batch_size": 16, "seed": 1}).stale() == "it was begun and not finished"
    (partial / "checkpoint-3" / "global_step3").mkdir()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"since DeepSpeed's \S+/checkpoint-3/global_step3 is of as many, or remove"):
        new.begin()
