"""What a training writes, against what it is found to have written."""

import pytest
from transformers import TrainingArguments

from apo_soup.training.room import Sizes, checkpoints_at_once, training_room

MB = 10**6


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
    ],
)
def test_checkpoints_that_lie_beside_each_other_and_at_the_end(changes, counts):
    assert checkpoints_at_once(arguments(**changes), 100) == counts


def test_the_room_of_a_full_training_and_of_an_adapter():
    saving = {"save_strategy": "steps", "save_steps": 10, "save_total_limit": 1}
    sizes = Sizes(trained=100 * MB, saved=100 * MB, final=100 * MB)
    full = training_room(sizes, arguments(**saving), 100, there=0)
    assert (full.least, full.most) == (600 * MB, 600 * MB), "two of weights and of twice that, which is Adam's"
    assert full.told == "2 checkpoints of 300.0 MB, and the model of 100.0 MB"
    assert training_room(sizes, arguments(**saving), 100, there=1).least == 300 * MB
    assert training_room(sizes, arguments(save_strategy="no"), 100, there=0).told == "the model of 100.0 MB"
    assert training_room(sizes, arguments(**saving, save_only_model=True), 100, there=0).most == 200 * MB
    adapter = training_room(Sizes(1 * MB, 1 * MB, 101 * MB), arguments(**saving, optim="adamw_8bit"), 100, there=0)
    assert (adapter.least, adapter.most) == (102 * MB, 104 * MB)
