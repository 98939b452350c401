"""Hashes of model folders, and what manifests remember of their files."""

import json

from apo_soup.runs.model_files import file_record, hash_model, model_files


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
