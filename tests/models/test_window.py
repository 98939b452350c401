"""A longer window: rotary base and longest row of the model that a stage trains and saves."""

import json
from pathlib import Path

import pytest
import torch
from helpers import ROOT
from transformers import AutoConfig, AutoModelForCausalLM

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.models.window import changed_window, window_arguments

TINY = str(ROOT / "recipes" / "tiny" / "base")


def stage(folder: Path, *lines: str, model: str = TINY):
    text = [
        f"model_name_or_path: {model}",
        "output_dir: runs/x/extend",
        "dataset_mixture:",
        "  datasets:",
        "    - id: x",
    ]
    (folder / "extend.yaml").write_text("\n".join([*text, *lines]) + "\n")
    return load(folder / "extend.yaml", "sft")


def test_without_a_key_the_model_is_loaded_as_it_is(tmp_path):
    assert window_arguments(stage(tmp_path)) == {}


def test_the_model_is_loaded_with_the_new_angles_and_keeps_them(tmp_path):
    """Angles of pair i of D / 2 are theta ** (-2 i / D): with 32 numbers a head the last is theta ** (-30 / 32)."""
    recipe = stage(tmp_path, "rope_theta: 5.0e+6", "max_position_embeddings: 9000", "max_length: 4096")
    model = AutoModelForCausalLM.from_pretrained(TINY, **window_arguments(recipe))
    angles = model.model.rotary_emb.inv_freq
    torch.testing.assert_close(angles[-1], torch.tensor(5e6 ** (-30 / 32)))
    model.save_pretrained(tmp_path / "saved")
    saved = AutoConfig.from_pretrained(tmp_path / "saved")
    assert (saved.rope_parameters["rope_theta"], saved.max_position_embeddings) == (5e6, 9000)


def test_what_else_the_models_positions_have_is_kept(tmp_path):
    config = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}
    changed = changed_window(stage(tmp_path, "rope_theta: 2.0e+6"), config)
    assert changed == {"rope_parameters": {"rope_type": "default", "rope_theta": 2e6, "partial_rotary_factor": 0.5}}


@pytest.mark.parametrize(
    ("line", "config", "told"),
    [
        ("rope_theta: 2.0e+6", {"model_type": "gpt2", "n_positions": 1024}, "with rotary positions, got"),
        ("max_position_embeddings: 4096", {"model_type": "gpt2", "n_positions": 1024}, "has that key, got"),
        ("max_position_embeddings: 4096", {"max_position_embeddings": 512}, "with rotary positions, got"),
        ("max_position_embeddings: 1024", {"max_position_embeddings": 2048}, "at least 2,048, the window that"),
        ("rope_theta: 2.0e+6", {"text_config": {"rope_parameters": {}}}, "a model of text alone, got"),
        ("rope_theta: 2.0e+6", {"rope_parameters": {"rope_type": "yarn", "factor": 2}}, "not scaled, got"),
        ("rope_theta: 2.0e+6", {"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "one base of rotary"),
    ],
)
def test_positions_that_cannot_be_changed_are_refused(tmp_path, line, config, told):
    with pytest.raises(UserError) as refused:
        changed_window(stage(tmp_path, line), config)
    assert f"extend.yaml:6: {line.partition(':')[0]}: expected " in str(refused.value)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (("max_position_embeddings: 512", "max_length: 1024"), "expected at least max_length (1024), got 512"),
        (("rope_theta: 0",), "rope_theta: expected"),
        (("rope_theta: 1e6", "model_init_kwargs: {rope_parameters: {rope_theta: 2}}"), "keep one of the two"),
    ],
)
def test_keys_that_cannot_hold_are_told_with_their_line(tmp_path, lines, told):
    with pytest.raises(UserError, match=r"extend\.yaml:6: ") as refused:
        stage(tmp_path, *lines)
    assert told in str(refused.value)


def test_check_names_a_model_whose_window_cannot_be_changed(tmp_path, monkeypatch):
    from apo_soup.plan.check import check_recipe

    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    for file in Path(TINY).iterdir():
        (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    (tmp_path / "x.jsonl").write_text('{"text": "one two three"}\n')
    (tmp_path / "extend.yaml").write_text(
        "model_name_or_path: model\noutput_dir: runs/x/extend\nrope_theta: 1.0e+6\n"
        "dataset_mixture:\n  datasets:\n    - id: x.jsonl\n"
    )
    problems = check_recipe(tmp_path)[1]
    older = {key: value for key, value in config.items() if key != "rope_parameters"} | {"rope_theta": 1e4}
    (tmp_path / "model" / "config.json").write_text(json.dumps(older))
    assert check_recipe(tmp_path)[1] == [], "positions as transformers 4 wrote them"
    assert len(problems) == 1
    assert (
        "extend.yaml:3: rope_theta: expected rotary positions that are not scaled, got model (smollm3)" in problems[0]
    )
