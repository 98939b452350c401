"""lm-evaluation-harness on our checkpoints: RULER without a network, GSM8K and IFEval from local files, both modes."""

import json

import jsonschema
import pytest
from helpers import ROOT

from apo_soup.errors import UserError

pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra eval)")

from apo_soup.config.load import load
from apo_soup.evals.run import evaluate_model

# Those of RULER's tasks whose text is generated and needs no data of the Hub, one of each generator; a generator
# makes 500 items whatever the limit.
RULER = ["niah_single_1", "ruler_vt", "ruler_fwe", "ruler_cwe"]


def evaluated(path, folder, *words):
    """A suite on a model, in this process, which saves the harness's long import."""
    return evaluate_model(load(path, "eval", list(words)), folder)


def test_ruler_runs_without_a_network_and_asks_every_checkpoint_the_same(english_model, write_recipe, tmp_path):
    task = {"name": "ruler", "kind": "harness", "tasks": RULER, "lengths": [1280], "limit": 2, "max_new_tokens": 4}
    values = {"output_dir": str(tmp_path / "evals"), "models": {"a": str(english_model)}, "tasks": [task]}
    found = evaluated(write_recipe("eval.yaml", values), english_model)
    metrics = found["metrics"]
    assert {f"ruler/{name}/1280" for name in RULER} < set(metrics)
    assert metrics["ruler/1280"]["n"] == 2 * len(RULER)
    assert metrics["ruler/1280"]["headline"]
    assert metrics["ruler/1280"]["low"] < metrics["ruler/1280"]["high"]
    assert len(found["samples"]) == len(RULER)
    # Its words come from a generator that goes on from one checkpoint to the next.
    fewer = {**task, "tasks": ["ruler_cwe"], "lengths": [1280, 1300]}
    path = write_recipe("eval.yaml", values | {"tasks": [fewer]})
    first, second = (evaluated(path, english_model) for _ in range(2))
    assert first["tasks"]["ruler"]["rows"] == second["tasks"]["ruler"]["rows"], "every checkpoint is asked the same"
    for length in (1280, 1300):
        assert first["metrics"][f"ruler/{length}"]["n"] == 2, "limit counts the items of each length"


GSM8K = {
    "task": "gsm8k_local",
    "dataset_path": "json",
    "output_type": "generate_until",
    "test_split": "test",
    "doc_to_text": "Q: {{question}}\nA:",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["Q:", "\n\n"], "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    "filter_list": [
        {"name": "strict-match", "filter": [{"function": "regex", "regex_pattern": "#### (\\-?[0-9\\.\\,]+)"},
                                            {"function": "take_first"}]},
        {"name": "flexible-extract", "filter": [{"function": "regex", "group_select": -1,
                                                 "regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)"},
                                                {"function": "take_first"}]},
    ],
}  # fmt: skip


