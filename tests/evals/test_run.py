"""Suites on small models: every kind of task, what is run again, what is refused."""

import json
import re
from importlib.metadata import version
from typing import get_args

import jsonschema
import pytest
import yaml
from helpers import ROOT, chat, preference, python
from programs import program

from apo_soup.config.eval import Task
from apo_soup.config.load import load
from apo_soup.config.score_names import score_fault
from apo_soup.data.sources.rows import RowError
from apo_soup.errors import UserError
from apo_soup.evals.answers import question_messages
from apo_soup.evals.kept_tasks import KeptTasks
from apo_soup.evals.likelihood import preference_task
from apo_soup.evals.metrics import ItemRow, mean_metric
from apo_soup.evals.program import EvalRequest, run_suite
from apo_soup.evals.run import evaluate_model, harness_release


def test_a_text_with_several_questions_is_one_item(tiny_model, write_rows, write_recipe, tmp_path):
    rows = [
        {"messages": chat("x", "")["messages"][:1], "prefix": f"found {k}", "answer": " Rome", "group": 128, "depth": d,
         "context": c}
        for c in ("a", "b", "c") for k, d in (("x", 0.0), ("y", 1.0))
    ]  # fmt: skip
    task = {"name": "needle", "kind": "recall", "data": str(write_rows("n.jsonl", rows))}
    values = {"output_dir": str(tmp_path / "evals"), "tasks": [task]}
    metrics = evaluate_model(load(write_recipe("eval.yaml", values), "eval"), tiny_model)["metrics"]
    assert metrics["needle/128"]["n"] == 3
    assert metrics["needle/128@0.0"]["n"] == metrics["needle/128@1.0"]["n"] == 3


