"""Probabilities of given texts: a server's are those of the same model here."""

import pytest
from helpers import chat, preference

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.evals.run import evaluate_model

pytest.importorskip("openai", reason="the openai package is not installed")


@pytest.fixture
def suites(served, tiny_model, write_rows, write_recipe):
    """The kinds that read probabilities, on the model here and on the served one."""
    served.fault, served.asked = lambda found: found, []
    pairs = [preference(f"{n} + 1?", f"It is {n + 1}", "No") for n in range(3)]
    talks = [chat(f"{n} + 2?", f"It is {n + 2}", False) for n in range(3)]
    tasks = [
        {"name": "recall", "kind": "recall", "generate": {"lengths": [96], "depths": [0, 1], "count": 2, "keys": 2}},
        {"name": "better", "kind": "preference", "data": str(write_rows("pairs.jsonl", pairs))},
        {"name": "loss", "kind": "loss", "data": str(write_rows("talks.jsonl", talks))},
        {"name": "far", "kind": "context_loss", "data": str(write_rows("talks.jsonl", talks)), "length": 16},
    ]

    def make():
        values = {"output_dir": "x", "tasks": tasks}
        keys = {"model": "it", "base_url": served.url, "concurrency": 4, "tokenizer": str(tiny_model)}
        here = write_recipe("here.yaml", values)
        there = write_recipe("there.yaml", values | {"engine": "openai", "endpoint": keys})
        return load(here, "eval"), load(there, "eval")

    return make


def test_scores_of_a_served_model_are_those_of_the_same_model_here(suites, tiny_model, served):
    here, there = suites()
    expected, found = evaluate_model(here, tiny_model)["metrics"], evaluate_model(there, tiny_model)["metrics"]
    assert set(found) == set(expected)
    assert {name.partition("/")[0] for name in found} == {"recall", "better", "loss", "far"}
    for name, metric in expected.items():
        assert found[name]["value"] == pytest.approx(metric["value"], rel=1e-5), name
    assert not [asked for asked in served.asked if "messages" in asked]


def test_what_the_server_cannot_score_is_told_before_the_first_text(suites, tiny_model, served):
    served.fault = lambda found: {"logprobs": None}
    with pytest.raises(UserError, match=r"endpoint.base_url: expected a server that gives the log-prob.*, got none"):
        evaluate_model(suites()[1], tiny_model)
    assert len(served.asked) == 1


def test_a_text_that_the_servers_window_has_no_room_for_is_told(suites, tiny_model, served, write_rows):
    long = str(write_rows("long.jsonl", [chat("Count.", "one two three " * 200, False)]))
    there = suites()[1].model_copy(update={"tasks": [suites()[1].tasks[2].model_copy(update={"data": long})]})
    with pytest.raises(UserError, match=r"endpoint: expected texts of at most 510 tokens, .* window of 512 .* got one"):
        evaluate_model(there, tiny_model)
    assert len(served.asked) == 1, "a probe of its tokens"
