"""Keys of preference losses that nothing would read, or that TRL would refuse late."""

import re

import pytest

from apo_soup.config.load import load
from apo_soup.errors import UserError

FILE = {"model_name_or_path": "m", "output_dir": "o", "dataset_mixture": {"datasets": [{"id": "a.jsonl"}]}}
CASES = [
    ({"loss_type": "apo_zero", "label_smoothing": 0.1}, "label_smoothing: expected a loss that reads it (aot, aot_unp"),
    ({"loss_type": "exo_pair"}, "label_smoothing: expected a share between 0 and 1 for loss_type exo_pair, got 0.0"),
    ({"loss_type": "robust", "label_smoothing": 0.5}, "label_smoothing: expected less than 0.5 for loss_type robust"),
    ({"label_smoothing_factor": 0.1}, "label_smoothing_factor: expected no such key, since preference training has no"),
    (
        {"loss_type": "apo_zero", "f_divergence_type": "js_divergence"},
        "f_divergence_type: expected losses that have another divergence (discopop, exo_pair, hinge, ipo, robust, sft, "
        "sigmoid, sigmoid_norm), got js_divergence with loss_type apo_zero; leave one of them out",
    ),
    (
        {"f_alpha_divergence_coef": 0.3},
        "f_alpha_divergence_coef: expected f_divergence_type: alpha_divergence beside it",
    ),
    (
        {"ref_model_sync_steps": 5},
        "ref_model_sync_steps: expected sync_ref_model: true beside it, without which nothing",
    ),
    ({"ref_model_mixup_alpha": 0.5}, "ref_model_mixup_alpha: expected sync_ref_model: true beside it"),
    ({"discopop_tau": 0.1}, "discopop_tau: expected loss_type discopop, which alone reads it, got sigmoid; leave the"),
    (
        {"loss_type": "aot", "use_weighting": True},
        "use_weighting: expected losses of single pairs, got aot, which sorts",
    ),
    ({"loss_type": ["sigmoid", "sigmoid"]}, "loss_type.1: expected every loss once, got sigmoid again; list it once"),
    (
        {"loss_type": ["sft", "apo_zero"], "loss_weights": [1.0, -1]},
        "loss_weights.1: expected a number of 0 or more, g",
    ),
    ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]}, "loss_weights: expected a weight for each of 2 losses"),
    (
        {"sync_ref_model": True, "use_peft": True},
        "sync_ref_model: expected a reference that moves with the model, got use",
    ),
    (
        {"sync_ref_model": True, "precompute_ref_log_probs": True},
        "got precompute_ref_log_probs: true, which holds it fixed",
    ),
    ({"do_train": False}, "do_train: expected no such key, since a stage always trains, got false; leave the key out"),
]


@pytest.mark.parametrize(("keys", "told"), CASES)
def test_a_key_that_would_change_the_loss_and_cannot_is_refused(write_recipe, keys, told):
    with pytest.raises(UserError, match=re.escape(told)):
        load(write_recipe("apo.yaml", FILE | keys), "apo")


@pytest.mark.parametrize(
    "keys",
    [
        {"loss_type": "exo_pair", "label_smoothing": 0.001},
        {"loss_type": "robust", "label_smoothing": 0.1},
        {"loss_type": "robust"},
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.3},
        {"sync_ref_model": True, "ref_model_sync_steps": 5, "ref_model_mixup_alpha": 0.5},
        {"loss_type": "discopop", "discopop_tau": 0.1},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.1], "use_weighting": True},
        {"loss_type": "apo_zero", "f_divergence_type": "reverse_kl", "label_smoothing": 0},
        {
            "f_alpha_divergence_coef": 0.5,
            "ref_model_sync_steps": 512,
            "ref_model_mixup_alpha": 0.6,
            "discopop_tau": 0.05,
        },
    ],
)
def test_keys_that_count_are_taken(write_recipe, keys):
    assert load(write_recipe("apo.yaml", FILE | keys), "apo").kind == "apo"


def test_a_scale_that_holds_answers_to_the_reference_is_told(write_recipe):
    told = "beta: 50 is above 10, which holds answers to the reference; usual are 0.01 to 1"
    recipes = [load(write_recipe("apo.yaml", FILE | {"beta": beta}), "apo") for beta in (10, 50)]
    assert [[told in note for note in recipe.notes] for recipe in recipes] == [[], [True]]
