"""The harness's tasks that recipes/smollm3 names, by their real code, on items of ours in their data sets' columns.

`datasets` takes a folder of the working directory for a data set of that name, and `evaluate` one for a metric.
"""

import json

import pytest
import yaml
from helpers import ROOT

pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra eval)")

from apo_soup.config.load import load
from apo_soup.evals.run import evaluate_model

# Data set, its configuration, its splits, and a row.
AIME = {"problem": "What is 1 + 1?", "answer": "2", "id": "0"}
GPQA = {
    "Question": "Which one?", "Correct Answer": "right", "Incorrect Answer 1": "no", "Incorrect Answer 2": "not this",
    "Incorrect Answer 3": "nor this", "Explanation": "so",
}  # fmt: skip
IFEVAL = {
    "key": 1, "prompt": "Write without commas.", "instruction_id_list": ["punctuation:no_comma"],
    "kwargs": [{"num_words": None}],
}  # fmt: skip
GSM_PLUS = {
    "question": "1 + 1?", "solution": "so #### 2", "answer": "2", "perturbation_type": "numerical substitution",
    "seed_question": "1 + 2?", "seed_solution": "#### 3", "seed_answer": "3",
}  # fmt: skip
HUMANEVAL = {
    "task_id": "HumanEval/0", "prompt": "def add(a, b):\n", "entry_point": "add",
    "canonical_solution": "    return a + b\n", "test": "def check(f):\n    assert f(1, 2) == 3\n",
}  # fmt: skip
MBPP_PLUS = {
    "task_id": 2, "code": "def add(a, b): return a + b", "prompt": "Write a function that adds.", "source_file": "x",
    "test_imports": [], "test_list": ["assert add(1, 2) == 3"], "test": "assert add(1, 2) == 3",
}  # fmt: skip
MMLU = {
    "sample_id": "a/1", "subject": "anatomy", "question": "Which?", "option_a": "a", "option_b": "b", "option_c": "c",
    "option_d": "d", "answer": "B", "cultural_sensitivity_label": "CA",
}  # fmt: skip
CATEGORIES = ("Business", "Humanities", "Medical", "Other", "STEM", "Social Sciences")
# One of the recipe's six, whose files say the same.
LANGUAGES = ("fr",)
DATA_SETS = {
    "math-ai/aime25": {"default": {"test": [AIME, AIME | {"problem": "What is 2 + 1?", "answer": "3"}]}},
    "Idavidrein/gpqa": {"gpqa_diamond": {"train": [GPQA, GPQA | {"Question": "Which other?"}]}},
    "google/IFEval": {"default": {"train": [IFEVAL] * 2}},
    "qintongli/GSM-Plus": {"default": {"test": [GSM_PLUS] * 2}},
    "openai/openai_humaneval": {"default": {"test": [HUMANEVAL]}},
    "evalplus/mbppplus": {"default": {"test": [MBPP_PLUS]}},
    "CohereLabs/Global-MMLU-Lite": {
        language: {split: [MMLU | {"subject_category": c} for c in CATEGORIES] for split in ("test", "dev")}
        for language in LANGUAGES
    },
}
# The metric that both tasks of code ask for, by its interface; it trusts what it runs.
CODE_EVAL = """
import datasets
import evaluate

class CodeEval(evaluate.Metric):
    def _info(self):
        features = {"predictions": datasets.Sequence(datasets.Value("string")), "references": datasets.Value("string")}
        return evaluate.MetricInfo(description="", citation="", features=datasets.Features(features))

    def _compute(self, predictions, references, k):
        def passes(program):
            try:
                exec(program, {})
                return True
            except Exception:
                return False
        hits = [any(passes(p + "\\n" + r) for p in own) for own, r in zip(predictions, references)]
        return {"pass@1": sum(hits) / len(hits)}, {}
"""


@pytest.fixture
def local_data(tmp_path, monkeypatch):
    """A working folder with the data sets and the metric."""
    for name, configurations in DATA_SETS.items():
        folder = tmp_path / name
        listed = []
        for configuration, splits in configurations.items():
            files = []
            for split, rows in splits.items():
                file = folder / configuration / f"{split}.jsonl"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("".join(json.dumps(row) + "\n" for row in rows))
                files.append({"split": split, "path": str(file.relative_to(folder))})
            listed.append({"config_name": configuration, "data_files": files})
        (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': listed})}---\n")
    (tmp_path / "code_eval").mkdir()
    (tmp_path / "code_eval" / "code_eval.py").write_text(CODE_EVAL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def makers_tasks():
    """The harness's tasks of the recipe that need no more than a data set, with few and short answers."""
    suite = yaml.safe_load((ROOT / "recipes" / "smollm3" / "eval.yaml").read_text())
    for task in suite["tasks"]:
        if task["kind"] == "harness" and "lengths" not in task:
            shorter = {"repeats": 2} if "repeats" in task else {"modes": ["no_think"]}
            known = [name for name in task["tasks"] if not name.startswith("global") or name[-2:] in LANGUAGES]
            yield task | shorter | {"tasks": known, "limit": 1, "max_new_tokens": 3}


def test_every_task_runs_on_its_columns(english_model, local_data, write_recipe):
    path = write_recipe("eval.yaml", {"output_dir": "evals", "tasks": list(makers_tasks()), "batch_size": 4})
    found = evaluate_model(load(path, "eval"), english_model)
    metrics = found["metrics"]
    for mode in ("think", "no_think"):
        assert metrics[f"aime/{mode}/aime25/exact_match/avg@2"]["n"] == 1
        gpqa = f"gpqa/{mode}/gpqa_diamond_cot_zeroshot/exact_match/flexible-extract"
        assert metrics[f"{gpqa}/pass@2"]["value"] in (0.0, 1.0)
    assert metrics["ifeval/ifeval/prompt_level_strict_acc"]["n"] == 1
    assert metrics["gsm_plus/gsm_plus/exact_match/flexible-extract"]["n"] == 1
    assert {name for name, m in metrics.items() if m["headline"] and name.startswith("global_mmlu")} == {
        f"global_mmlu/global_mmlu_{language}" for language in LANGUAGES
    }
    assert metrics["global_mmlu/global_mmlu_fr"]["n"] == len(CATEGORIES)
    assert metrics["code/humaneval_instruct/pass@1/create_test"]["value"] == 0
    assert metrics["code/mbpp_plus_instruct/pass_at_1/extract_code"]["value"] == 0
