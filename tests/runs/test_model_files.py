"""Hashes of model folders, and what manifests remember of their files."""

import json

import pytest

from apo_soup.runs.model_files import TOKENIZER_FILES, file_record, hash_model, model_files


def test_a_model_hash_follows_content_not_names_or_times(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"same")
        (tmp_path / name / "README.md").write_text(name)
    assert hash_model(tmp_path / "a") == hash_model(tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").write_bytes(b"other")
    assert hash_model(tmp_path / "a") != hash_model(tmp_path / "b")
    trusted = {"outputs": {"model.safetensors": file_record(tmp_path / "a" / "model.safetensors")}}
    (tmp_path / "a" / "manifest.json").write_text(json.dumps(trusted))
    before = hash_model(tmp_path / "a")
    (tmp_path / "a" / "model.safetensors").write_bytes(b"emas")
    assert hash_model(tmp_path / "a") != before, "equal size, other content"


def test_cards_and_training_state_are_no_part_of_a_model(tmp_path):
    for name in ("model.safetensors", "config.json", "README.md", "trainer_state.json", "modeling.py"):
        (tmp_path / name).touch()
    assert [file.name for file in model_files(tmp_path)] == ["config.json", "model.safetensors", "modeling.py"]


def test_weights_are_those_that_transformers_reads(tmp_path):
    """One whole file before an index and its parts; what belongs to no model makes nothing stale."""
    for name in ("model-1.safetensors", "model-2.safetensors", "older.safetensors", "optimizer.safetensors"):
        (tmp_path / name).write_bytes(name.encode())
    assert model_files(tmp_path) == []
    index = {"weight_map": {"a": "model-2.safetensors", "b": "model-1.safetensors", "c": "model-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [file.name for file in model_files(tmp_path)] == ["model-1.safetensors", "model-2.safetensors"]
    (tmp_path / "model.safetensors").write_bytes(b"whole")
    assert [file.name for file in model_files(tmp_path)] == ["model.safetensors"]
    before = hash_model(tmp_path)
    (tmp_path / "model-1.safetensors").write_bytes(b"other")
    assert hash_model(tmp_path) == before
    for named, found in (("older.safetensors", ["older"]), ("model.safetensors.index.json", ["model-1", "model-2"])):
        (tmp_path / "config.json").write_text(json.dumps({"transformers_weights": named}))
        assert [file.stem for file in model_files(tmp_path)[1:]] == found


@pytest.mark.parametrize("pattern", TOKENIZER_FILES)
def test_every_file_of_a_tokenizer_decides_what_the_model_is(tmp_path, pattern):
    file = tmp_path / pattern.replace("*", "tools")
    file.parent.mkdir(exist_ok=True)
    file.write_text("one")
    before = hash_model(tmp_path)
    file.write_text("two")
    assert hash_model(tmp_path) != before
