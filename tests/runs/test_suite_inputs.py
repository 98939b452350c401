"""What makes the results of a suite stale."""

import pytest

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.runs.suite_inputs import suite_inputs, verifier_source


def test_results_are_stale_when_a_verifier_or_a_file_of_the_harness_has_changed(write_rows, write_recipe, tmp_path):
    rows = write_rows("q.jsonl", [{"question": "1", "answer": "1"}])
    overlay = {"task": "gsm8k", "dataset_kwargs": {"data_files": {"test": str(rows)}}}
    values = {"output_dir": "x", "tasks": [{"name": "g", "kind": "harness", "tasks": [overlay]}]}
    suite = load(write_recipe("eval.yaml", values), "eval")
    before = suite_inputs(suite)
    write_rows("q.jsonl", [{"question": "1", "answer": "2"}])
    assert suite_inputs(suite) != before
    own = "apo_soup.verify.answers:exact_verifier"
    values["tasks"][0] = {"name": "a", "kind": "answer", "data": str(rows), "verifier": own}
    told = suite_inputs(load(write_recipe("eval.yaml", values), "eval"))
    assert f"verifier {own}" in told
    values["tasks"][0] = {"name": "g", "kind": "harness", "tasks": ["x"], "include": str(tmp_path / "none")}
    with pytest.raises(UserError, match="include: expected a folder"):
        suite_inputs(load(write_recipe("eval.yaml", values), "eval"))


def test_only_a_verifier_in_a_file_has_a_source():
    assert verifier_source("apo_soup.verify.answers:exact_verifier").endswith("apo_soup/verify/answers.py")
    assert verifier_source("no.such:thing") is None
    assert verifier_source("time:sleep") is None
    assert verifier_source("number") is None


def test_results_of_another_version_of_an_outside_program_are_stale(write_rows, write_recipe, tmp_path):
    python, program = tmp_path / "python", tmp_path / "lcb"
    (program / "lcb_runner").mkdir(parents=True)
    rows = str(write_rows("p.jsonl", [{}]))
    tasks = [
        {"name": "b", "kind": "bfcl", "python": str(python)},
        {"name": "l", "kind": "livecodebench", "data": rows, "program": str(program), "unsafe_code": True},
    ]
    suite = load(write_recipe("eval.yaml", {"output_dir": "x", "tasks": tasks}), "eval")
    found = []
    for version, code in (("2025.10.20", "a = 1"), ("2025.12.1", "a = 1"), ("2025.12.1", "a = 2")):
        python.write_text(f"#!/bin/sh\necho {version}\n")
        python.chmod(0o755)
        (program / "lcb_runner" / "grader.py").write_text(code)
        found.append(suite_inputs(suite))
    first, second, third = found
    assert (first[f"bfcl-eval of {python}"], second[f"bfcl-eval of {python}"]) == ("2025.10.20", "2025.12.1")
    assert {name for name in third if third[name] != second[name]} == {f"program in {program}"}
    python.unlink()
    assert suite_inputs(suite)[f"bfcl-eval of {python}"] == "none: FileNotFoundError"
