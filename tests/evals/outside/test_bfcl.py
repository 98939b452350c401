"""BFCL: problems and verdicts of its package, which has a Python of its own."""

import sys

import pytest
from eval_helpers import CUT_OFF, scripted_checkpoint

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.evals.outside.bfcl import bfcl_rows, bfcl_task
from apo_soup.evals.program import check_tasks
from apo_soup.evals.tool_calls import every_call

# bfcl-eval's modules by their interface.
MODULES = {
    "utils": """
def load_dataset_entry(category):
    add = {"name": "math.add", "description": "Adds.", "parameters": {"type": "dict", "properties": {"a": {}}}}
    return [{"id": f"{category}_{n}", "question": [[{"role": "user", "content": f"Ask {category} {n}"}]],
             "function": [add]} for n in range(2)]
def load_ground_truth_entry(category):
    assert "relevance" not in category
    return [{"id": f"{category}_{n}", "ground_truth": [{"math.add": {"a": [n]}}]} for n in range(2)]
""",
    "model_handler/utils": """
def convert_to_tool(functions, mapping, style):
    assert mapping == {"dict": "object"} and style == 2
    return [{"type": "function", "function": f} for f in functions]
""",
    "constants/type_mappings": "GORILLA_TO_OPENAPI = {'dict': 'object'}",
    "constants/enums": """
class ModelStyle: FIREWORK_AI = 2
class Language: PYTHON = 'python'
""",
    "constants/model_config": """
from types import SimpleNamespace as S
dots, none = S(underscore_to_dot=True), S(underscore_to_dot=False)
MODEL_CONFIG_MAPPING = {'a': dots, 'b_c': none, 'b': none}
""",
    "eval_checker/ast_eval/ast_checker": """
def ast_checker(functions, calls, right, language, category, model):
    assert functions[0]["name"] == "math.add" and language == "python" and model == "b"
    if calls[0]["math.add"]["a"] == "odd":
        raise TypeError("unhashable")
    return {"valid": len(calls) == 1 and calls[0]["math.add"]["a"] in right[0]["math.add"]["a"]}
""",
}


@pytest.fixture
def python(tmp_path):
    """A Python that has a package of bfcl-eval's interface."""
    for name, text in MODULES.items():
        file = tmp_path / "site" / "bfcl_eval" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path / "site"}" exec {sys.executable} "$@"\n')
    script.chmod(0o755)
    return script


def call(value):
    return f'<tool_call>{{"name": "math.add", "arguments": {{"a": {value}}}}}</tool_call>'


def test_calls_are_judged_by_its_checker(python, write_recipe, tokenizer):
    task = {
        "name": "bfcl", "kind": "bfcl", "python": str(python), "modes": ["no_think"],
        "categories": ["simple_python", "irrelevance", "live_relevance"],
    }  # fmt: skip

    def answer(prompt):
        asked = prompt.rsplit("Ask ", 1)[1]
        if asked.startswith("simple_python 0"):
            return call(0)
        return call('"odd"') if asked.startswith("simple_python 1") else call(3) if " 1" in asked else "No tool fits."

    suite = load(write_recipe("eval.yaml", {"output_dir": "x", "tasks": [task]}), "eval")
    check_tasks(suite)
    rows = bfcl_rows(suite.tasks[0], "here")
    checkpoint = scripted_checkpoint(suite, tokenizer, answer)
    metrics = bfcl_task(checkpoint, suite.tasks[0], rows).metrics
    assert {name: list(metric.items) for name, metric in metrics.items()} == {
        "bfcl/no_think": [1, 0, 1, 0, 0, 1], "bfcl/no_think/simple_python": [1, 0], "bfcl/no_think/irrelevance": [1, 0],
        "bfcl/no_think/live_relevance": [0, 1],
    }  # fmt: skip
    assert '"name": "math.add"' in checkpoint.engine.prompts[0]
    (python.parent / "site" / "bfcl_eval" / "utils.py").write_text("import qwen_agent")
    with pytest.raises(UserError, match=r"here: expected a Python with bfcl-eval, got one that failed .*qwen_agent"):
        bfcl_rows(suite.tasks[0], "here")
    missing = load(write_recipe("eval.yaml", {"output_dir": "x", "tasks": [task | {"python": "none/python"}]}), "eval")
    with pytest.raises(UserError, match=r"tasks.0.python: expected the Python of an environment, got none/python"):
        check_tasks(missing)


def test_an_answer_that_is_cut_off_is_not_right_for_want_of_a_call(python, write_recipe, tokenizer):
    task = {"name": "bfcl", "kind": "bfcl", "python": str(python), "modes": "think", "categories": "irrelevance"}
    suite = load(write_recipe("eval.yaml", {"output_dir": "x", "tasks": [task]}), "eval")
    checkpoint = scripted_checkpoint(suite, tokenizer, lambda prompt: CUT_OFF if " 1" in prompt else "No tool fits.")
    metrics = bfcl_task(checkpoint, suite.tasks[0], bfcl_rows(suite.tasks[0], "here")).metrics
    assert list(metrics["bfcl/think/irrelevance"].items) == [1, 0]


def test_all_calls_of_an_answer_are_read_or_none():
    assert every_call(f"so {call(1)} and {call(2)}") == [
        {"name": "math.add", "arguments": {"a": 1}}, {"name": "math.add", "arguments": {"a": 2}},
    ]  # fmt: skip
    assert every_call("no call") == []
    assert every_call(f"{call(1)}<tool_call>broken</tool_call>") is None
