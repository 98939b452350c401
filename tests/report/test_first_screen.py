"""The first screen: the model, what it was made of, three figures, the verdict."""

import json

from apo_soup.report.claims import makers_claims
from apo_soup.report.first_screen import first_screen
from apo_soup.report.run_files import RunFiles, read_run


def test_the_first_screen_says_what_the_run_made(demo_run, tiny_model):
    weights = (tiny_model / "model.safetensors").read_bytes()
    (demo_run / "merged" / "model.safetensors").write_bytes(weights)
    run = read_run(demo_run)
    screen = first_screen(run, "tiny", makers_claims(run.checkpoints))
    facts = {fact.name: fact.text for fact in screen.facts}
    assert facts["Model"] == "merged: 0.85 soup + 0.15 mid"
    assert facts["Base"].startswith("runs/x/base, model 00")
    assert facts["Size"].endswith(" k parameters, float32")
    assert facts["Date"] == "2026-11-30"
    assert facts["Data"].startswith("mid 3,600 rows (270 k tokens), sft 7,200 rows (")
    assert "apo 1,800 pairs" in facts["Data"]
    assert facts["Hardware"] == "x86_64, 2 cores; 8:00 in all"
    think, preference, recall = screen.figures
    assert (think.title, think.value, think.change, think.tone) == ("think", "0.90", "+0.90", "good")
    assert (preference.title, preference.change) == ("preference", "+0.70")
    assert (recall.title, recall.change) == ("recall 1536", "-0.10")
    assert recall.change_interval
    assert screen.verdict[0].startswith("Merged is better than base in ")
    assert screen.verdict[1].startswith("Claims of SmolLM3's makers: ")


def test_a_run_that_was_not_evaluated_says_so(demo_run):
    run = read_run(demo_run)
    alone = first_screen(RunFiles(demo_run, [], run.manifests), "mine", [])
    assert (alone.figures, alone.verdict) == ([], ["Nothing was evaluated yet."])
    assert {fact.name: fact.text for fact in alone.facts}["Size"] == "not known", "a file that is no safetensors file"
    file = demo_run / "merged" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"machine": "aarch64, 8 cores, Python 3.12.1"}))
    machines = {fact.name: fact.text for fact in first_screen(read_run(demo_run), "mine", []).facts}["Hardware"]
    assert machines.startswith("x86_64, 2 cores; aarch64, 8 cores; ")
