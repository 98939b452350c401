"""Rows that processes share by twos: losses, gradients and weights are those of one process, under DDP and FSDP2."""

import json

import pytest
import torch
from apo_helpers import DESCENT, assert_same_moves, train_members, varied_pairs
from helpers import ROOT, TRAINING, chat, state_dict
from programs import ranks, succeeded, two_ranks

IN_TURN = ROOT / "tests" / "stages_in_turn.py"
SHARDED = ROOT / "tests" / "fsdp_on_cpu.py"
OPTIONS = TRAINING | {"learning_rate": 1.0e-3, "max_steps": 5, "num_train_epochs": 10, "save_strategy": "no",
                      "logging_steps": 1, "max_length": 61, "per_device_train_batch_size": 2}  # fmt: skip
SPLIT = {"gradient_accumulation_steps": 2}
OF_KIND = {
    "sft": {"packing": True, "assistant_only_loss": True},
    "apo": {"loss_type": "apo_zero", "beta": 0.1},
}
# What a log tells of a step, by stage.
LOGGED = {
    "sft": ("loss", "grad_norm", "entropy", "mean_token_accuracy", "num_tokens"),
    "apo": ("loss", "grad_norm", "rewards/margins", "logps/chosen", "lengths/rejected", "num_tokens"),
}


@pytest.fixture
def recipe(write_rows, write_recipe, tiny_model, tmp_path):
    """The file of a stage, and the folder of its training."""

    def make(kind, name, held_out=None, **changes):
        rows = varied_pairs(3, 24) if kind == "apo" else [
            chat(f"What is {n} plus {n}?", f"It is {2 * n}. " * (n % 4 + 1), False) for n in range(30)
        ]  # fmt: skip
        output = tmp_path / name / kind
        mixture = {"datasets": [{"id": str(write_rows(f"{kind}.jsonl", rows))}], "seed": 0}
        mixture |= {"test_split_size": held_out} if held_out else {}
        values = OPTIONS | OF_KIND[kind] | {"model_name_or_path": str(tiny_model), "output_dir": str(output)}
        values |= {"dataset_mixture": mixture} | changes
        return write_recipe(f"{kind}_{name}.yaml", values), output / "1" if kind == "apo" else output

    return make


def train_here(kind, path):
    """Train a file in this process."""
    if kind == "apo":
        train_members(path)
        return
    from apo_soup.config.load import load
    from apo_soup.training.entry import training_stage
    from sft.train import train_model

    sft = load(path, "sft")
    train_model(sft, training_stage(sft))


def log_of(folder, key):
    """One figure of a log, in order."""
    log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [entry[key] for entry in log if key in entry and "train_runtime" not in entry]


def assert_same_log(kind, shared, alone, but=()):
    """What two trainings log of their steps."""
    for key in set(LOGGED[kind]) - set(but):
        assert log_of(shared, key) == pytest.approx(log_of(alone, key), rel=2e-4, abs=1e-5), key


def assert_same_training(kind, shared, alone):
    """What they log, and their weights."""
    assert_same_log(kind, shared, alone)
    assert len(log_of(shared, "loss")) > 1
    ours, expected = state_dict(shared), state_dict(alone)
    assert ours.keys() == expected.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, expected[name], atol=2e-5, rtol=1e-4)


def test_two_groups_of_two_processes_have_the_losses_and_the_gradient_of_one_process(recipe, tiny_model):
    """Under DDP, each group with rows of its own; in bfloat16 pairs begin at a margin of zero, for their reference is
    scored in the same parts.
    """
    options = SPLIT | DESCENT
    words, pairs = [], []
    for kind in OF_KIND:
        path, shared = recipe(kind, "shared", sequence_parallel_size=2, **options)
        words += [kind, path]
        path, alone = recipe(kind, "alone", **options | {"gradient_accumulation_steps": 4})
        train_here(kind, path)
        pairs.append((kind, shared, alone))
    path, low = recipe("apo", "low", sequence_parallel_size=2, bf16=True, **options)
    succeeded(ranks(4, IN_TURN, *words, "apo", path).wait())
    for kind, shared, alone in pairs:
        # TRL weighs it by tokens over processes, and not over the batches of a step.
        assert_same_log(kind, shared, alone, but=["mean_token_accuracy"])
        assert_same_moves(state_dict(shared), state_dict(alone), state_dict(tiny_model))
    assert log_of(low, "rewards/margins") == [0.0]


def test_sharded_processes_that_share_rows_end_in_the_weights_of_one_and_go_on_to_the_same_bytes(recipe):
    """Under FSDP2, with checkpoints of activations, a step of a global batch and held-out rows; a training that fell
    behind its third step goes on from its second to the bytes of one that did not.
    """
    saving = {"save_strategy": "steps", "save_steps": 2}
    options = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False},
               "global_batch_size": 4, "eval_strategy": "steps", "eval_steps": 5, "held_out": 5,
               "per_device_eval_batch_size": 1}  # fmt: skip
    words, again, folders = [], [], []
    for kind in OF_KIND:
        path, alone = recipe(kind, "alone", **options)
        train_here(kind, path)
        path, whole = recipe(kind, "whole", sequence_parallel_size=2, **options, **saving)
        words += [kind, path]
        path, fallen = recipe(kind, "fallen", sequence_parallel_size=2, **options, **saving)
        words += [kind, f"{path}@3"]
        again += [kind, path]
        folders.append((kind, alone, whole, fallen))
    succeeded(two_ranks(SHARDED, "stages_in_turn", *words).wait())
    assert succeeded(two_ranks(SHARDED, "stages_in_turn", *again).wait()).count("going on from step 2 of 5") == 2
    for kind, alone, whole, fallen in folders:
        assert_same_training(kind, whole, alone)
        assert log_of(whole, "eval_loss") == pytest.approx(log_of(alone, "eval_loss"), rel=1e-5)
        expected = state_dict(whole)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in state_dict(fallen).items())
