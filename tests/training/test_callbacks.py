"""Losses that are not finite end a training before their step; so do loss scalers that skip all of them."""

import math

import pytest
import torch
from transformers import TrainingArguments

from apo_soup.errors import UserError
from apo_soup.training.callbacks import LookAtSteps
from apo_soup.training.run import require_a_step
from apo_soup.training.trainer import StageTrainer


class Weight(torch.nn.Module):
    """A weight that is the gradient of nothing but itself: its loss is w x, or has what the row adds to it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, x, added):
        """The mean loss of rows `[B]`."""
        return {"loss": (self.weight * x + added).mean()}


@pytest.fixture
def trainer(tmp_path):
    """Makes a trainer of a row a step; its stage is `sft`."""

    def make(rows, scale=None, **keys):
        folder, one = str(tmp_path), {"per_device_train_batch_size": 1, "num_train_epochs": 1, "max_grad_norm": 0}
        arguments = TrainingArguments(
            folder, use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no", **(one | keys)
        )
        rows = [{"x": torch.tensor(x), "added": torch.tensor(added)} for x, added in rows]
        made = Trained(model=Weight(), args=arguments, train_dataset=rows)
        if scale:
            made.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        made.count_from(None)
        made.add_callback(LookAtSteps(made, "sft", lambda rows: "rows.jsonl:3"))
        return made

    return make


class Trained(StageTrainer):
    """With what TRL's trainers count."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self._metrics = {"train": {}}

    def rows_in(self, batch):
        """None: these are not prepared ones."""
        return []

    def get_train_dataloader(self):
        """In the order of the rows."""
        return self.accelerator.prepare(torch.utils.data.DataLoader(self.train_dataset, batch_size=1))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run_before_its_step(trainer, value):
    """Its gradient is finite: what a row adds has none."""
    broken = trainer([(0.5, 0.0)] * 4 + [(0.5, value)] + [(0.5, 0.0)] * 4, logging_nan_inf_filter=False)
    with pytest.raises(UserError) as raised:
        broken.train()
    assert str(raised.value) == (
        f"sft: expected a finite loss, got {value} at step 5; look at its rows, rows.jsonl:3, or lower learning_rate"
    )
    assert broken.state.global_step == 4
    trainer([(0.5, value)] * 2, logging_nan_inf_filter=True).train()


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adamw_torch", "sgd"])
def test_a_stage_whose_every_step_was_skipped_is_refused(trainer, optim, capsys):
    huge = 3e38  # the largest number of float32 is 3.4e38; a scale is halved at each skipped step
    skipping = trainer([(1e3, 0.0)] * 3, scale=huge, optim=optim)
    skipping.train()
    assert (skipping.skipped, skipping.trained_model.weight.item()) == (3, 1.0)
    assert skipping.counts()["skipped"] == 3
    with pytest.raises(UserError) as raised:
        require_a_step(skipping, "sft")
    assert str(raised.value) == (
        "sft: expected at least one step that changes the weights, got 3, all of them skipped by the loss scaler of "
        "fp16, whose gradients were not finite; write bf16: true in place of fp16: true, or train for more steps, "
        "before which the scale falls"
    )
    some = trainer([(3.0, 0.0)] * 5, scale=huge, optim=optim)
    some.train()
    assert some.skipped == 2
    assert some.trained_model.weight.item() < 1
    require_a_step(some, "sft")
    assert "sft: 2 of 5 steps were skipped by the loss scaler of fp16" in capsys.readouterr().out
    plain = trainer([(3.0, 0.0)] * 5, optim=optim)
    plain.train()
    assert plain.skipped == 0
    require_a_step(plain, "sft")
    assert "skipped" not in capsys.readouterr().out
