"""`preview` and `prepare` on a fresh clone, where no stage has run."""

import json
import shutil

import pytest
from helpers import ROOT, chat

from apo_soup.errors import UserError


@pytest.fixture
def clone(tmp_path):
    """A working directory with a copy of the embedded recipe, of few rows, and no run."""
    folder = tmp_path / "recipes" / "tiny"
    shutil.copytree(ROOT / "recipes" / "tiny", folder)
    text = (folder / "data.yaml").read_text()
    kept = text[: text.index("counts:")]
    supervised = [f"sft_{name}" for name in ("think", "no_think", "turns", "lookup", "talk", "requests", "tool")]
    counts = "".join(
        f"  {name}: 20\n" for name in ("mid_think", "mid_asked", *supervised, "preference", "request_pairs")
    )
    (folder / "data.yaml").write_text(f"{kept}counts:\n{counts}")
    return tmp_path


def test_sft_rows_are_generated_shown_and_prepared_before_mid_has_run(apo_soup, clone):
    result = apo_soup("preview", "--config", "recipes/tiny/sft.yaml", "--rows", "1")
    assert result.returncode == 0, result.stderr
    assert "data: running, because it has not run yet" in result.stdout
    told = "runs/tiny/mid is not there yet; taken are the tokenizer of recipes/tiny/base and chat template of "
    assert f"{told}recipes/tiny/recipe.yaml:5\n" in result.stdout
    assert "Reasoning Mode: /think" in result.stdout
    result = apo_soup("prepare", "--config", "recipes/tiny/sft.yaml")
    assert result.returncode == 0, result.stderr
    assert "140 of 140 rows kept" in result.stdout
    assert sorted(f.name for f in (clone / "runs" / "tiny").iterdir()) == ["data", "prepared"]


def test_pairs_that_are_not_made_yet_are_named(apo_soup, clone):
    result = apo_soup("preview", "--config", "recipes/tiny/apo.yaml")
    assert result.returncode == 0, result.stderr
    told = (
        "recipes/tiny/apo.yaml:10: dataset_mixture.datasets.2.id: expected rows, got runs/tiny/pairs/train.jsonl, "
        "which pairs.yaml has not made yet"
    )
    assert f"{told}, so this source is not shown; make it: `apo-soup run pairs recipes/tiny`" in result.stdout
    assert "=== runs/tiny/data/preference.jsonl" in result.stdout
    result = apo_soup("prepare", "--config", "recipes/tiny/apo.yaml")
    assert result.returncode == 2
    assert result.stderr == f"error: {told}; make them: `apo-soup run pairs recipes/tiny`\n"


def test_rows_that_the_data_stage_has_not_among_its_own_are_a_slip(apo_soup, clone):
    words = ("--dataset_mixture.datasets.0.id", "runs/tiny/data/sft_thnik.jsonl")
    apo_soup("run", "data", "recipes/tiny")
    result = apo_soup("prepare", "--config", "recipes/tiny/sft.yaml", *words)
    assert result.returncode == 2
    assert "expected a data file, got runs/tiny/data/sft_thnik.jsonl, which is not there" in result.stderr


def test_traces_are_shown_as_sft_would_train_on_them(write_recipe, write_rows, tiny_model, tmp_path, capsys):
    from apo_soup.cli.rows import preview_rows

    folder = tmp_path / "traces"
    values = {
        "output_dir": str(folder), "mode": "think", "strong": {"model": str(tiny_model)},
        "prompts": str(write_rows("q.jsonl", [{"prompt": "q"}])),
    }  # fmt: skip
    path = write_recipe("traces.yaml", values)
    with pytest.raises(UserError, match=r"expected traces in .*, got none; make them: `apo-soup run traces"):
        preview_rows(path, 1, [])
    folder.mkdir()
    row = chat("Why?", "<think>\nI think.\n</think>\n\nBecause.") | {"chat_template_kwargs": {"enable_thinking": True}}
    (folder / "train.jsonl").write_text(json.dumps(row) + "\n")
    preview_rows(path, 1, [])
    shown = capsys.readouterr().out
    assert "«<think>\nI think.\n</think>\n\nBecause.<|im_end|>»" in shown
    served = write_recipe("traces.yaml", values | {"strong": {"model": "m", "base_url": "http://x/v1"}})
    with pytest.raises(UserError, match="expected a side with a tokenizer, got an endpoint; preview an sft file that"):
        preview_rows(served, 1, [])
