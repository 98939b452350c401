"""Stages as folders: absent or whole, stale for a reason; the order of a recipe; the report."""

import html.parser
import json

import pytest
from helpers import ROOT, chat, preference, python

from pipeline.hashing import hash_model, hash_value
from pipeline.run import STEPS, command, order
from pipeline.stage import Stage, differences
from pipeline.table import place, text_table


def test_order_runs_needs_first_and_each_once():
    assert order("eval") == ["data", "mid", "sft", "pairs", "apo", "soup", "merge", "eval"]
    assert order("mid") == ["data", "mid"]


def test_the_command_is_the_one_the_documentation_shows(tmp_path):
    recipe = ROOT / "recipes" / "tiny"
    words = command(STEPS["sft"], recipe, "recipes/accelerate/cpu.yaml", ["--learning_rate", "1e-4"])
    assert words[:5] == ["accelerate", "launch", "--config_file", "recipes/accelerate/cpu.yaml", "-m"]
    assert words[5:] == ["sft", "--config", str(recipe / "sft.yaml"), "--learning_rate", "1e-4"]
    assert command(STEPS["soup"], recipe, "x", [])[:3] == ["python", "-m", "merge"]


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
    stage(seed=2).begin()
    assert not kept.exists()


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


def test_a_model_hash_follows_content_not_names_or_times(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"same")
        (tmp_path / name / "README.md").write_text(name)
    assert hash_model(tmp_path / "a") == hash_model(tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").write_bytes(b"other")
    assert hash_model(tmp_path / "a") != hash_model(tmp_path / "b")
    assert hash_value({"x": 1, "y": 2}) == hash_value({"y": 2, "x": 1})


def test_table_places_and_widths():
    assert sorted(["merged", "apo/2", "base", "soup", "apo/1", "sft", "mid"], key=place) == [
        "base", "mid", "sft", "apo/1", "apo/2", "soup", "merged",
    ]  # fmt: skip
    assert text_table(["a", "bb"], [["ccc", "d"]]) == "a    bb\n---  --\nccc  d"


class Page(html.parser.HTMLParser):
    """Collects what a browser would request, and checks that tags close."""

    void = {"meta", "rect", "polyline", "path", "br"}

    def __init__(self):
        super().__init__()
        self.open, self.requests, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.requests += [v for k, v in attrs if k in ("src", "href", "srcset", "data")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_a_report_is_one_page_that_asks_for_nothing(tiny_model, write_rows, write_recipe, tmp_path):
    run = tmp_path / "run"
    questions = [{"messages": chat("1 + 1 <b>?", "")["messages"][:1], "answer": "2"}]
    tasks = [
        {"name": "problems", "kind": "answer", "data": str(write_rows("q.jsonl", questions)), "max_new_tokens": 4},
        {"name": "preference", "kind": "preference", "data": str(write_rows("p.jsonl", [preference("Q", "a", "b")]))},
    ]
    models = {"base": str(tiny_model), "merged": str(tiny_model)}
    recipe = write_recipe("eval.yaml", {"output_dir": str(run / "evals"), "models": models, "tasks": tasks})
    assert python("-m", "evals", "--config", recipe).returncode == 0
    result = python("-m", "pipeline", "report", tmp_path)
    assert result.returncode == 0, result.stderr
    assert str(run / "report.html") in result.stdout
    assert "base" in result.stdout
    page = Page()
    text = (run / "report.html").read_text()
    page.feed(text)
    assert page.open == []
    assert page.requests == []
    assert "<script" not in text
    assert "Not run." in page.text
    assert "1 + 1 <b>?" in page.text
    assert len(text) < 3 * 2**20


def test_make_alone_lists_the_targets():
    import subprocess

    text = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "demo", "mid", "sft", "pairs", "apo", "soup", "merge", "eval", "report", "test", "lint"):
        assert f"make {target} " in text


def test_check_and_why_answer_for_every_recipe():
    for name in ("tiny", "smollm2-135m", "smollm3"):
        result = python("-m", "pipeline", "check", f"recipes/{name}")
        assert result.returncode == 0, result.stderr
        assert "no error" in result.stdout
    result = python("-m", "pipeline", "check", "recipes/nowhere")
    assert result.returncode == 2
    assert "no such recipe folder" in result.stderr