def test_a_suite_runs_on_every_kind_and_is_not_run_twice(tiny_model, tokenizer, write_rows, write_recipe, tmp_path):
    questions = write_rows(
        "q.jsonl", [{"messages": chat("1 + 1?", "")["messages"][:1], "answer": "2", "group": "add"}] * 4
    )
    needles = [
        {"messages": chat("x", "")["messages"][:1], "prefix": "found x", "answer": " Rome", "group": g, "depth": 0.5}
        for g in (128, 256)
    ]
    requests = [{"messages": chat("Hi", "")["messages"][:1], "decline": decline} for decline in (True, False)]
    tasks = [
        {"name": "sums", "kind": "answer", "data": str(questions), "max_new_tokens": 8},
        {"name": "asked", "kind": "safety", "data": str(write_rows("s.jsonl", requests)), "max_new_tokens": 8},
        {"name": "needle", "kind": "recall", "data": str(write_rows("n.jsonl", needles))},
        {
            "name": "preference",
            "kind": "preference",
            "data": str(write_rows("p.jsonl", [preference("Q", "a", "b")] * 3)),
        },
        {"name": "loss", "kind": "loss", "data": str(write_rows("c.jsonl", [chat("Q", "Ann Bob", False)] * 2))},
    ]
    values = {"output_dir": str(tmp_path / "evals"), "models": {"one": str(tiny_model)}, "tasks": tasks, "samples": 2}
    path = write_recipe("eval.yaml", values)
    first = program("-m", "apo_soup", "eval", "--config", path)
    assert first.returncode == 0, first.stderr
    results = json.loads((tmp_path / "evals" / "one" / "results.json").read_text())
    metrics = results["metrics"]
    assert metrics["sums/think"]["n"] == metrics["sums/no_think"]["n"] == 4
    assert metrics["sums/obedience"]["n"] == 8
    assert metrics["needle/128"]["n"] == 1
    assert metrics["preference"]["value"] in (0.0, 1.0)
    assert (metrics["loss"]["n"], metrics["loss"]["better"]) == (2, "lower")
    assert metrics["asked/think/declined"]["n"] == metrics["asked/no_think/answered"]["n"] == 1
    assert len(results["samples"]) == 8
    known = load(path, "eval").tasks
    assert [score_fault(name, known) for name, one in metrics.items() if one["better"]] == [None] * 18
    schema = json.loads((ROOT / "docs" / "results.schema.json").read_text())
    jsonschema.validate(results, schema)
    kinds = {get_args(task.model_fields["kind"].annotation)[0] for task in get_args(get_args(Task)[0])}
    assert kinds == set(schema["properties"]["tasks"]["additionalProperties"]["properties"]["kind"]["enum"])
    again = program("-m", "apo_soup", "eval", "--config", path)
    assert "evals/one: up to date, skipped" in again.stdout
    missing = python("-m", "apo_soup", "eval", "--config", path, "--tasks.0.kind", "anwser")
    assert missing.returncode == 2
    kinds = (
        "answer, tool, turns, consistency, safety, recall, preference, loss, context_loss, harness, livecodebench, bfcl"
    )
    told = f"tasks.0.kind: expected one of {kinds}, got 'anwser'"
    assert told in missing.stderr


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ({"kind": "context_loss", "data": "q", "length": 0}, "length: expected a whole number of 8 or more, got 0"),
        (
            {"kind": "recall", "generate": {"keys": 0}},
            "generate.keys: expected a whole number between 1 and 256, got 0",
        ),
        ({"kind": "recall", "generate": {"keys": 300}}, "generate.keys: expected .* between 1 and 256, got 300"),
        ({"kind": "recall", "generate": {"depths": 0.5}}, "generate.depths: expected a list of .*, got 0.5"),
        ({"kind": "recall", "generate": {"depths": [2.0]}}, "depths.0: expected a number between 0 and 1, got 2.0"),
        ({"kind": "recall", "generate": {"lengths": 128}}, "generate.lengths: expected a list of .*, got 128"),
        ({"kind": "answer", "generate": {"count": -3}}, "count: expected a whole number of 1 or more, got -3"),
        ({"kind": "answer", "generate": {"languages": ["xx"]}}, "languages.0: expected one of en, fr, .*, got 'xx'"),
        ({"kind": "answer", "generate": {"tokens": 3}}, "generate.tokens: expected a known key"),
        (
            {"kind": "harness", "tasks": [[5]]},
            "tasks.0.tasks.0: expected a mapping with task or text of 1 or more characters",
        ),
        ({"kind": "answer", "data": "q", "limit": 0}, "limit: expected a whole number of 1 or more, got 0"),
        ({"kind": "answer", "name": "a/b", "data": "q"}, "tasks.0.name: expected a name without /, .* got a/b"),
        ({"kind": "answer"}, "expected data or generate for task x, got neither; add one"),
    ],
)
def test_values_that_make_no_sense_are_told(write_recipe, task, told):
    path = write_recipe("eval.yaml", {"output_dir": "x", "tasks": [{"name": "x", **task}]})
    with pytest.raises(UserError, match=told):
        load(path, "eval")


def test_options_that_contradict_are_told_and_a_part_never_replaces_the_whole(
    tiny_model, write_rows, write_recipe, tmp_path, capsys
):
    rows = str(write_rows("p.jsonl", [preference("Q", "a", "b")] * 3))
    tasks = [{"name": name, "kind": "preference", "data": rows} for name in ("one", "two")]
    values = {"output_dir": str(tmp_path / "evals"), "models": {"m": str(tiny_model)}, "tasks": tasks}
    path = write_recipe("eval.yaml", values)
    assert run_suite(path, EvalRequest(), []) == 0
    for request, overrides, told in (
        (EvalRequest(task=("one",)), [], "got those of two too, which --task would remove"),
        (EvalRequest(task=("three",)), [], "tasks: expected one of one, two, got three"),
        (EvalRequest(model=str(tiny_model), only=("m",)), [], "--model and --only: expected one of them"),
        (EvalRequest(only=("n",)), [], "models: expected one of m, got n"),
        (EvalRequest(mix=("half",)), [], "--mix: expected NAME:FOLDER=WEIGHT"),
        (EvalRequest(), ["--models", "{}"], "models: expected at least one, got none"),
        (EvalRequest(), ["--tasks.0.data", "none.jsonl"], "tasks.0.data: expected a file of rows, got none.jsonl"),
        (EvalRequest(), ["--dtype", "flaot32"], "dtype: expected one of auto, float32"),
    ):
        with pytest.raises(UserError, match=told):
            run_suite(path, request, overrides)
    part = EvalRequest(task=("one",))
    assert run_suite(path, part, ["--output_dir", str(tmp_path / "part")]) == 0
    assert list(json.loads((tmp_path / "part" / "m" / "results.json").read_text())["tasks"]) == ["one"]
    capsys.readouterr()
    assert run_suite(path, EvalRequest(state="sentence"), []) == 0
    assert "evals/m: up to date" in capsys.readouterr().out


