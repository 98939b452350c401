"""LiveCodeBench: what is asked and written, who judges it, and what is said where nobody may."""

import json
import sys

import pytest
from eval_helpers import contest_problem, scripted_checkpoint

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.evals.outside.livecodebench import livecodebench_rows, livecodebench_task
from apo_soup.evals.program import EvalRequest, check_tasks, run_suite
from apo_soup.runs.own_names import marked_name

# LiveCodeBench's modules by their interface: its custom evaluation reads and writes as the repository's does.
PROBLEM = """
class CodeGenerationProblem:
    def __init__(self, question_title, question_content, platform, question_id, contest_id, contest_date, starter_code,
                 difficulty, public_test_cases, private_test_cases, metadata):
        self.id, self.tests = question_id, (public_test_cases, private_test_cases)
"""
ROUTER = """
from lcb_runner.benchmarks.code_generation import CodeGenerationProblem
def load_code_generation_dataset(release_version, start_date=None, end_date=None):
    raise OSError("the Hub")
def build_prompt_benchmark(args):
    return sorted(load_code_generation_dataset("release_latest"), key=lambda p: p.id)
"""
EVALUATOR = """
import json, os, sys
from lcb_runner.runner.scenario_router import build_prompt_benchmark
def main():
    words = sys.argv[1:]
    file = words[words.index("--custom_output_file") + 1]
    benchmark, outputs = build_prompt_benchmark(words), json.load(open(file))
    assert [p.id for p in benchmark] == [o["question_id"] for o in outputs]
    assert "HF_TOKEN" not in os.environ and os.path.isdir("lcb_runner")
    if "--timeout" not in words or "broken" in str(outputs):
        sys.exit("ModuleNotFoundError: No module named 'anthropic'")
    graded = [o | {"graded_list": ["right" in code for code in o["code_list"]]} for o in outputs]
    json.dump(graded, open(file[:-5] + "_codegeneration_output_eval_all.json", "w"))
"""


@pytest.fixture
def repository(tmp_path):
    """A folder that stands for LiveCodeBench's repository."""
    files = {
        "benchmarks/code_generation": PROBLEM,
        "runner/scenario_router": ROUTER,
        "runner/custom_evaluator": EVALUATOR,
    }
    for name, text in files.items():
        file = tmp_path / "LiveCodeBench" / "lcb_runner" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "LiveCodeBench"


@pytest.fixture
def contest(write_rows, write_recipe, tokenizer, tmp_path):
    """A task on three problems, and what a scripted model's answers give."""
    starter = "class Solution:\n    def add(self, n):\n        "
    problems = [contest_problem(n, f"2024-0{n}-15", starter if n == 2 else "") for n in (3, 1, 2)]
    data = str(write_rows("test.jsonl", problems))

    def run(answer, **keys):
        task = {"name": "lcb", "kind": "livecodebench", "data": data, "modes": ["no_think"], **keys}
        suite = load(write_recipe("eval.yaml", {"output_dir": "x", "tasks": [task]}), "eval")
        check_tasks(suite)
        checkpoint = scripted_checkpoint(suite, tokenizer, answer)
        rows = livecodebench_rows(suite.tasks[0], "here")
        return livecodebench_task(checkpoint, suite.tasks[0], rows), checkpoint.engine

    return run


