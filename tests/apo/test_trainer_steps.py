"""Steps on packed pairs against the stock trainer's, in float32 on CPU: losses, gradients, weights."""

import pytest
import torch
from apo_helpers import DESCENT, LORA_DESCENT, SETTINGS, assert_same_moves, logged, tiny_model_of, train_members
from helpers import state_dict

OTHER_LOSSES = ("hinge", "ipo", "nca_pair", "bco_pair", "sppo_hard", "discopop", "sigmoid_norm")


@pytest.mark.parametrize("name", SETTINGS)
def test_twenty_steps_equal_those_of_the_stock_trainer(packed_recipe, capsys, name):
    """The first loss to 1e-6, gradient norms to 1e-4 relative, weights after 20 steps to 1e-5."""
    path, folder = packed_recipe("packed", **SETTINGS[name])
    train_members(path)
    assert "stock trainer" not in capsys.readouterr().out
    path, stock = packed_recipe("stock", packed_pairs=False, **SETTINGS[name])
    train_members(path)
    assert "apo/1: pairs run on the stock trainer, because of packed_pairs: false" in capsys.readouterr().out
    assert logged(folder, "loss")[0] == pytest.approx(logged(stock, "loss")[0], abs=1e-6)
    assert logged(folder, "loss") == pytest.approx(logged(stock, "loss"), rel=1e-5)  # Adam has amplified rounding
    assert len(logged(folder, "loss")) == 20
    assert logged(folder, "grad_norm") == pytest.approx(logged(stock, "grad_norm"), rel=1e-4)
    for key in ("rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected"):
        assert logged(folder, key) == pytest.approx(logged(stock, key), rel=1e-4, abs=1e-5), key
    expected = state_dict(stock / "1")
    for tensor_name, tensor in state_dict(folder / "1").items():
        torch.testing.assert_close(tensor, expected[tensor_name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        *({"loss_type": loss, "gradient_accumulation_steps": 3} for loss in ("apo_zero", "apo_down", "sigmoid")),
        SETTINGS["checkpointing"],
        LORA_DESCENT,
    ],
    ids=["apo_zero", "apo_down", "sigmoid", "checkpointing", "lora"],
)
def test_every_gradient_is_the_stock_trainers(packed_recipe, tiny_model, changes):
    """Per tensor to 1e-4 relative."""
    ends = []
    for name, more in (("packed", {}), ("stock", {"packed_pairs": False})):
        path, folder = packed_recipe(name, **DESCENT | changes | more)
        train_members(path)
        ends.append(state_dict(folder / "1"))
    assert_same_moves(*ends, state_dict(tiny_model), moving="_proj.weight" if changes.get("use_peft") else "")


def test_log_probabilities_of_every_pair_are_the_stock_trainers(packed_recipe):
    """One pair a step and no learning, so that every log entry is one pair's: 24 pairs to 1e-5 relative."""
    options = {"per_device_train_batch_size": 1, "learning_rate": 1e-50, "max_steps": 24}
    path, folder = packed_recipe("packed", **options)
    train_members(path)
    path, stock = packed_recipe("stock", packed_pairs=False, **options)
    train_members(path)
    for key in ("logps/chosen", "logps/rejected"):
        assert len(set(logged(stock, key))) > 20
        assert logged(folder, key) == pytest.approx(logged(stock, key), rel=1e-5)


def test_losses_away_from_the_reference_are_the_stock_trainers(packed_recipe):
    """Where policy and reference differ, to 1e-6; plain descent, which does not amplify rounding as Adam does."""
    steps = DESCENT | {"learning_rate": 1.0, "max_steps": 8, "per_device_train_batch_size": 3, "num_train_epochs": 2}
    found = []
    for name, more in (("packed", {}), ("stock", {"packed_pairs": False})):
        path, folder = packed_recipe(name, **steps | more)
        train_members(path)
        found.append(logged(folder, "loss"))
    assert min(abs(loss - 1) for loss in found[1][1:]) > 1e-3, "no loss but the first is that of the reference"
    assert found[0] == pytest.approx(found[1], abs=1e-6)


