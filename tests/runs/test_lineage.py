"""Where a model comes from, as manifests and cards name it."""

import json

from apo_soup.runs.lineage import (
    data_lines,
    labelled_model,
    lineage_lines,
    lineage_of,
    model_label,
    oldest_first,
    short_model_name,
)


def test_a_label_names_a_model_without_the_machines_path_and_is_found_again(tmp_path):
    for name in ("soup", "apo/1"):
        (tmp_path / name).mkdir(parents=True)
        assert model_label(str(tmp_path / name), tmp_path) == name
        assert labelled_model(name, tmp_path) == str(tmp_path / name)
    assert model_label("maker/base@v1", tmp_path) == labelled_model("maker/base@v1", tmp_path) == "maker/base@v1"
    assert model_label(f"maker/base+{tmp_path / 'apo/1'}", tmp_path) == "maker/base+apo/1"
    assert labelled_model("maker/base+apo/1", tmp_path) == f"maker/base+{tmp_path / 'apo/1'}"
    assert short_model_name(f"{tmp_path}/base+{tmp_path}/apo/2") == "base+apo/2"


def test_a_line_goes_up_through_manifests_to_models_that_no_stage_made(tmp_path):
    source = {"source": "rows.jsonl", "mode": "think", "kept": 1200, "tokens": 4000, "trained": 1000}
    source |= {"rejected": 0, "lost": 0, "mean_length": 3.0}
    manifests = {
        "mid": {"ran_with": {"model_name_or_path": "maker/base"}, "metrics": {"data": [source]}},
        "apo/1": {"ran_with": {"model_name_or_path": str(tmp_path / "mid")}, "config": {"loss_type": ["apo_zero"]}},
        "soup": {"metrics": {"models": ["apo/1"]}, "config": {"merge_method": "linear"}},
    }
    for name, manifest in manifests.items():
        (tmp_path / name).mkdir(parents=True)
        whole = {"stage": name, "config": {}, "metrics": {}, "inputs": {"model": "a" * 64}} | manifest
        (tmp_path / name / "manifest.json").write_text(json.dumps(whole))
    line = lineage_of([str(tmp_path / "soup")], tmp_path)
    assert list(line) == [*(str(tmp_path / n) for n in ("soup", "apo/1", "mid")), "maker/base"]
    assert line["maker/base"] is None
    assert lineage_lines(line, tmp_path) == [
        "1. maker/base",
        "2. mid: from maker/base (aaaaaaaaaaaa)",
        "3. apo/1: from mid (aaaaaaaaaaaa), loss_type apo_zero",
        "4. soup: from apo/1 (aaaaaaaaaaaa), merge_method linear",
    ]
    assert data_lines(line, tmp_path) == ["- mid: rows.jsonl (think): 1,200 rows, 4,000 tokens, 25% trained"]


def test_a_model_stands_behind_all_that_it_was_made_of(tmp_path):
    """A merge reads the soup and mid, of which the soup itself was made: mid is older than sft."""
    made = {"mid": ["base"], "sft": ["mid"], "apo/1": ["sft"], "apo/2": ["sft"], "soup": ["apo/1", "apo/2"]}
    for name, parents in made.items():
        (tmp_path / name).mkdir(parents=True)
        trained = len(parents) == 1
        whole = {"stage": name, "config": {}, "inputs": {}, "metrics": {} if trained else {"models": parents}}
        parent = parents[0] if parents == ["base"] else str(tmp_path / parents[0])
        whole |= {"ran_with": {"model_name_or_path": parent}} if trained else {}
        (tmp_path / name / "manifest.json").write_text(json.dumps(whole))
    line = lineage_of([str(tmp_path / "soup"), str(tmp_path / "mid")], tmp_path)
    assert [short_model_name(model) for model in oldest_first(line, tmp_path)] == ["base", *made]
