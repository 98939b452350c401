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
