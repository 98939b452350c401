"""Tasks of the harness on a served model: its scores are those of the same model here, or a sentence says why not."""

import pytest

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.evals.run import evaluate_model

pytest.importorskip("openai", reason="the openai package is not installed")
pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra eval)")


@pytest.fixture
def suites(served, tiny_model, write_rows, write_recipe):
    """The same tasks on the model here and on the served one."""
    served.fault, served.asked = lambda found: found, []
    rows = write_rows("q.jsonl", [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(3)])
    base = {"dataset_path": "json", "test_split": "test", "dataset_kwargs": {"data_files": {"test": str(rows)}}}
    asked = {"doc_to_text": "{{question}}", "doc_to_target": "{{answer}}"}
    tasks = {
        "choices": {**asked, "output_type": "multiple_choice", "doc_to_choice": ["1", "2 3", "3"], "doc_to_target": 1,
                    "metric_list": [{"metric": "acc"}, {"metric": "acc_mutual_info"}]},
        "exact": {**asked, "output_type": "loglikelihood",
                  "metric_list": [{"metric": "acc"}, {"metric": "perplexity"}]},
        "rolling": {"doc_to_text": "", "doc_to_target": "{{question}} {{answer}}",
                    "output_type": "loglikelihood_rolling", "metric_list": [{"metric": "bits_per_byte"}]},
        "written": {**asked, "output_type": "generate_until", "generation_kwargs": {"until": ["9", "Q:"]},
                    "metric_list": [{"metric": "exact_match"}]},
        "begun": {**asked, "output_type": "generate_until", "gen_prefix": "It is",
                  "generation_kwargs": {"until": ["9"]}, "metric_list": [{"metric": "exact_match"}]},
    }  # fmt: skip

    def make(*names, modes=("no_think",), **endpoint):
        own = [{"task": f"{name}_local", **base, **tasks[name]} for name in names]
        task = {"name": "h", "kind": "harness", "tasks": own, "max_new_tokens": 6, "modes": list(modes)}
        values = {"output_dir": "x", "tasks": [task]}
        keys = {"model": "it", "base_url": served.url, "concurrency": 4, "tokenizer": str(tiny_model), **endpoint}
        keys = {name: value for name, value in keys.items() if value is not None}
        here = write_recipe("here.yaml", values)
        there = write_recipe("there.yaml", values | {"engine": "openai", "endpoint": keys})
        return load(here, "eval"), load(there, "eval")

    return make


def test_scores_are_those_of_the_same_model_here(suites, tiny_model, served):
    for here, there in (
        suites("choices", "exact", "rolling"),
        suites("written", "begun", modes=("think", "no_think")),
    ):
        expected, found = evaluate_model(here, tiny_model), evaluate_model(there, tiny_model)
        assert found["engine"]["harness"] == "openai"
        assert found["metrics"]
        assert set(found["metrics"]) == set(expected["metrics"])
        for name, metric in expected["metrics"].items():
            assert found["metrics"][name]["value"] == pytest.approx(metric["value"], rel=1e-5), name
    assert [s["answer"] for s in found["samples"]] == [s["answer"] for s in expected["samples"]]
    modes = {a["chat_template_kwargs"]["enable_thinking"] for a in served.asked if "messages" in a}
    assert modes == {True, False}


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (lambda found: 404, r"expected a server that gives the log-probabilities .*got status 404 \(.*no such"),
        (lambda found: 400, r"got Error code: 400 .* leave out the tasks whose answers are given and scored"),
        (lambda found: {"logprobs": None}, "got none; serve the model"),
        (lambda found: altered(found, slice(-1, None)), "got those of 1 tokens for a prompt of"),
        (lambda found: altered(found, [0] * 99), "got none for some of the prompt's tokens|those of 99 tokens"),
        (lambda found: {"logprobs": found["logprobs"] | {"top_logprobs": None}}, "none of the likeliest token beside"),
        (lambda found: {"logprobs": renamed(found["logprobs"])}, "endpoint.tokenizer: expected the tokenizer of the"),
    ],
)  # fmt: skip
def test_what_the_server_cannot_do_is_told_before_the_first_question(suites, served, tiny_model, fault, told):
    served.fault = fault
    with pytest.raises(UserError, match=told):
        evaluate_model(suites("written", "exact")[1], tiny_model)
    assert not [asked for asked in served.asked if "messages" in asked]


def test_answers_that_are_scored_have_no_reasoning_before_them(suites, served, tiny_model):
    with pytest.raises(UserError, match=r"modes: expected no_think alone for exact_local, .* got think; leave it out"):
        evaluate_model(suites("exact", modes=("think", "no_think"))[1], tiny_model)
    assert not served.asked


def altered(found, part):
    kept = found["logprobs"]
    return {"logprobs": {k: v[part] if isinstance(part, slice) else [v[n] for n in part] for k, v in kept.items()}}


def renamed(scores):
    return scores | {"tokens": ["x", *scores["tokens"][1:]]}


def test_without_a_tokenizer_chats_alone_are_asked(suites, served, tiny_model):
    assert evaluate_model(suites("written", tokenizer=None)[1], tiny_model)["metrics"]
    served.asked.clear()
    for name, told in (("exact", "scores answers that are given"), ("begun", "begins the model's answers itself")):
        with pytest.raises(UserError, match=rf"endpoint.tokenizer: expected one for {name}_local .*, which {told}"):
            evaluate_model(suites("written", name, tokenizer=None)[1], tiny_model)
    assert not served.asked