def test_answers_are_written_in_its_format_and_judged_by_its_program(contest, repository, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")

    def answer(prompt):
        draft = "```python\nwrong\n```\nNo:\n"
        return draft + ("```python\nright\n```" if "Add 1" in prompt or "Add 3" in prompt else "```\nfalse\n```")

    keys = {"program": str(repository), "python": sys.executable, "unsafe_code": True}
    result, model = contest(answer, **keys, repeats=2, pass_at=[1, 2], temperature=0.6)
    value = {name: list(metric.items) for name, metric in result.metrics.items() if not name.endswith("tokens")}
    assert value == {
        "lcb/no_think/avg@2": [1, 1, 0], "lcb/no_think/pass@1": [1, 1, 0], "lcb/no_think/pass@2": [1, 1, 0],
        "lcb/no_think/easy": [1, 0], "lcb/no_think/hard": [1], "lcb/no_think/code": [1, 1, 1],
    }  # fmt: skip
    written = result.files["livecodebench/lcb_no_think.json"]
    assert written == [{"question_id": f"q{n}", "code_list": ["false" if n == 2 else "right"] * 2} for n in (1, 2, 3)]
    assert [sample.right for sample in result.samples] == [True, True, False]
    assert result.notes == []
    starter = next(p for p in model.prompts if "Add 2" in p)
    assert "use the following starter code" in starter
    assert "```python\nclass Solution:\n    def add(self, n):\n        \n```" in starter
    assert "Read the inputs from stdin" in next(p for p in model.prompts if "Add 3" in p)
    with pytest.raises(
        UserError, match=r"tasks.0.program: expected LiveCodeBench's program, got one that failed .*'anthropic'"
    ):
        contest(lambda prompt: "```\nbroken\n```", **keys)


def test_where_nothing_may_run_the_answers_are_kept_and_said_to_be_unscored(contest, tmp_path, capsys):
    result, _ = contest(lambda prompt: "<think>```\nno\n```</think>no code" if "Add 1" in prompt else "```\na\n```")
    assert [name for name, metric in result.metrics.items() if metric.headline] == []
    assert list(result.metrics["lcb/no_think/code"].items) == [1, 0, 1]
    (note,) = result.notes
    assert note.startswith("lcb: not scored: its answers are in livecodebench/lcb_no_think.json beside results.json;")
    assert note in capsys.readouterr().out
    assert {sample.right for sample in result.samples} == {None}
    assert len(result.files["livecodebench/lcb_no_think.json"]) == 3


def test_a_window_of_contests_is_kept(contest):
    result, _ = contest(lambda prompt: "x", start_date="2024-01-16", end_date="2024-03-15")
    assert result.metrics["lcb/no_think/code"].score.n == 2
    assert contest(lambda prompt: "x", limit=1)[0].metrics["lcb/no_think/code"].score.n == 1
    with pytest.raises(UserError, match="expected problems of contests between 2025-01-01 and the last, got none of 3"):
        contest(lambda prompt: "x", start_date="2025-01-01")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"program": "LiveCodeBench"}, "program: expected unsafe_code: true beside it, since it runs what the model"),
        ({"unsafe_code": True}, "unsafe_code: expected program beside it"),
        ({"release": "release_v4"}, "expected data or release for task lcb, got both; leave one of them out"),
        ({"start_date": "August"}, "start_date: expected a day such as 2024-08-01, got 'August'"),
        (
            {"start_date": "2024-08-01", "end_date": "2024-07-31"},
            "end_date: expected a day that is not before start_date",
        ),
        (
            {"program": "none", "unsafe_code": True},
            "program: expected the repository of LiveCodeBench, with its folder",
        ),
        ({"data": "none.jsonl"}, "data: expected a file or folder of problems, got none.jsonl"),
    ],
)
def test_what_cannot_be_scored_is_told_before_a_model_is_asked(contest, keys, told):
    with pytest.raises(UserError, match=told):
        contest(lambda prompt: "x", **keys)


def test_a_day_without_quotes_is_one(write_recipe, tmp_path):
    path = tmp_path / "eval.yaml"
    path.write_text(
        "output_dir: x\ntasks: [{name: a, kind: livecodebench, release: release_v4, start_date: 2024-08-01}]\n"
    )
    assert load(path, "eval").tasks[0].start_date == "2024-08-01"


def test_a_release_that_the_hub_does_not_give_is_one_sentence(talking_model, write_recipe, tmp_path):
    task = {"name": "lcb", "kind": "livecodebench", "release": "release_v2"}
    values = {"output_dir": str(tmp_path / "e"), "models": {"m": str(talking_model)}, "tasks": [task]}
    told = (
        r"tasks.0.release: expected test.jsonl, test2.jsonl of livecodebench/code_generation_lite, got none that can be"
    )
    with pytest.raises(UserError, match=told):
        run_suite(write_recipe("eval.yaml", values), EvalRequest(), [])


def test_answers_lie_beside_the_results(talking_model, write_rows, write_recipe, tmp_path):
    data = str(write_rows("test.jsonl", [contest_problem(1, "2024-01-01")]))
    task = {"name": "l c:b", "kind": "livecodebench", "data": data, "modes": ["no_think"], "max_new_tokens": 3}
    values = {"output_dir": str(tmp_path / "e"), "models": {"m": str(talking_model)}, "tasks": [task]}
    assert run_suite(write_recipe("eval.yaml", values), EvalRequest(), []) == 0
    results = json.loads((tmp_path / "e" / "m" / "results.json").read_text())
    assert "not scored" in results["tasks"]["l c:b"]["notes"][0]
    (file,) = (tmp_path / "e" / "m" / "livecodebench").iterdir()
    assert file.name == f"{marked_name('l c:b')}_no_think.json", "a task that is called l-c-b has another"
    (answer,) = json.loads(file.read_text())
    assert answer["question_id"] == "q1"