def test_local_gsm8k_and_ifeval_in_both_modes(tiny_model, write_rows, write_recipe, tmp_path):
    import yaml

    questions = write_rows("gsm8k.jsonl", [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(4)])
    rows = [
        {
            "key": n,
            "prompt": "Write without commas.",
            "instruction_id_list": ["punctuation:no_comma"],
            "kwargs": [{"num_words": None}],
        }
        for n in range(3)
    ]
    folder = tmp_path / "tasks"
    folder.mkdir()
    own = {**GSM8K, "dataset_kwargs": {"data_files": {"test": str(questions)}}}
    (folder / "gsm8k_local.yaml").write_text(yaml.safe_dump(own))
    ifeval = {"task": "ifeval", "dataset_path": "json",
              "dataset_kwargs": {"data_files": {"train": str(write_rows("ifeval.jsonl", rows))}}}  # fmt: skip
    tasks = [
        {"name": "gsm8k", "kind": "harness", "tasks": ["gsm8k_local"], "include": str(folder), "max_new_tokens": 6,
         "modes": ["think", "no_think"]},
        {"name": "ifeval", "kind": "harness", "tasks": [ifeval], "max_new_tokens": 6},
    ]  # fmt: skip
    values = {"output_dir": str(tmp_path / "evals"), "models": {"a": str(tiny_model)}, "tasks": tasks}
    path = write_recipe("eval.yaml", values)
    metrics = evaluated(path, tiny_model)["metrics"]
    headlines = [name for name, metric in metrics.items() if metric["headline"]]
    assert headlines[:2] == [f"gsm8k/{m}/gsm8k_local/exact_match/flexible-extract" for m in ("think", "no_think")]
    assert metrics[headlines[0]]["n"] == 4
    assert metrics[headlines[0]]["value"] == 0.0, "six tokens of an open reasoning are no answer"
    assert metrics["ifeval/ifeval/prompt_level_strict_acc"]["n"] == 3
    for tasks, told in (
        (
            "[{name: x, kind: harness, tasks: [no_such_task]}]",
            "expected a task, group or tag of lm-eval, got no_such_task",
        ),
        ("[{name: x, kind: harness, tasks: [gsm8k]}]", "expected the data of gsm8k, got none that can be reached"),
        (
            "[{name: x, kind: harness, tasks: [ruler_vt], lengths: [1024]}]",
            "ruler_vt: expected an example of at most 500 tokens",
        ),
    ):
        with pytest.raises(UserError, match=told):
            evaluated(path, tiny_model, "--tasks", tasks)


@pytest.mark.parametrize(("closed", "right"), [(True, 1.0), (False, 0.0)])
def test_reasoning_is_taken_off_and_an_open_one_is_no_answer(
    tiny_model, tokenizer, write_rows, write_recipe, tmp_path, monkeypatch, closed, right
):
    """A scripted model: a trace with a blank line, which ends an answer but no reasoning, and the right number last."""
    import torch

    def scripted(self, context, max_length, stop, **kwargs):
        text = "<think>\n7\n\n8\n" + ("</think>\n3" if closed else "3")
        cut = min((text.index(s) for s in stop if s in text), default=len(text))
        ids = torch.tensor([*tokenizer(text[:cut], add_special_tokens=False).input_ids, tokenizer.eos_token_id])
        return torch.cat([context, ids.expand(len(context), -1)], dim=1)

    monkeypatch.setattr("apo_soup.private.HarnessHooks.generate_tokens", scripted)
    questions = write_rows("q.jsonl", [{"question": f"{n} + {3 - n}?", "answer": "3"} for n in range(3)])
    own = {**GSM8K, "dataset_kwargs": {"data_files": {"test": str(questions)}}}
    task = {"name": "g", "kind": "harness", "tasks": [own], "modes": ["think"]}
    values = {"output_dir": str(tmp_path / "evals"), "tasks": [task]}
    found = evaluated(write_recipe("eval.yaml", values), tiny_model)
    assert found["metrics"]["g/gsm8k_local/exact_match/flexible-extract"]["value"] == right
    assert found["engine"]["lm_eval"]
    schema = json.loads((ROOT / "docs" / "results.schema.json").read_text())
    about = {"name": "m", "model": "m", "model_hash": "h", "suite_hash": "s"}
    jsonschema.validate(about | found, schema)


def test_the_example_of_the_documentation_runs(tiny_model, write_rows, write_recipe, tmp_path):
    """GSM8K's own task on other rows, which lack the splits that it takes its examples from."""
    import re

    import yaml

    text = (ROOT / "docs" / "evals.md").read_text()
    block = re.search(r"\n    - name: gsm8k\n(?:    .*\n)+", text)[0]
    rows = write_rows("my.jsonl", [{"question": "1 + 1?", "answer": "so #### 2"}] * 2)
    tasks = yaml.safe_load(block.replace("my.jsonl", str(rows)))
    tasks[0] |= {"max_new_tokens": 4}
    found = evaluated(write_recipe("eval.yaml", {"output_dir": str(tmp_path / "evals"), "tasks": tasks}), tiny_model)
    assert {m["n"] for m in found["metrics"].values()} == {2}


