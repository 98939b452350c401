"""Several processes, and a run that is killed and goes on."""

import pytest
import torch
from apo_helpers import DESCENT, assert_same_moves, facts, logged, train_members
from helpers import state_dict
from programs import succeeded, two_ranks


@pytest.mark.parametrize("changes", [{}, DESCENT], ids=["twenty steps", "one gradient"])
def test_two_processes_take_the_steps_of_one(packed_recipe, tiny_model, changes):
    """Two ranks of batch 2 against the stock trainer's one rank of batch 4: losses, weights, and every gradient."""
    options = {"gradient_accumulation_steps": 2, "num_train_epochs": 10} | changes
    path, folder = packed_recipe("two", per_device_train_batch_size=2, **options)
    succeeded(two_ranks("-m", "apo", "--config", path).wait())
    path, stock = packed_recipe("one", per_device_train_batch_size=4, packed_pairs=False, **options)
    train_members(path)
    assert logged(folder, "loss") == pytest.approx(logged(stock, "loss"), rel=1e-5)
    assert logged(folder, "rewards/margins") == pytest.approx(logged(stock, "rewards/margins"), rel=1e-3, abs=1e-5)
    ours, expected = state_dict(folder / "1"), state_dict(stock / "1")
    if changes:
        assert_same_moves(ours, expected, state_dict(tiny_model))
        return
    assert len(logged(folder, "loss")) == 20
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=1e-5)


def test_a_killed_member_goes_on_inside_an_epoch_to_the_same_bytes(packed_recipe, monkeypatch):
    """Stopped right after the save of step 3 of 8, in the second micro-batch of an epoch of four steps."""
    from apo.trainer import PackedDPOTrainer

    options = {"gradient_accumulation_steps": 3, "num_train_epochs": 2, "max_steps": -1, "save_strategy": "steps",
               "save_steps": 3, "logging_steps": 2}  # fmt: skip
    path, whole = packed_recipe("whole", **options)
    train_members(path)
    assert len(logged(whole, "loss")) == 4
    path, folder = packed_recipe("killed", **options)
    original = PackedDPOTrainer.training_step

    def dies(self, *args, **kwargs):
        if self.state.global_step == 4:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(PackedDPOTrainer, "training_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train_members(path)
    monkeypatch.undo()
    train_members(path)
    # The log of step 4 holds steps 3 and 4 of the whole run, and of the killed one what it did itself.
    assert logged(folder, "loss")[2:] == logged(whole, "loss")[2:]
    assert facts(folder)["tokens_seen"] == facts(whole)["tokens_seen"] > 0
    expected = state_dict(whole / "1")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in state_dict(folder / "1").items())
