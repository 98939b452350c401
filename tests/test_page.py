"""The report in a real browser: nothing asked from outside, no error, nothing wider than the screen."""

import json
import shutil

import pytest
from helpers import ROOT

from apo_soup.errors import UserError
from apo_soup.report.charts import COLOURS, Scale, curves, heat, legend, shares, thinned
from apo_soup.report.reported import claims
from apo_soup.report.sections import write_report
from apo_soup.runs.card import index_results
from apo_soup.runs.results import Stage, evaluated, parent_of

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def results(name, think, needles, preferred):
    """An evaluation with single items, as `apo-soup eval` writes it."""
    metrics, tasks = {}, {}

    def add(task, kind, metric, items, headline=True, better="higher"):
        value = sum(items) / len(items)
        entry = {"value": value, "low": max(0, value - 0.1), "high": value + 0.1, "n": len(items), "better": better}
        metrics[metric] = {**entry, "headline": headline, "items": items}
        tasks.setdefault(task, {"kind": kind, "rows": task, "seconds": 1.0, "metrics": []})["metrics"].append(metric)

    add("problems", "answer", "problems/think", [1] * think + [0] * (40 - think))
    add("problems", "answer", "problems/no_think", [0] * 40)
    for length, found in ((128, 40), (1536, needles)):
        add("needle", "recall", f"needle/{length}", [1] * found + [0] * (40 - found))
        for depth in (0.0, 0.5, 1.0):
            add("needle", "recall", f"needle/{length}@{depth}", [1] * 8 + [0] * 2, headline=False)
    add("preference", "preference", "preference", [1] * preferred + [0] * (40 - preferred))
    for end in (64, 1536):
        add("context", "context_loss", f"context/{end}", [2.0, 2.5], headline=False, better="lower")
    question = "A very long question " + "x" * 300
    samples = [
        {
            "task": "problems",
            "mode": mode,
            "question": question,
            "answer": f"<think> {'w' * 200} </think>",
            "right": True,
        }
        for mode in ("think", "no_think")
    ]
    about = {"schema": 2, "name": name, "model": f"runs/x/{name}", "model_hash": "a", "suite_hash": "b" * 64, "seed": 0}
    engine = {"harness": "transformers", "transformers": "5", "device": "cpu", "dtype": "float32"}
    return {**about, "engine": engine, "tasks": tasks, "metrics": metrics, "samples": samples}