def test_prompts_beyond_the_window_are_refused_and_not_cut(english_model, write_recipe, tmp_path):
    task = {"name": "ruler", "kind": "harness", "tasks": ["niah_single_1"], "lengths": [3000], "limit": 1}
    path = write_recipe("eval.yaml", {"output_dir": str(tmp_path / "evals"), "tasks": [task]})
    with pytest.raises(UserError, match=r"expected prompts of at most 1,920 tokens, .* window of 2,048 .*, got 2,8"):
        evaluated(path, english_model)


def test_a_fault_of_our_own_inside_the_harness_is_not_told_as_a_refusal(
    tiny_model, write_recipe, tmp_path, monkeypatch
):
    def faulty(self, context, max_length, stop, **kwargs):
        raise TypeError("ours")

    monkeypatch.setattr("apo_soup.private.HarnessHooks.generate_tokens", faulty)
    rows = tmp_path / "q.jsonl"
    rows.write_text(json.dumps({"question": "1 + 1?", "answer": "2"}) + "\n")
    task = {**GSM8K, "dataset_kwargs": {"data_files": {"test": str(rows)}}}
    values = {"output_dir": str(tmp_path / "evals"), "tasks": [{"name": "g", "kind": "harness", "tasks": [task]}]}
    with pytest.raises(TypeError, match="ours"):
        evaluated(write_recipe("eval.yaml", values), tiny_model)


def test_an_item_is_asked_several_times_and_each_answer_scored(
    tiny_model, tokenizer, write_rows, write_recipe, tmp_path, monkeypatch
):
    """A scripted model that is right the second time it is asked a question, and never the fourth question."""
    import torch

    asked = {}

    def scripted(self, context, max_length, stop, **kwargs):
        assert kwargs["do_sample"] is True, "the task's own file says that nothing is drawn"
        assert kwargs["temperature"] == 0.6
        answers = []
        for prompt in context.tolist():
            text = tokenizer.decode(prompt)
            asked[text] = asked.get(text, 0) + 1
            answers.append("3" if asked[text] == 2 and "3 + 0" not in text else "4")
        ids = torch.tensor(
            [[*tokenizer(a, add_special_tokens=False).input_ids, tokenizer.eos_token_id] for a in answers]
        )
        return torch.cat([context, ids], dim=1)

    monkeypatch.setattr("apo_soup.private.HarnessHooks.generate_tokens", scripted)
    questions = write_rows("q.jsonl", [{"question": f"{n} + {3 - n}?", "answer": "3"} for n in range(4)])
    own = {**GSM8K, "dataset_kwargs": {"data_files": {"test": str(questions)}}}
    task = {
        "name": "g", "kind": "harness", "tasks": [own], "repeats": 4, "pass_at": [2, 4],
        "gen_kwargs": {"temperature": 0.6},
    }  # fmt: skip
    path = write_recipe("eval.yaml", {"output_dir": str(tmp_path / "evals"), "tasks": [task]})
    found = evaluated(path, tiny_model)
    label = "g/gsm8k_local/exact_match/flexible-extract"
    assert set(asked.values()) == {4}
    assert found["metrics"][f"{label}/avg@4"]["items"] == [0.25, 0.25, 0.25, 0.0]
    assert found["metrics"][f"{label}/pass@2"]["items"] == [0.5, 0.5, 0.5, 0]
    assert found["metrics"][f"{label}/pass@4"]["items"] == [1, 1, 1, 0]
    assert found["metrics"][f"{label}/pass@4"]["n"] == 4
    choices = {
        "task": "choices_local", "dataset_path": "json", "output_type": "multiple_choice", "test_split": "test",
        "doc_to_text": "{{question}}", "doc_to_choice": ["a", "b"], "doc_to_target": 0,
        "dataset_kwargs": {"data_files": {"test": str(questions)}},
    }  # fmt: skip
    path = write_recipe("eval.yaml", {"output_dir": "x", "tasks": [task | {"tasks": [choices]}]})
    with pytest.raises(UserError, match="repeats: expected tasks whose answers the model writes, got choices_local"):
        evaluated(path, tiny_model)
