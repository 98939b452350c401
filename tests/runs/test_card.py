"""The card of a merged folder, against a Hub on loopback."""

import json
import re
import shutil
from collections.abc import Iterator

import pytest
import yaml
from helpers import counted_source, whole_results
from hub import Hub, python_with_hub

from apo_soup.config.mergekit import MergekitKeys
from apo_soup.runs.card import card_on_hub, card_to_send, rewrite_card, write_card


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as served:
        yield served


def test_a_card_names_base_data_and_licence_of_the_hub(hub, tiny_model, tmp_path):
    hub.put("model", "maker/base", {"README.md": b"---\nlicense: mit\n---\n# base\n"})
    run = tmp_path / "run"
    shutil.copytree(tiny_model, run / "mid")
    source = counted_source(source="maker/rows:english")
    made = {
        "stage": "mid",
        "outputs": {},
        "inputs": {},
        "config": {"learning_rate": 1e-4},
        "metrics": {"data": [source]},
    }
    (run / "mid" / "manifest.json").write_text(json.dumps({**made, "ran_with": {"model_name_or_path": "maker/base"}}))
    (run / "merged").mkdir()
    code = (
        "import sys; from pathlib import Path; from apo_soup.runs.card import write_card; run = Path(sys.argv[1]);"
        "from apo_soup.config.mergekit import MergekitKeys;"
        "config = MergekitKeys(merge_method='linear', models=[{'model': str(run / 'mid')}]);"
        "write_card(run / 'merged', 'merged', config, [str(run / 'mid')], run)"
    )
    result = python_with_hub(hub, "-c", code, run)
    assert result.returncode == 0, result.stderr
    assert not hub.asked, "models are local, so no network is tried"
    assert "license" not in yaml.safe_load((run / "merged" / "README.md").read_text().split("---")[1])
    result = python_with_hub(
        hub,
        "-c",
        f"from apo_soup.runs.licence import cache_card; cache_card('maker/base', None)\n{code}",
        run,
    )
    assert result.returncode == 0, result.stderr
    card = (run / "merged" / "README.md").read_text()
    about = yaml.safe_load(card.split("---")[1])
    assert about["base_model"] == ["maker/base"]
    assert about["license"] == "mit"
    assert about["datasets"] == ["maker/rows"]
    assert "- mid: maker/rows:english (think): 3 rows, 10 tokens, 40% trained" in card
    assert str(tmp_path) not in card


def test_a_card_is_written_anew_with_the_scores_that_came_since(tmp_path):
    for name in ("mid", "soup", "merged"):
        (tmp_path / name).mkdir()
    manifest = {"stage": "merged", "inputs": {"model 0 soup": "a" * 64, "model 1 mid": "b" * 64}, "metrics": {}}
    mix = [{"model": f"model {n}", "parameters": {"weight": w}} for n, w in enumerate((0.9, 0.1))]
    manifest["config"] = {"merge_method": "linear", "models": mix, "options": {"cuda": False}}
    (tmp_path / "merged" / "manifest.json").write_text(json.dumps(manifest))
    assert not rewrite_card(tmp_path, "mid")
    assert rewrite_card(tmp_path, "merged")
    before = (tmp_path / "merged" / "README.md").read_text()
    assert "- model: soup\n  parameters:\n    weight: 0.9\n- model: mid\n" in before
    assert "## Evaluation" not in before
    assert "options" not in before
    for name, value in (("base", 0.25), ("merged", 0.75), ("mid", 0.5)):
        folder = tmp_path / "evals" / name
        folder.mkdir(parents=True)
        score = {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 9, "headline": True, "better": "higher"}
        results = whole_results(name=name, model=str(tmp_path / name), metrics={"problems/think": score})
        tasks = {"declines": "safety", "problems": "answer", "mmlu": "harness"}
        results["tasks"] = {task: {"kind": kind, "rows": "c" * 64, "metrics": []} for task, kind in tasks.items()}
        results |= {"suite_hash": "c" * 64, "engine": {"transformers": "5.23", "dtype": "float32"}}
        (folder / "results.json").write_text(json.dumps(results))
    rewrite_card(tmp_path, "merged")
    card = (tmp_path / "merged" / "README.md").read_text()
    assert "| score | base | merged |\n|---|---|---|\n| think | 0.25 [0.15, 0.35] | 0.75 [0.65, 0.85] |" in card
    assert "Nothing was measured of it; nobody looked at its safety, its bias or its knowledge." in before
    assert "own held-out rows and of public tasks; nobody looked at its bias or its knowledge beyond what these" in card
    assert "Suite cccccccccccc, transformers 5.23, float32." in card
    assert str(tmp_path) not in card
    assert 'name = "FOLDER_OR_HUB_ID"' in card
    assert 'name = "somebody/model"' in card_on_hub(card_to_send(tmp_path, "merged"), "somebody/model")


def test_no_name_is_read_as_markup_by_a_card(tmp_path):
    """Of a run, a model, a source, a mode, a metric, a licence and a value; in text, tables and blocks of code."""
    evil = "<script>x()</script>| `` [a](b)\n# c\x1b"
    run = tmp_path / "run <script>"
    (run / "merged").mkdir(parents=True)
    parent = run / "mid"
    parent.mkdir()
    source = counted_source(source=evil, mode=evil)
    made = {"stage": evil, "inputs": {}, "outputs": {}, "config": {"loss_type": evil}, "metrics": {"data": [source]}}
    (parent / "manifest.json").write_text(json.dumps(made))
    metric = {"headline": True, "n": 9, "value": 0.5, "low": 0.4, "high": 0.6, "better": "higher"}
    results = whole_results(name="merged", model=str(run / "merged"), metrics={evil: metric})
    (run / "evals" / "merged").mkdir(parents=True)
    (run / "evals" / "merged" / "results.json").write_text(json.dumps(results))
    config = MergekitKeys.model_validate({"merge_method": "linear", "models": [{"model": "```\n<b>"}]})
    write_card(run / "merged", "merged", config, [str(parent), "x/<b>"], run)
    card = (run / "merged" / "README.md").read_text()
    (block,) = re.findall(r"(?ms)^````yaml$.*?^````$", card)
    assert "<" not in card.replace(block, "")
    plain = r"&lt;script&gt;x()&lt;/script&gt;\| \`\` \[a\](b) # c" + "\ufffd"
    assert f"- {plain}: {plain} ({plain}): 3 rows, 10 tokens, 40% trained" in card