@pytest.mark.parametrize(
    ("losses", "rate"), [(dict.fromkeys(OTHER_LOSSES, 1.0), 1e-4), ({"exo_pair": 0.7, "robust": 0.4}, 3e-3)]
)
def test_weighted_losses_away_from_the_reference_are_the_stock_trainers(packed_recipe, losses, rate, capsys):
    """Losses and weights of eight steps of plain descent. Each loss has a weight of its own, so none can stand for
    another.
    """
    weights = [round(weight / (1 + number), 3) for number, weight in enumerate(losses.values())]
    options = {"loss_type": list(losses), "loss_weights": weights, "label_smoothing": 0.1, "beta": 0.5}
    options = options if "robust" in losses else {**options, "label_smoothing": 0.0}
    steps = DESCENT | {"learning_rate": rate, "max_steps": 8, "per_device_train_batch_size": 3, "num_train_epochs": 2}
    found, ends = [], []
    for name, more in (("packed", {}), ("stock", {"packed_pairs": False})):
        path, folder = packed_recipe(name, **steps | options | more)
        train_members(path)
        assert ("stock trainer" in capsys.readouterr().out) == bool(more)
        found.append(logged(folder, "loss"))
        ends.append(state_dict(folder / "1"))
    assert len(set(found[1])) == 8
    assert found[0] == pytest.approx(found[1], rel=1e-5, abs=1e-5)
    for name, values in ends[0].items():
        torch.testing.assert_close(values, ends[1][name], atol=1e-5, rtol=1e-5)


def test_a_last_step_that_is_not_full_is_the_mean_over_its_pairs(packed_recipe):
    """7 pairs in steps of 4, in micro-batches of 2: the second step holds 3, as stock's does with batches of 4."""
    options = {"pairs": 7, "max_steps": 2, "max_grad_norm": 100.0}
    path, folder = packed_recipe("packed", per_device_train_batch_size=2, gradient_accumulation_steps=2, **options)
    train_members(path)
    path, stock = packed_recipe("stock", per_device_train_batch_size=4, packed_pairs=False, **options)
    train_members(path)
    assert logged(folder, "loss") == pytest.approx(logged(stock, "loss"), rel=1e-5)
    assert logged(folder, "grad_norm") == pytest.approx(logged(stock, "grad_norm"), rel=1e-4)


@pytest.fixture(scope="module")
def untied_model(tmp_path_factory, tokenizer):
    """A Llama with a head of its own."""
    folder = tmp_path_factory.mktemp("untied")
    model = tiny_model_of("llama", len(tokenizer))
    assert not model.config.tie_word_embeddings
    model.config.eos_token_id, model.config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


OTHERS = {
    "a head of its own": {},
    "reentrant checkpointing": {
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": True},
    },
    "a trained head beside an adapter": SETTINGS["lora"] | {"lora_modules_to_save": ["lm_head"], "learning_rate": 1e-4},
    "DoRA": SETTINGS["lora"] | {"use_dora": True},
}


@pytest.mark.parametrize("name", OTHERS)
def test_six_steps_of_other_set_ups_equal_those_of_the_stock_trainer(packed_recipe, untied_model, name):
    ends = []
    for run, more in (("packed", {}), ("stock", {"packed_pairs": False})):
        options = {"model_name_or_path": str(untied_model), "max_steps": 6} | OTHERS[name] | more
        path, folder = packed_recipe(run, **options)
        train_members(path)
        ends.append((logged(folder, "loss"), state_dict(folder / "1")))
    (ours, weights), (stock, expected) = ends
    assert ours == pytest.approx(stock, rel=1e-5)
    for tensor_name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[tensor_name], atol=1e-5, rtol=1e-5)
