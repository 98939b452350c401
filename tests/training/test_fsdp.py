"""FSDP2 on two CPU processes: weights of both stages, the sharded reference, a kill and a resume."""

import json

import pytest
import torch
from helpers import ROOT, TRAINING, chat, preference, state_dict
from programs import kill_at, run_ok, succeeded, two_ranks

SHARDED = ROOT / "tests" / "fsdp_on_cpu.py"
OPTIONS = TRAINING | {"learning_rate": 1.0e-4, "max_steps": 6, "gradient_accumulation_steps": 2,
                      "num_train_epochs": 10, "save_strategy": "no", "max_length": 128}  # fmt: skip


@pytest.fixture
def recipe(write_rows, write_recipe, tiny_model, tmp_path):
    """A recipe file of one stage whose output lies in a folder of this name; returns both."""

    def make(stage, name, rows, **changes):
        output = tmp_path / name / stage
        values = OPTIONS | {
            "model_name_or_path": str(tiny_model),
            "output_dir": str(output),
            "dataset_mixture": {"datasets": [{"id": str(write_rows(f"{name}.jsonl", rows))}], "seed": 0},
        }
        return write_recipe(f"{name}.yaml", values | changes), output

    return make


def pairs():
    """Pairs of very different lengths, so that ranks have rows of different numbers of positions."""
    return [
        preference(f"How far is {n}? " * (n % 3 + 1), "It is far. " * (n % 5 + 1), f"No {n} " * (n % 7 + 1))
        for n in range(24)
    ]


def assert_equal_weights(ours, expected):
    """Two ranks sum in another order: weights to 1e-5, and the same tensors, none of them written twice."""
    assert ours.keys() == expected.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=1e-5)


def test_supervised_steps_of_sharded_ranks_equal_those_of_one_process(recipe):
    rows = [chat(f"What is {n} plus {n}?", f"It is {2 * n}. " * (n % 4 + 1), False) for n in range(40)]
    options = {"packing": True, "assistant_only_loss": True, "max_length": 64}
    path, ours = recipe("sft", "sharded", rows, **options)
    succeeded(two_ranks(SHARDED, "sft", "--config", path).wait())
    path, plain = recipe("sft", "plain", rows, **options, per_device_train_batch_size=4)
    run_ok("-m", "sft", "--config", path)
    assert_equal_weights(state_dict(ours), state_dict(plain))


def test_rows_of_new_tokens_in_sharded_weights(recipe):
    """A resized model trains as in one process; an adapter would have to train rows of a sharded matrix."""
    rows = [chat(f"What is {n} plus {n}?", f"<a>{2 * n}</a>", False) for n in range(40)]
    options = {"assistant_only_loss": True, "add_tokens": ["<a>", "</a>"], "resize_embeddings": True, "max_steps": 3}
    path, ours = recipe("sft", "sharded", rows, **options)
    succeeded(two_ranks(SHARDED, "sft", "--config", path).wait())
    path, plain = recipe("sft", "plain", rows, **options, per_device_train_batch_size=4)
    run_ok("-m", "sft", "--config", path)
    assert_equal_weights(state_dict(ours), state_dict(plain))
    assert state_dict(ours)["model.embed_tokens.weight"].shape == (1026, 32)

    path, _ = recipe("sft", "adapter", rows, **options, use_peft=True, lora_target_modules=["q_proj", "v_proj"])
    refused = two_ranks(SHARDED, "sft", "--config", path).wait()
    assert refused.returncode != 0
    assert "use_peft: expected weights that are whole on every process, for an adapter trains rows" in refused.stderr


def test_preference_steps_of_sharded_ranks_equal_the_stock_trainers_and_survive_a_kill(recipe):
    """The reference is scored by TRL's sharded copy; a killed run ends with the bytes of one that was not."""
    options = {"loss_type": "apo_zero", "beta": 0.1, "max_steps": 12}
    saving = {"save_strategy": "steps", "save_steps": 2}
    path, ours = recipe("apo", "sharded", pairs(), **options, **saving)
    succeeded(two_ranks(SHARDED, "apo", "--config", path).wait())
    path, stock = recipe("apo", "stock", pairs(), **options, per_device_train_batch_size=4, packed_pairs=False)
    run_ok("-m", "apo", "--config", path)
    assert_equal_weights(state_dict(ours / "1"), state_dict(stock / "1"))
    manifest = json.loads((ours / "1" / "manifest.json").read_text())
    assert manifest["processes"] == 2
    assert manifest["metrics"]["reference_passes"] > 0

    path, killed = recipe("apo", "killed", pairs(), **options, **saving)
    kill_at(two_ranks(SHARDED, "apo", "--config", path), killed / ".1.partial" / "checkpoint-2" / "whole")
    assert not (killed / "1").exists()
    refused = two_ranks("-m", "apo", "--config", path).wait()
    assert refused.returncode == 2
    assert (
        "expected a launch with FSDP, as the one that wrote it, got one with no sharding; launch it" in refused.stderr
    )
    assert refused.stderr.count("error: ") == 1
    assert "going on from step" in succeeded(two_ranks(SHARDED, "apo", "--config", path).wait())
    expected = state_dict(ours / "1")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in state_dict(killed / "1").items())
