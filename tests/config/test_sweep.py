"""The file of a walk over training keys: what its points are, and that each is checked as the training that it is."""

import pytest
import yaml
from helpers import ROOT

from apo_soup.config.load import load
from apo_soup.config.swept_points import sweep_problems, swept_points
from apo_soup.errors import UserError

TINY = ROOT / "recipes" / "tiny"


@pytest.fixture
def sweep_file(tmp_path):
    """Writes a sweep file beside the stage files of the embedded recipe, which is otherwise right."""
    folder = tmp_path / "recipe"
    folder.mkdir()
    for name in ("recipe", "mid", "sft", "apo", "tuning"):
        (folder / f"{name}.yaml").write_text((TINY / f"{name}.yaml").read_text())

    def write(**keys):
        path = folder / "sweep.yaml"
        path.write_text(yaml.safe_dump({"stage": "apo"} | keys | {"eval": "tuning.yaml"}, sort_keys=False))
        return path

    return write


def test_a_grid_and_points_are_walked_in_their_order(sweep_file):
    path = sweep_file(
        over={"learning_rate": ["1e-5", 2e-5], "dataset_mixture.datasets.2.weight": [0.1, 0.5]},
        points=[{"beta": 0.5, "lr_scheduler_kwargs.min_lr_rate": 0.2}],
    )
    points = swept_points(load(path, "sweep"))
    weight = "dataset_mixture.datasets.2.weight"
    assert [point.told for point in points] == [
        f"learning_rate=1e-05+{weight}=0.1", f"learning_rate=1e-05+{weight}=0.5",
        f"learning_rate=2e-05+{weight}=0.1", f"learning_rate=2e-05+{weight}=0.5",
        "beta=0.5+lr_scheduler_kwargs.min_lr_rate=0.2",
    ]  # fmt: skip
    (training,) = points[1].trainings
    assert (training.learning_rate, training.dataset_mixture.datasets[2].weight, training.seed) == (1e-5, 0.5, 1)
    assert points[4].trainings[0].lr_scheduler_kwargs == {"min_lr_rate": 0.2}
    assert points[4].value("learning_rate") == "2e-05", "the file's own"
    assert points[4].value("gradient_accumulation_steps") == "-"


def test_the_point_that_the_file_is_already_is_known(sweep_file):
    points = swept_points(load(sweep_file(over={"beta": [0.05, 0.1]}), "sweep"))
    assert [point.of_file for point in points] == [True, False]


def test_a_points_keys_stand_over_those_of_a_member(sweep_file):
    path = sweep_file(over={"beta": [0.3], "seed": [7]}, members=1)
    apo = path.with_name("apo.yaml")
    apo.write_text(apo.read_text().replace("- seed: 1", "- {seed: 1, beta: 0.2}"))
    (point,) = swept_points(load(path, "sweep"))
    assert (point.trainings[0].beta, point.trainings[0].seed) == (0.3, 7)
    (point,) = swept_points(load(sweep_file(over={"beta": [0.3]}, members="all"), "sweep"))
    assert [t.seed for t in point.trainings] == [1, 2, 3]
    assert {t.beta for t in point.trainings} == {0.3}


WEIGHT = "dataset_mixture.datasets.{}.weight"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"over": {"learning_rte": [1]}}, "4: over.learning_rte.0: expected a known key, got an unknown one"),
        ({"over": {"beta": [0.1, -1]}}, "5: over.beta.1: expected a number above 0, got -1; raise it above 0"),
        ({"over": {"logging_steps": [1]}}, "4: over.logging_steps.0: expected a key that changes what is learned"),
        ({"over": {"beta": [0.1, "0.1"]}}, "5: over.beta.1: expected points that train differently, got beta=0.1"),
        ({"over": {"per_device_train_batch_size": [8, 16]}}, "trains as per_device_train_batch_size=8 does"),
        ({"over": {WEIGHT.format(7): [1]}}, "expected a name that leads somewhere, got 7, which is not there"),
        ({"over": {WEIGHT.format(0) + "s": [1]}}, "4: over.dataset_mixture.datasets.0.weights.0: expected a known"),
        ({"over": {"lr_scheduler_kwargs.min_lr_rate": ["x"]}}, "4: over.lr_scheduler_kwargs.min_lr_rate.0: expected a"),
        ({"over": {"loss_type": ["ipo, sigmoid"]}}, "got 'ipo, sigmoid'"),
        ({"over": {"max_steps": [None]}}, "4: over.max_steps.0: expected a whole number of 1 or more"),
        ({"stage": "ap", "over": {"beta": [1]}}, "1: stage: expected a training file of the recipe, without .yaml"),
        ({"stage": "tuning", "over": {"beta": [1]}}, "got 'tuning'; name one of apo, mid, sft"),
        ({"stage": "sft", "over": {"beta": [1]}}, "expected a key of mid and sft files, got one of apo files"),
        ({"stage": "sft", "members": 2, "over": {"seed": [1]}}, "since sft.yaml trains no soup members, got 2"),
        ({"members": 4, "over": {"beta": [1]}}, "members: expected at most 3, the members of apo.yaml, got 4"),
        ({"members": "all", "over": {"seed": [1]}}, "expected soup members that differ at every point, got seed=1"),
        ({"points": [{"lr_scheduler_type": "linear"}]}, "3: points.0.lr_scheduler_type"),
    ],
)
def test_every_point_is_checked_as_the_training_that_it_is(sweep_file, keys, told):
    problems = sweep_problems(load(sweep_file(**keys), "sweep"))
    assert len(problems) == 1
    assert told in problems[0]
    assert problems[0].count("sweep.yaml:") == 1


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({}, "over: expected the key, or points, got neither"),
        ({"over": {"members": [1]}}, "over.members: expected a key that is walked, got 'members', of which the walk"),
        ({"points": [{"output_dir": "x"}]}, "points.0.output_dir: expected a key that is walked"),
        ({"points": [{}]}, "points.0: expected keys with values, got none"),
        ({"over": {"seed": [*range(11)], "beta": [*range(1, 11)]}}, "over: expected at most 100 points, got 110"),
    ],
)
def test_a_file_without_points_or_with_too_many_is_told(sweep_file, keys, told):
    with pytest.raises(UserError) as error:
        load(sweep_file(**keys), "sweep")
    assert told in str(error.value)


def test_a_wrong_training_file_is_told_of_itself_alone(sweep_file):
    path = sweep_file(over={"beta": [0.1]})
    apo = path.with_name("apo.yaml")
    apo.write_text(apo.read_text().replace("beta: 0.05", "beta: much"))
    assert sweep_problems(load(path, "sweep")) == []
    with pytest.raises(UserError, match=r"apo\.yaml:\d+: beta: expected a number above 0, got 'much'"):
        swept_points(load(path, "sweep"))


def test_more_than_twenty_points_are_noted(sweep_file):
    (note,) = load(sweep_file(over={"seed": [*range(21)]}), "sweep").notes
    assert note.endswith("sweep.yaml:2: over: 21 points are walked, a training each")
