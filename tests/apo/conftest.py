"""Recipes of preference training on a tiny model."""

import pytest
from apo_helpers import PAIRS, varied_pairs
from helpers import TRAINING


@pytest.fixture
def packed_recipe(write_rows, write_recipe, tiny_model, tmp_path):
    """A recipe of varied pairs and the members' folder; keyword arguments override its keys."""

    def make(name="run", pairs=24, **changes):
        rows = write_rows(f"{name}.jsonl", varied_pairs(0, pairs))
        values = TRAINING | {
            "model_name_or_path": str(tiny_model),
            "output_dir": str(tmp_path / name / "apo"),
            "dataset_mixture": {"datasets": [{"id": str(rows)}], "seed": 0},
            "loss_type": "apo_zero",
            "beta": 0.1,
            "precompute_ref_log_probs": True,
            "learning_rate": 1.0e-4,
            "max_steps": 20,
            "max_length": 128,
            "save_strategy": "no",
        }
        return write_recipe(f"{name}.yaml", values | changes), tmp_path / name / "apo"

    return make


@pytest.fixture
def apo_recipe(write_rows, write_recipe, tiny_model, tmp_path):
    """A recipe of two members and a held-out share, and the members' folder."""

    def make(**changes):
        rows = write_rows("pairs.jsonl", PAIRS)
        values = TRAINING | {
            "model_name_or_path": str(tiny_model),
            "output_dir": str(tmp_path / "run" / "apo"),
            "dataset_mixture": {"datasets": [{"id": str(rows)}], "seed": 0, "test_split_size": 0.2},
            "loss_type": "apo_zero",
            "beta": 0.1,
            "precompute_ref_log_probs": True,
            "learning_rate": 1.0e-3,
            "max_steps": 4,
            "members": [{"seed": 1}, {"seed": 2, "beta": 0.2}],
        }
        return write_recipe("apo.yaml", values | changes), tmp_path / "run" / "apo"

    return make
