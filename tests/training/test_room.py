"""What a training writes, against what it is found to have written."""

import pytest
from transformers import TrainingArguments
from transformers.trainer_utils import rotate_checkpoints

from apo_soup.training.room import Sizes, checkpoints_at_once, training_room

MB = 10**6
BEST = {"save_strategy": "best", "eval_strategy": "steps", "eval_steps": 30, "metric_for_best_model": "loss"}
LOADED = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 10}
LOADED |= {"save_strategy": "steps", "save_steps": 10, "save_total_limit": 1}


def arguments(**changes):
    return TrainingArguments(output_dir="x", use_cpu=True, report_to="none", **changes)


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({"save_strategy": "no"}, (0, 0)),
        ({"save_strategy": "steps", "save_steps": 30}, (4, 4)),
        ({"save_strategy": "steps", "save_steps": 30, "save_total_limit": 1}, (2, 1)),
        ({"save_strategy": "steps", "save_steps": 0.5}, (2, 2)),
        ({"save_strategy": "steps", "save_steps": 500, "save_total_limit": 3}, (1, 1)),
        ({"save_strategy": "epoch", "num_train_epochs": 2.5}, (3, 3)),
        (BEST, (3, 3)),
        (BEST | {"save_total_limit": 1}, (2, 1)),
        (BEST | {"eval_steps": 0.05, "save_total_limit": 5}, (6, 5)),
        (BEST | {"eval_steps": 200}, (0, 0)),
        (BEST | {"eval_strategy": "epoch", "num_train_epochs": 2}, (2, 2)),
        (LOADED, (3, 2)),
        (LOADED | {"save_total_limit": 2}, (3, 2)),
        (LOADED | {"save_total_limit": 3}, (4, 3)),
    ],
)
def test_checkpoints_that_lie_beside_each_other_and_at_the_end(changes, counts):
    assert checkpoints_at_once(arguments(**changes), 100) == counts


@pytest.mark.parametrize(
    ("changes", "every", "counts"),
    [
        ({"save_strategy": "steps", "save_steps": 500, "save_total_limit": 1}, 10, (3, 2)),
        ({"save_strategy": "steps", "save_steps": 30}, 20, (7, 7)),
        ({"save_strategy": "steps", "save_steps": 0.1}, 20, (10, 10)),
        ({"save_strategy": "steps", "save_steps": 30}, 100, (4, 4)),
        ({"save_strategy": "epoch", "num_train_epochs": 2, "save_total_limit": 3}, 10, (4, 3)),
    ],
)
def test_a_suite_that_chooses_keeps_its_best_and_writes_between_the_saves(changes, every, counts):
    assert checkpoints_at_once(arguments(**changes), 100, every) == counts
    plain = checkpoints_at_once(arguments(**changes), 100)
    assert checkpoints_at_once(arguments(**changes), 100, every, fewest=True) == plain, "no score may be finite"


@pytest.mark.parametrize(
    ("changes", "counts"), [(BEST, (1, 1)), (LOADED, (2, 1)), (BEST | {"eval_steps": 200}, (0, 0))]
)
def test_metrics_decide_between_fewest_and_most(changes, counts):
    assert checkpoints_at_once(arguments(**changes), 100, fewest=True) == counts


def test_what_is_surely_needed_is_that_of_the_fewest():
    sizes = Sizes(trained=100 * MB, saved=100 * MB, final=100 * MB)
    room = training_room(sizes, arguments(**BEST), 100)
    assert (room.least, room.most) == (400 * MB, 1000 * MB)
    assert training_room(sizes, arguments(**LOADED), 100).most == 900 * MB


@pytest.mark.parametrize("limit", [1, 2])
def test_transformers_keeps_the_best_beside_the_newest(tmp_path, limit):
    for step in (10, 20, 30):
        (tmp_path / f"checkpoint-{step}").mkdir()
    rotate_checkpoints(str(tmp_path), limit, str(tmp_path / "checkpoint-10"))
    assert (
        len(list(tmp_path.iterdir())) == checkpoints_at_once(arguments(**LOADED | {"save_total_limit": limit}), 100)[1]
    )


def test_the_room_of_a_full_training_and_of_an_adapter():
    saving = {"save_strategy": "steps", "save_steps": 10, "save_total_limit": 1}
    sizes = Sizes(trained=100 * MB, saved=100 * MB, final=100 * MB)
    full = training_room(sizes, arguments(**saving), 100)
    assert (full.least, full.most) == (600 * MB, 600 * MB), "two of weights and of twice that, which is Adam's"
    assert full.told == "2 checkpoints of 300.0 MB, and the model of 100.0 MB"
    assert training_room(sizes, arguments(**saving), 100, there=1).least == 300 * MB
    assert training_room(sizes, arguments(save_strategy="no"), 100).told == "the model of 100.0 MB"
    assert training_room(sizes, arguments(**saving, save_only_model=True), 100).most == 200 * MB
    adapter = Sizes(1 * MB, 1 * MB, 101 * MB)
    unknown = training_room(adapter, arguments(**saving, optim="lion_32bit"), 100)
    assert (unknown.least, unknown.most) == (102 * MB, 104 * MB)
    of_8_bits = training_room(adapter, arguments(**saving, optim="adamw_8bit"), 100)
    assert (of_8_bits.least, of_8_bits.most) == (102.5 * MB, 102.5 * MB)
