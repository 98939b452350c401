"""The page of a run: one file that asks for nothing, whatever the stages left."""

import html.parser
import json
import re
import shutil
import xml.dom.minidom

import pytest
from helpers import ROOT, TRAINING, chat, preference, python
from programs import program

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.report.page import read_reported, verdicts_and_table
from apo_soup.report.page import write_report as written
from apo_soup.runs.card_metadata import index_results
from apo_soup.runs.results import evaluated_checkpoints, summary
from apo_soup.training.entry import training_stage
from sft.train import train_model

TINY = ROOT / "recipes" / "tiny"


def write_report(recipe, run):
    return written(recipe, read_reported(recipe, run))


class Page(html.parser.HTMLParser):
    """Collects what a browser would request, and checks that tags close."""

    void = frozenset({"meta", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.requests, self.text = [], [], ""
        self.tags, self.attributes = set(), set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.requests += [v for k, v in attrs if k in ("src", "href", "srcset", "data") and not v.startswith("#")]
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
    models = {"base": str(tiny_model), "merged": str(shutil.copytree(tiny_model, tmp_path / "merged"))}
    recipe = write_recipe("eval.yaml", {"output_dir": str(folder / "evals"), "models": models, "tasks": tasks})
    assert program("-m", "apo_soup", "eval", "--config", recipe).returncode == 0
    rows = write_rows("rows.jsonl", [chat(f"{n}?", f"It is {n}", False) for n in range(8)])
    sft = TRAINING | {"model_name_or_path": str(tiny_model), "output_dir": str(folder / "sft"), "max_steps": 1}
    sft |= {"dataset_mixture": {"datasets": [{"id": str(rows)}]}, "assistant_only_loss": True}
    loaded = load(write_recipe("sft.yaml", sft), "sft")
    train_model(loaded, training_stage(loaded))
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
    told = "Not run: mid; pairs; apo; soup; merged; sweep; Recall, turns and languages."
    assert page.text.count(told) == 1, "what did not run is one line"
    for told in ("lost to overflow", rows.name, "no_think", "peak memory"):
        assert told in page.text
    assert str(tmp_path) not in text, "a page is sent round, and names no folder of this machine"
    assert "1 + 1 <b>?" in page.text
    assert len(text) < 3 * 2**20


def test_only_changes_beyond_noise_are_marked(run):
    text = write_report(TINY, run).read_text()
    assert text.count("▲") >= 3
    assert '<td class="good">0.925 ▲<small>' in text, "preference of apo/1 over sft"
    assert "<td>0.925<small>" in text, "the soup's thinking is that of sft within noise"
    assert ">Not run: sft; pairs; soup; merged; sweep.</p>" in text, "one line for all"


def test_words_are_those_of_the_other_programs(demo_run):
    page = Page()
    page.feed(write_report(TINY, demo_run).read_text())
    assert "mode kept" in page.text
    assert "recall 1536" in page.text
    assert not {"obedience", "needle"} & set(re.findall(r"[a-z]+", page.text.lower()))


def test_what_the_makers_reported_follows_where_it_is_asked(demo_run, tmp_path):
    asked = write_report(TINY, demo_run).read_text()
    assert "Alignment is gained by preference optimisation" in asked
    own = tmp_path / "mine"
    own.mkdir()
    text = write_report(own, demo_run).read_text()
    assert "SmolLM3" not in text
    assert "Merged is better than base in " in text
    claims = [claim["name"] for claim in json.loads(verdicts_and_table(own, read_reported(own, demo_run)))["claims"]]
    assert claims[:3] == ["problems/think", "problems/no_think", "problems/obedience"]
    assert len(claims) == 16


def test_a_page_of_odd_results_is_still_a_page(run, results, tmp_path):
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
    text = write_report(TINY, run).read_text()
    assert "FINAL" in text
    assert "characters ...]" in text
    assert ">apo, 12 models<" in text, "members by the dozen share a box"
    assert "nan" not in text.lower().replace("finance", "")
    with pytest.raises(UserError, match=r"got none, since nothing of .* has run yet"):
        write_report(TINY, tmp_path / "none")


def test_two_tasks_of_a_kind_are_told_apart_everywhere(run, tmp_path):
    """Case N19: columns, index entries, maps and curves of one name, of which one replaced the other."""
    for file in (run / "evals").glob("*/results.json"):
        found = json.loads(file.read_text())
        for task in ("problems", "needle", "context"):
            names = found["tasks"][task]["metrics"]
            found["tasks"][f"{task}_2"] = found["tasks"][task] | {
                "metrics": [f"{n}".replace("/", "_2/", 1) for n in names]
            }
            found["metrics"] |= {n.replace("/", "_2/", 1): found["metrics"][n] | {"value": 0.123} for n in names}
        found["samples"] += [s | {"task": "problems_2", "answer": "another answer"} for s in found["samples"]]
        file.write_text(json.dumps(found))
    text = write_report(TINY, run).read_text()
    for title in ("problems think", "problems 2 think", "problems no think", "problems 2 no think"):
        assert text.count(f"<th>{title}<small>") == 1
        assert f">{title}</text>" in (run / "pipeline.svg").read_text()
        assert title in summary(evaluated_checkpoints(run))
    assert "<th>think<" not in text
    assert text.count("<th>needle 1536</th>") == text.count("<th>needle_2 1536</th>") == 1, "a column a task"
    assert "Loss by position: context<" in text
    assert "Loss by position: context_2<" in text
    assert "another answer" in text
    assert "w" * 200 in text
    (merged,) = [c for c in evaluated_checkpoints(run) if c.name == "merged"]
    named = [entry["metrics"][0]["name"] for entry in index_results(merged)]
    assert len(set(named)) == len(named) == 9


HOSTILE = (
    "<script>x()</script>", "</script><script>x()", '"><img src=x onerror=x()>', "'><svg onload=x()>", "<!--",
    "</title>", "[a](javascript:x())", "\u2028<iframe srcdoc=x>", "`<b>`", "| a |\n|---|", "---\nx: y\n---",
    "\x00\x1b[31m", "\ud800",
)  # fmt: skip
TAGS = (
    "html head meta title style body header nav h1 h2 h3 h4 p small section table thead tbody tr th td div span figure "
    "figcaption svg path text rect circle ul li dl dt dd a b i pre details summary"
).split()


def test_hostile_names_and_answers_are_text_on_the_page_and_the_picture(run):
    """Of tasks, metrics, models, notes, answers, settings, sources and drops; and none of them breaks the file."""
    for number, file in enumerate((run / "evals").glob("*/results.json")):
        found = json.loads(file.read_text())
        found["engine"] = dict.fromkeys(found["engine"], HOSTILE[number])
        for evil in HOSTILE:
            for kind, names in (
                ("answer", [f"a{evil}/think", f"a{evil}/no_think/{evil}"]), ("turns", [f"t{evil}/{evil}/turn_1"]),
                ("recall", [f"r{evil}/{evil}", f"r{evil}/8@0.5"]), ("context_loss", [f"c{evil}/64", f"c{evil}/128"]),
            ):  # fmt: skip
                task = {"kind": kind, "rows": evil, "seconds": 1.0, "metrics": names, "notes": [evil]}
                found["tasks"][f"{kind}{evil}"] = task
                score = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 3, "better": "higher", "headline": True}
                found["metrics"] |= dict.fromkeys(names, score | {"items": [0, 1, 0.5]})
            sample = {"task": evil, "mode": "think", "question": evil, "answer": f"<think>{evil}</think>{evil}"}
            found["samples"].insert(0, sample | {"right": True})
        file.write_text(json.dumps(found))
    for name in ("mid", "apo/1"):
        manifest = json.loads((run / name / "manifest.json").read_text())
        (source,) = manifest["metrics"]["data"]
        manifest["metrics"]["data"] = [source | {"source": evil, "mode": evil} for evil in HOSTILE]
        manifest["config"] |= {f"k{evil}": evil for evil in HOSTILE} | {"loss_type": HOSTILE[0], "seed": HOSTILE[2]}
        manifest |= {"command": HOSTILE[0], "machine": HOSTILE[2], "versions": {HOSTILE[3]: HOSTILE[1]}}
        (run / name / "manifest.json").write_text(json.dumps(manifest))
    text = write_report(TINY, run).read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.requests == []
    assert page.tags <= set(TAGS)
    assert not any(name.startswith("on") for name in page.attributes)
    for evil in HOSTILE[:3]:
        assert evil in page.text, "people read it as it is"
    xml.dom.minidom.parseString((run / "pipeline.svg").read_text())
    told = summary(evaluated_checkpoints(run))
    assert not {"\x00", "\x1b", "\ud800"} & (set(told) | set(text)), "a terminal obeys no name"
