"""Several answers to a question: avg@n, pass@k, and noise that counts questions."""

import itertools
import math
import random

import pytest
from helpers import chat

from apo_soup.config.load import load
from apo_soup.data.sources.rows import RowError
from apo_soup.errors import UserError
from apo_soup.evals.answers import hits_by_group
from apo_soup.evals.compare import metric_comparisons
from apo_soup.evals.metrics import ItemRow
from apo_soup.evals.repeats import mean_over_repeats, pass_probability, share_metrics
from apo_soup.evals.run import evaluate_model
from apo_soup.statistics import wilson_interval


def test_pass_at_k_is_the_share_of_draws_with_a_right_answer():
    for n, right, k in itertools.product(range(1, 7), range(7), range(1, 7)):
        if right > n or k > n:
            continue
        answers = [True] * right + [False] * (n - right)
        draws = [any(drawn) for drawn in itertools.combinations(answers, k)]
        assert math.isclose(pass_probability(n, right, k), sum(draws) / len(draws), abs_tol=1e-12)
    assert math.isclose(pass_probability(64, 1, 8), 1 / 8)
    with pytest.raises(ValueError, match="at most 4"):
        pass_probability(4, 1, 5)


def test_pass_at_k_is_unbiased_where_the_plain_estimate_is_not():
    """A question answered right one time in five; eight answers each, asked for one of two."""
    generator = random.Random(0)
    estimates, plain = [], []
    for _ in range(20000):
        right = sum(generator.random() < 0.2 for _ in range(8))
        estimates.append(pass_probability(8, right, 2))
        plain.append(1 - (1 - right / 8) ** 2)
    truth = 1 - 0.8**2
    assert abs(sum(estimates) / len(estimates) - truth) < 0.005
    assert abs(sum(plain) / len(plain) - truth) > 0.01


def test_intervals_count_questions_and_hold_the_truth():
    """Half of all questions are solved always, half never: 64 answers each say no more than one."""
    outcomes = [[1] * 64] * 5 + [[0] * 64] * 5
    metric = mean_over_repeats(outcomes)
    assert (metric.score.n, metric.score.value) == (10, 0.5)
    assert (metric.score.low, metric.score.high) == wilson_interval(5, 10)
    generator = random.Random(1)
    held = 0
    for _ in range(400):
        shares = [generator.betavariate(0.5, 0.5) for _ in range(30)]
        score = mean_over_repeats([[int(generator.random() < p) for _ in range(16)] for p in shares]).score
        held += score.low <= 0.5 <= score.high
    assert held >= 0.92 * 400, "an interval over the 480 answers holds it in about 40 of 100"


def test_alike_questions_do_not_make_an_interval_of_no_width():
    score = mean_over_repeats([[1, 0], [0, 1], [1, 0]]).score
    assert (score.low, score.high) == wilson_interval(3, 6)


def test_one_answer_keeps_the_names_and_several_tell_their_number():
    assert list(share_metrics("t/think", [[True], [False]], 1)) == ["t/think"]
    found = share_metrics("t/think", [[True, False, False, False], [False] * 4], 4, [4, 2, 1])
    assert list(found) == ["t/think/avg@4", "t/think/pass@1", "t/think/pass@2", "t/think/pass@4"]
    assert [round(m.score.value, 4) for m in found.values()] == [0.125, 0.125, 0.25, 0.5]
    assert {m.score.n for m in found.values()} == {2}


def test_questions_are_asked_again_with_the_suite_s_seed(talking_model, write_rows, write_recipe, tmp_path):
    questions = [{"messages": chat(f"{n} + 1?", "")["messages"][:1], "answer": str(n + 1)} for n in range(6)]
    task = {
        "name": "sums", "kind": "answer", "data": str(write_rows("q.jsonl", questions)), "modes": ["no_think"],
        "max_new_tokens": 6, "repeats": 8, "pass_at": [1, 8], "temperature": 1.0, "top_p": 0.95,
    }  # fmt: skip
    path = write_recipe("eval.yaml", {"output_dir": str(tmp_path / "evals"), "tasks": [task], "samples": 6})

    def found(*words):
        return evaluate_model(load(path, "eval", list(words)), talking_model)

    first, again, other = found(), found(), found("--seed", "1")
    assert first["metrics"] == again["metrics"]
    assert first["samples"] == again["samples"]
    assert first["samples"] != other["samples"]
    assert len({s["answer"] for s in first["samples"]}) > 1
    lengths = first["metrics"]["sums/no_think/tokens"]["items"]
    assert any(length % 1 for length in lengths), "the answers to a question differ"
    for name in ("avg@8", "pass@1", "pass@8"):
        metric = first["metrics"][f"sums/no_think/{name}"]
        assert (metric["n"], len(metric["items"]), metric["headline"]) == (6, 6, True)
    lines, notes = metric_comparisons(first, other)
    assert {line.gain.n for line in lines} == {6}
    assert notes == []


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ({"kind": "answer", "repeats": 4}, "repeats: expected a temperature above 0 for several answers to an item"),
        (
            {"kind": "answer", "repeats": 4, "temperature": 0.6, "pass_at": [8]},
            "pass_at: expected at most 4, the answers to an item, got 8",
        ),
        ({"kind": "tool", "top_p": 0.95}, "top_p: expected a temperature above 0 beside it, got none"),
        (
            {"kind": "harness", "tasks": ["aime25"], "repeats": 2},
            "repeats: expected .* got 2 and no such gen_kwargs; give gen_kwargs",
        ),
        (
            {"kind": "harness", "tasks": ["a"], "repeats": 2, "gen_kwargs": {"temperature": 1, "do_sample": False}},
            "repeats: expected a temperature above 0",
        ),
    ],
)
def test_repeats_that_would_be_one_answer_are_refused(write_recipe, task, told):
    made = {} if task["kind"] == "harness" else {"generate": {"count": 2}}
    path = write_recipe("eval.yaml", {"output_dir": "x", "tasks": [{"name": "x", **made, **task}]})
    with pytest.raises(UserError, match=told):
        load(path, "eval")


def test_no_group_takes_the_name_of_a_score():
    for group in ("tokens", "avg@8", "pass@1"):
        with pytest.raises(RowError, match=f"field group: expected another name than {group}"):
            hits_by_group([ItemRow({"group": group})], [[True]])
    assert hits_by_group([ItemRow({"group": "tokens of x"})], [[True]]) == {"tokens of x": [[True]]}