RUN = {"base": (1, 40, 39), "mid": (2, 39, 30), "sft": (36, 34, 24), "apo/1": (37, 34, 37), "soup": (37, 34, 37),
       "merged": (36, 40, 37)}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    for name, scores in RUN.items():
        target = folder / "evals" / name.replace("/", "-")
        target.mkdir(parents=True)
        (target / "results.json").write_text(json.dumps(results(name, *scores)))
    log = [{"step": n, "loss": 1 / n, "learning_rate": 1e-5, "grad_norm": 1.0, "rewards/margins": n / 10}
           for n in range(1, 900)]  # fmt: skip
    for name in ("mid", "apo/1", "apo/2"):
        (folder / name).mkdir(parents=True)
        (folder / name / "trainer_state.json").write_text(json.dumps({"log_history": log}))
        source = {"source": "a/long/path/to/the/rows.jsonl", "mode": "think", "kept": 9, "rejected": 0, "tokens": 90,
                  "trained": 30, "mean_length": 10.0, "lost": 0}  # fmt: skip
        manifest = {"stage": name, "config": {"seed": 1, "learning_rate": 1e-5}, "inputs": {"model": "c" * 64},
                    "outputs": {}, "metrics": {"data": [source], "train_seconds": 2, "tokens_seen": 90}, "seconds": 3.0,
                    "peak_memory_mb": 100, "machine": "x", "command": "python -m sft", "versions": {"torch": "2"},
                    "git_commit": "d" * 40}  # fmt: skip
        (folder / name / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_the_page_tells_what_the_makers_reported_by_figures(run):
    told = {c.told: (c.verdict, round(c.gain.value, 3)) for c in claims(evaluated(run))}
    assert told["Reasoning is gained by fine-tuning"] == ("seen", 0.875)
    assert told["Alignment is gained by preference optimisation"] == ("seen", 0.325)
    assert told["Long context is lost on the way"] == ("seen", -0.15)
    assert told["Long context is won back by the merge"] == ("seen", 0.15)
    merged = run / "evals" / "merged" / "results.json"
    merged.write_text(json.dumps(results("merged", 36, 34, 37)))
    assert claims(evaluated(run))[-1].verdict == "not seen, within noise"
    other = json.loads(merged.read_text())
    other["tasks"]["needle"]["rows"] = "other items"
    merged.write_text(json.dumps(other))
    assert len(claims(evaluated(run))) == 3, "other items are not compared"


def test_only_changes_beyond_noise_are_marked(run):
    text = write_report(ROOT / "recipes" / "tiny", run).read_text()
    assert text.count("▲") >= 3
    assert '<span class="good">0.925 ▲</span>' in text, "preference of apo/1 over sft"
    assert '<span class="">0.925</span>' in text, "the soup's thinking is that of sft within noise"
    for stage in ("pairs", "soup"):
        assert f"<b>{stage}</b> <small>not run</small>" in text


def test_a_page_of_odd_results_is_still_a_page(run, tmp_path):
    """Lengths that are words, values that are missing, long answers, members by the dozen, a curve without a number."""
    file = run / "evals" / "merged" / "results.json"
    found = json.loads(file.read_text())
    for name, other in (("needle/128", "needle/short"), ("needle/128@0.5", "needle/short@0.5")):
        found["metrics"][other] = found["metrics"].pop(name) | {"value": None, "low": None, "high": None}
        found["tasks"]["needle"]["metrics"] = [other if m == name else m for m in found["tasks"]["needle"]["metrics"]]
    found["samples"][0]["answer"] = "<think>" + "w" * 5000 + "</think>FINAL"
    file.write_text(json.dumps(found))
    for number in range(2, 13):
        target = run / "evals" / f"apo-{number}"
        target.mkdir()
        (target / "results.json").write_text(json.dumps(results(f"apo/{number}", 37, 34, 37)))
    (run / "sft").mkdir()
    log = [{"step": n, "loss": float("nan")} for n in range(3)]
    (run / "mid" / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    text = write_report(ROOT / "recipes" / "tiny", run).read_text()
    assert "FINAL" in text
    assert "characters ...]" in text
    assert "rotate(-60" in text
    assert "nan" not in text.lower().replace("finance", "")
    with pytest.raises(UserError, match=r"nothing of .* has run yet"):
        write_report(ROOT / "recipes" / "tiny", tmp_path / "none")


def test_parents_are_those_of_the_pipeline():
    known = ["base", "mid", "sft", "apo/1", "soup", "merged"]
    assert [parent_of(name, known) for name in known] == [None, "base", "mid", "sft", "sft", "soup"]
    assert parent_of("sft", ["base", "sft"]) == "base"


def test_charts_hold_what_they_are_given():
    assert Scale(0, 10, 0, 100).at(5) == 50
    assert Scale.over([3.0], 0, 10) == Scale(2.5, 3.5, 0, 10)
    assert len(thinned([(float(n), 1.0) for n in range(5000)])) <= 400
    drawing = curves({"a": [(0, 1.0), (1, float("nan")), (2, 3.0)], "<b>": [(0, 2.0)]}, "step", {"a": [(2, 1.0, 4.0)]})
    assert "nan" not in drawing
    assert "&lt;b&gt;" in drawing
    assert "0.44" in heat("sft", ["128"], ["0%"], {("128", "0%"): 0.44})
    assert "1,234 tokens" in shares([("rows", [("trained", 1234.0), ("context", 0.0)])], "tokens")
    marks, bottom = legend([f"a long name {n}" for n in range(12)], 0)
    assert bottom > 32, "a long legend wraps"
    assert f"var(--c{COLOURS - 1})" in "".join(marks)


def test_scores_stand_in_the_cards_index():
    (first, *_) = index_results(Stage("merged", results("merged", 36, 40, 37), None))
    assert first["metrics"] == [{"type": "accuracy", "name": "think", "value": 0.9}]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, 1400])
def test_a_browser_shows_the_page_whole_and_asks_for_nothing(run, width):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    page = write_report(ROOT / "recipes" / "tiny", run).as_uri()
    requests, complaints = [], []
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        try:
            for scheme in ("light", "dark"):
                view = browser.new_page(
                    viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=True
                )
                view.on("request", lambda request: requests.append(request.url))
                view.on("console", lambda message: complaints.append(message.text))
                view.on("pageerror", lambda error: complaints.append(str(error)))
                view.goto(page)
                inside = "document.documentElement.scrollWidth <= window.innerWidth"
                assert view.evaluate(inside), "the page is not wider than the screen"
                cards = "[...document.querySelectorAll('.answers > div, figure, li')]"
                wide = f"{cards}.filter(e => e.scrollWidth > e.clientWidth + 1).length"
                assert view.evaluate(wide) == 0, "no card, figure or entry is wider than its place"
                assert view.locator("svg").count() > 8
        finally:
            browser.close()
    assert set(requests) == {page}
    assert complaints == []
