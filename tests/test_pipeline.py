"""Stages as folders: absent or whole, stale for a reason; the order of a recipe; the report."""

import html.parser
import json
import re

import pytest
from helpers import ROOT, TRAINING, chat, preference, python

from apo_soup.cli.order import STEPS, arguments_file, command, order, reads_pairs, remember, remembered, run_stages
from apo_soup.config.recipe import load
from apo_soup.errors import UserError
from apo_soup.hashing import hash_value
from apo_soup.runs.model_files import hash_model, recorded
from apo_soup.runs.results import place
from apo_soup.runs.stage import Stage, differences, redacted, without_secrets
from apo_soup.tables import text_table
from apo_soup.training.entry import training_stage
from sft.train import train


def test_order_runs_needs_first_and_each_once():
    assert order("eval") == ["data", "mid", "sft", "pairs", "apo", "soup", "merge", "sweep", "eval"]
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


def test_a_model_hash_follows_content_not_names_or_times(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"same")
        (tmp_path / name / "README.md").write_text(name)
    assert hash_model(tmp_path / "a") == hash_model(tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").write_bytes(b"other")
    assert hash_model(tmp_path / "a") != hash_model(tmp_path / "b")
    trusted = {"outputs": {"model.safetensors": recorded(tmp_path / "a" / "model.safetensors")}}
    (tmp_path / "a" / "manifest.json").write_text(json.dumps(trusted))
    before = hash_model(tmp_path / "a")
    (tmp_path / "a" / "model.safetensors").write_bytes(b"emas")
    assert hash_model(tmp_path / "a") != before, "equal size, other content"
    assert hash_value({"x": 1, "y": 2}) == hash_value({"y": 2, "x": 1})


def test_table_places_and_widths():
    assert sorted(["merged", "apo/2", "base", "soup", "apo/1", "sft", "mid"], key=place) == [
        "base", "mid", "sft", "apo/1", "apo/2", "soup", "merged",
    ]  # fmt: skip
    assert text_table(["a", "bb"], [["ccc", "d"]]) == "a    bb\n---  --\nccc  d"


class Page(html.parser.HTMLParser):
    """Collects what a browser would request, and checks that tags close."""

    void = frozenset({"meta", "rect", "polyline", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.requests, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.requests += [v for k, v in attrs if k in ("src", "href", "srcset", "data")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag("meta", attrs)  # it closes itself

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_a_report_is_one_page_that_asks_for_nothing(tiny_model, write_rows, write_recipe, tmp_path):
    folder = tmp_path / "run"
    questions = [{"messages": chat("1 + 1 <b>?", "")["messages"][:1], "answer": "2"}]
    tasks = [
        {"name": "problems", "kind": "answer", "data": str(write_rows("q.jsonl", questions)), "max_new_tokens": 4},
        {"name": "preference", "kind": "preference", "data": str(write_rows("p.jsonl", [preference("Q", "a", "b")]))},
    ]
    models = {"base": str(tiny_model), "merged": str(tiny_model)}
    recipe = write_recipe("eval.yaml", {"output_dir": str(folder / "evals"), "models": models, "tasks": tasks})
    assert python("-m", "apo_soup", "eval", "--config", recipe).returncode == 0
    rows = write_rows("rows.jsonl", [chat(f"{n}?", f"It is {n}", False) for n in range(8)])
    sft = TRAINING | {"model_name_or_path": str(tiny_model), "output_dir": str(folder / "sft"), "max_steps": 1}
    sft |= {"dataset_mixture": {"datasets": [{"id": str(rows)}]}, "assistant_only_loss": True}
    loaded = load(write_recipe("sft.yaml", sft), "sft")
    train(loaded, training_stage(loaded))
    result = python("-m", "apo_soup", "report", tmp_path)
    assert result.returncode == 0, result.stderr
    assert str(folder / "report.html") in result.stdout
    assert "base" in result.stdout
    page = Page()
    text = (folder / "report.html").read_text()
    page.feed(text)
    assert page.open == []
    assert page.requests == []
    assert "<script" not in text
    assert "Not run." in page.text
    for told in ("lost to overflow", str(rows), "no_think", "peak memory"):
        assert told in page.text
    assert "1 + 1 <b>?" in page.text
    assert len(text) < 3 * 2**20


def test_a_stage_runs_once_and_keeps_the_overrides_it_was_made_with(tmp_path, write_recipe, capfd):
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    data = {"output_dir": str(tmp_path / "run" / "data"), "seed": 0, "counts": {"sft_talk": 3}}
    (recipe / "data.yaml").write_text(json.dumps(data))
    assert run_stages("data", recipe, None, ["--seed", "5"]) == 0
    assert f"$ python -m apo_soup.toy --config {recipe}/data.yaml --seed 5" in capfd.readouterr().out
    assert run_stages("data", recipe, None, ["--seed", "5"]) == 0
    assert "data: up to date, skipped" in capfd.readouterr().out
    memory = arguments_file(recipe, STEPS["data"])
    assert remembered(memory, "data") == ["--seed", "5"]
    remember(memory, "sft", ["--learning_rate", "1e-5", "--hub_token", "hf_abc"])
    assert remembered(memory, "sft") == ["--learning_rate", "1e-5"]
    assert remembered(memory, "data") == ["--seed", "5"]


def test_pairs_run_only_where_the_apo_file_reads_them():
    """SmolLM3's apo.yaml takes the published splits, so `make apo` does not begin with 270 000 questions."""
    assert reads_pairs(ROOT / "recipes" / "tiny")
    assert not reads_pairs(ROOT / "recipes" / "smollm3")


def test_secrets_are_hidden_in_commands_and_configurations():
    words = ["python", "-m", "sft", "--hub_token", "hf_abc", "--max_new_tokens", "5", "--eos_token", "<|im_end|>"]
    words += ["--hub_token=hf_abc", "--model_init_kwargs", "{token: hf_abc}", "--model_init_kwargs.token", "abc"]
    shown = without_secrets(words)
    assert shown == ["python", "-m", "sft", *words[5:9], "--model_init_kwargs", "(hidden)"]
    config = {"model_init_kwargs": {"token": "hf_abc"}, "max_new_tokens": 5, "eos_token": "<|im_end|>"}
    assert redacted(config)["model_init_kwargs"] == {"token": "(hidden)"}
    assert redacted(config)["eos_token"] == "<|im_end|>"
    assert differences({"inputs": {}, "config": redacted(config)}, config, {}) == []


def test_a_folder_begun_with_other_processes_is_not_mixed(stage, monkeypatch):
    stage(seed=1).begin()
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UserError, match="was begun with 1 processes and this launch has 4"):
        stage(seed=1).begin()


def test_make_alone_lists_the_targets():
    import subprocess

    text = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "demo", "mid", "sft", "pairs", "apo", "soup", "merge", "eval", "report", "test", "lint"):
        assert f"make {target} " in text


def test_check_and_why_answer_for_every_recipe():
    for name in ("tiny", "smollm2-135m", "smollm3"):
        result = python("-m", "apo_soup", "check", f"recipes/{name}")
        assert result.returncode == 0, result.stderr
        assert "no error" in result.stdout
    result = python("-m", "apo_soup", "why", "recipes/smollm3")
    assert result.stdout.splitlines()[0].startswith("mid: ")
    assert "sft: waits for mid" in result.stdout
    result = python("-m", "apo_soup", "check", "recipes/nowhere")
    assert result.returncode == 2
    assert "no such recipe folder" in result.stderr


@pytest.mark.parametrize("stage", STEPS)
def test_every_stage_that_make_names_is_known_to_the_program(stage, tmp_path):
    """An empty recipe folder has no file for it, and that is what is told."""
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"^{stage}: .venv/ready .*\n\t@\$\(RUN\)$", makefile, re.MULTILINE)
    result = python("-m", "apo_soup", "run", stage, tmp_path)
    assert result.returncode == 2
    assert f"so there is no {stage} stage to run" in result.stderr