def test_an_unknown_verifier_is_told_with_its_line_before_a_model_is_loaded(write_rows, write_recipe, tmp_path):
    rows = str(write_rows("q.jsonl", [{"question": "1?", "answer": "1"}]))
    tasks = [{"name": "q", "kind": "answer", "data": rows, "verifier": "numbr"}]
    path = write_recipe("eval.yaml", {"output_dir": str(tmp_path), "models": {"m": "no/model"}, "tasks": tasks})
    with pytest.raises(
        UserError, match=rf"{path}:\d+: tasks.0.verifier: expected one of number, exact, math, or .*, got numbr"
    ):
        run_suite(path, EvalRequest(), [])


def test_a_row_without_a_field_is_named_and_a_fault_of_ours_is_not_told_as_one(
    tiny_model, write_rows, write_recipe, tmp_path, monkeypatch
):
    rows = str(write_rows("q.jsonl", [{"messages": chat("1 + 1?", "")["messages"][:1]}]))
    task = {"name": "calls", "kind": "tool", "data": rows, "max_new_tokens": 1, "modes": ["no_think"]}
    path = write_recipe("eval.yaml", {"output_dir": str(tmp_path / "evals"), "tasks": [task]})
    suite = load(path, "eval")
    with pytest.raises(UserError, match=r"tasks\.0\.data: .*q\.jsonl:1: field tools: expected one, got .*; add it"):
        evaluate_model(suite, tiny_model)

    def faulty(*arguments, **settings):
        return {}["group"]

    monkeypatch.setattr("apo_soup.evals.answers.generate_answers", faulty)
    write_rows("q.jsonl", [{"messages": chat("1 + 1?", "")["messages"][:1], "tools": []}])
    with pytest.raises(KeyError, match="group"):
        evaluate_model(suite, tiny_model)


@pytest.mark.parametrize(
    ("kind", "row", "cure"),
    [
        ("answer", {"question": "1 + 1?", "answer": "2"}, "field messages: .*; write question: question into the task"),
        ("answer", {"messages": "1 + 1?", "solution": "2"}, "field answer: .*; write reference: solution into the ta"),
        (
            "answer",
            {"item": 1, "answer": "2"},
            "field messages: .*; add it, or name its column with question in the ta",
        ),
        ("turns", {"Problem": "1 + 1?"}, "field messages: .*; write question: Problem into the task"),
        ("safety", {"messages": "Hi", "label": "safe"}, "field decline: .*; write label: label into the task"),
    ],
)
def test_a_field_that_a_key_names_is_told_with_the_key(tiny_model, write_rows, write_recipe, tmp_path, kind, row, cure):
    rows = str(write_rows("q.jsonl", [row]))
    task = {"name": "asked", "kind": kind, "data": rows, "max_new_tokens": 1, "modes": ["no_think"]}
    path = write_recipe("eval.yaml", {"output_dir": str(tmp_path / "evals"), "tasks": [task]})
    with pytest.raises(UserError, match=rf"q\.jsonl:1: {cure}"):
        evaluate_model(load(path, "eval"), tiny_model)


@pytest.mark.parametrize("asked", [5, [], ["Hi"], [{"role": "user"}], {"content": "Hi"}])
def test_a_question_that_is_none_is_told_with_its_row(asked):
    with pytest.raises(
        RowError, match=r"^q\.jsonl:7: field q: expected text, or messages .*, got .*; correct the row$"
    ):
        question_messages(ItemRow({"q": asked}, "q.jsonl:7"), "q")


