"""Which suites can score a model while it trains."""

import pytest
from helpers import TRAINING, chat

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.runs.training_suite import training_suite

ROW = chat("What is 1 + 1?", "2")


@pytest.fixture
def recipe(write_rows, write_recipe, tmp_path):
    """A training file with an eval file beside it; returns the file, loaded."""

    def make(suite=None, **changes):
        rows = str(write_rows("rows.jsonl", [ROW]))
        tasks = [
            {"name": "sums", "kind": "answer", "data": rows, "limit": 3},
            {"name": "held", "kind": "loss", "data": rows},
            {"name": "gsm8k", "kind": "harness", "tasks": "gsm8k"},
            {"name": "code", "kind": "livecodebench", "release": "release_v1"},
            {"name": "judged", "kind": "safety", "data": rows, "judge": {"model": "m", "base_url": "http://h/v1"}},
        ]
        write_recipe("eval.yaml", {"output_dir": "evals", "tasks": tasks} | (suite or {}))
        values = TRAINING | {"model_name_or_path": "m", "output_dir": str(tmp_path / "sft"), "packing": False}
        values["dataset_mixture"] = {"datasets": [{"id": rows}]}
        return load(write_recipe("sft.yaml", values | changes), "sft")

    return make


def asked(recipe):
    return training_suite(recipe, recipe.eval_suite)


def test_of_each_task_so_many_items_are_asked(recipe):
    suite = asked(recipe(eval_suite={"tasks": ["held", "sums"], "items": 20}))
    assert {task.name: task.limit for task in suite.tasks} == {"sums": 3, "held": 20}


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            {"tasks": "sum"},
            r"tasks\.0: expected a task of .*eval.yaml \(sums, held, gsm8k, code, judged\), got sum; corr",
        ),
        (
            {"tasks": ["held", "gsm8k"]},
            r"tasks\.1: expected a task that .* run, got gsm8k, which is lm-evaluation-harn",
        ),
        (
            {"tasks": "code"},
            r"got code, which another project's program scores; leave it to the evaluation behind the tr",
        ),
        ({"tasks": "judged"}, r"got judged, which a served model judges; leave it"),
        (
            {"tasks": "held", "file": "none.yaml"},
            r"eval_suite\.file: expected an eval file, got none.yaml, which is not",
        ),
        (
            {"tasks": "sums", "keep_best": "sums"},
            r"eval_suite\.keep_best: expected one of its scores \(sums/think, sums/no_think, .*\), got sums; ",
        ),
        ({"tasks": "held", "keep_best": "held/thin"}, r"got held/thin; the nearest is held/think"),
    ],
)
def test_a_task_that_cannot_be_asked_in_a_training_is_refused(recipe, keys, told):
    with pytest.raises(UserError, match=told):
        asked(recipe(eval_suite=keys))


def test_a_suite_of_a_served_model_is_refused(recipe):
    served = {"engine": "openai", "endpoint": {"model": "m", "base_url": "http://h/v1"}}
    with pytest.raises(
        UserError, match=r"eval_suite: expected a suite of models that lie here, got .* with an endpoint"
    ):
        asked(recipe(served, eval_suite={"tasks": "held"}))


@pytest.mark.parametrize(
    ("keys", "beside", "told"),
    [
        ({"items": 0}, {}, "eval_suite.items: expected a whole number of 1 or more, got 0"),
        ({"steps": 0}, {}, "eval_suite.steps: expected a number above 0, got 0"),
        ({"steps": 2.5}, {}, "eval_suite.steps: expected a number of steps, or a share of them below 1, got 2.5"),
        ({"tasks": ["held", "held"]}, {}, "eval_suite.tasks.1: expected every task once, got held again"),
        (
            {"keep_best": "sums/think"},
            {},
            r"keep_best: expected a score of one of the tasks \(held\), got 'sums/think'",
        ),
        ({"keep_best": "held"}, {"save_strategy": "no"}, "keep_best: expected save_strategy steps or epoch beside it"),
        (
            {"keep_best": "held"},
            {"load_best_model_at_end": True, "eval_strategy": "steps"},
            "keep_best: expected none beside load_best_model_at_end",
        ),
        (
            {},
            {"fsdp": "full_shard"},
            "eval_suite: expected a training whose processes hold the model whole, got fsdp, wh",
        ),
        ({"task": "held"}, {}, "eval_suite.task: "),
    ],
)
def test_keys_that_cannot_hold_are_told(recipe, keys, beside, told):
    with pytest.raises(UserError, match=told):
        recipe(eval_suite={"tasks": ["held"]} | keys, **beside)


def test_a_suite_decides_nothing_unless_it_chooses(recipe):
    plain = recipe().deciding_values()
    assert recipe(eval_suite={"tasks": ["held"]}).deciding_values() == plain
    chooses = recipe(eval_suite={"tasks": ["held"], "keep_best": "held"}).deciding_values()
    assert chooses == plain | {"eval_suite": {"tasks": ["held"], "keep_best": "held"}}
