"""What a point of a walk lays over its training file, and what is told of a training that fails."""

import pytest
from helpers import TRAINING

from apo_soup.cli.walked_point import PointTraining, yaml_word
from apo_soup.config.load import load
from apo_soup.config.swept_points import swept_points
from apo_soup.config.yaml_lines import read_value
from apo_soup.sweep.scores import PointFailed

VALUES = [1e-7, "1e-7", "a, b", [{"seed": 1}], None, "true", True, "x\ny", "[", "", {"a": 1e-9}]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_comes_through_the_command_line_as_it_is(value):
    assert read_value(yaml_word(value)) == value


def test_a_training_that_fails_tells_its_own_reason(write_recipe, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = {"datasets": [{"id": "absent.jsonl"}]}
    keys = {"model_name_or_path": str(tiny_model), "output_dir": "runs/r/sft", "dataset_mixture": rows}
    write_recipe("sft.yaml", TRAINING | keys)
    asked = {"stage": "sft", "output_dir": "runs/r/settings", "over": {"seed": [7]}}
    file = load(write_recipe("sweep.yaml", asked), "sweep")
    (point,) = swept_points(file)
    told = r"sweep\.yaml:5: over\.seed\.0: .*, got exit code 2 from that of seed=7 \(.*sft\.yaml:\d+: .*absent\.jsonl,"
    with pytest.raises(PointFailed, match=told):
        PointTraining(file, tmp_path / "eval.yaml", None).train(point, point.trainings[0])