def test_a_mean_of_proportions_has_an_interval_between_0_and_1():
    assert (mean_metric([0.9, 1.0, 1.0]).score.high, mean_metric([0.0, 0.1]).score.low) == (1.0, 0.0)
    assert mean_metric([1.0, 1.0, 0.0]).items == [True, True, False]
    assert mean_metric([2.0, 4.0]).score.low < 0


def test_the_examples_of_the_documentation_are_taken(write_recipe):
    text = (ROOT / "docs" / "evals.md").read_text()
    blocks = re.findall(r"(?<=\n\n)((?:    .*\n)+)", text)
    tasks = [task for block in blocks if block.startswith("    - ") for task in yaml.safe_load(block)]
    assert {task["kind"] for task in tasks} >= {"answer", "harness", "turns", "livecodebench", "bfcl"}
    for task in tasks:
        task.pop("release" if "data" in task else "none", None)
        path = write_recipe("eval.yaml", {"output_dir": "x", "tasks": [task]})
        assert load(path, "eval").tasks[0].name == task["name"]


RECORD = {"kind": "harness", "rows": "a", "seconds": 1.0, "metrics": []}


def test_a_task_that_another_release_of_the_harness_finished_is_asked_again(write_recipe, tmp_path):
    pytest.importorskip("lm_eval", reason="the harness is not installed")
    suites = [
        load(write_recipe("eval.yaml", {"output_dir": "x", "tasks": [task]}), "eval")
        for task in ({"name": "one", "kind": "harness", "tasks": "gsm8k"}, {"name": "one", "kind": "loss", "data": "x"})
    ]
    assert [harness_release(suite) for suite in suites] == [{"lm_eval": version("lm_eval")}, {}]
    part = {"record": RECORD, "metrics": {}, "samples": [], "files": {}}
    KeptTasks(tmp_path / "tasks", harness_release(suites[0])).keep("one", part)
    assert KeptTasks(tmp_path / "tasks", harness_release(suites[0])).found("one") == part
    assert KeptTasks(tmp_path / "tasks", {"lm_eval": "0.0.1"}).found("one") is None


@pytest.mark.parametrize("damaged", ["", '{"about": {}, "part"', "[1]", '{"about": {}}', '{"about": {}, "part": {}}'])
def test_a_kept_task_whose_file_is_damaged_is_asked_again(tmp_path, capsys, damaged):
    kept = KeptTasks(tmp_path / "tasks", {})
    kept.keep("one", {"record": RECORD, "metrics": {}, "samples": [], "files": {}})
    assert kept.found("one") is not None
    (file,) = (tmp_path / "tasks").iterdir()
    file.write_text(damaged)
    assert kept.found("one") is None
    assert f"one: asked again, for {file} is damaged" in capsys.readouterr().out


def test_a_stopped_evaluation_goes_on_behind_its_finished_tasks(
    tiny_model, write_rows, write_recipe, tmp_path, monkeypatch, capsys
):
    rows = str(write_rows("p.jsonl", [preference("Q", "a", "b"), preference("R", "b", "a")]))
    tasks = [{"name": name, "kind": "preference", "data": rows} for name in ("one", "two")]
    values = {"output_dir": str(tmp_path / "evals"), "models": {"m": str(tiny_model)}, "tasks": tasks}
    path = write_recipe("eval.yaml", values)
    assert run_suite(path, EvalRequest(), ["--output_dir", str(tmp_path / "whole")]) == 0
    asked = []

    def stopped(checkpoint, task, rows):
        asked.append(task.name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return preference_task(checkpoint, task, rows)

    monkeypatch.setattr("apo_soup.evals.run.preference_task", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_suite(path, EvalRequest(), [])
    assert run_suite(path, EvalRequest(), []) == 0
    assert asked == ["one", "two", "two"]
    assert "one: kept from the evaluation that was stopped" in capsys.readouterr().out
    found, whole = (json.loads((tmp_path / place / "m" / "results.json").read_text()) for place in ("evals", "whole"))
    for results in (found, whole):
        for task in results["tasks"].values():
            task.pop("seconds")
    assert found == whole
    assert {file.name for file in (tmp_path / "evals").rglob("*.json")} == {"results.json", "manifest.json"}
