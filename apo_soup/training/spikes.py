"""A step whose loss or gradient is far above those before it: told with its rows, and stopped at where a recipe asks.

It is looked at before the weights are touched, so a run that is stopped there goes on from the step before.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerState

from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.progress import warn
from apo_soup.training.far_off import WINDOW, is_far_off
from apo_soup.training.trainer import StageTrainer


class Spikes(TrainerCallback):
    """Tells of steps that are far off, on all ranks at the same step.

    Args:
        factor: the recipe's `spike_factor`.
        name: the stage's.
        rows_told: where rows are, by their numbers among the kept ones.
    """

    def __init__(
        self,
        trainer: StageTrainer,
        recipe: TrainingFile,
        factor: float,
        name: str,
        rows_told: Callable[[Sequence[int]], str],
    ) -> None:
        self.trainer, self.factor, self.name, self.rows_told = trainer, factor, name, rows_told
        self.stops = recipe.on_spike == "stop"
        self.epoch_begins = False

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """What is drawn between here and the first step is drawn again by a run that goes on from here."""
        self.epoch_begins = True
        if self.stops:
            self.trainer.remember_random()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Note what a checkpoint of the step before would hold, and the losses until now."""
        self.losses = self.trainer.loss_window[0].clone()
        if self.stops:
            self.trainer.remember_counts()
            if not self.epoch_begins:
                self.trainer.remember_random()
        self.epoch_begins = False

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Look at the step's loss and the norm of its gradient.

        Raises:
            UserError: one is far off, and the recipe says `on_spike: stop`.
        """
        values = {"loss": self._loss(), "gradient norm": self.trainer.gradient_norm}
        told = []
        for name, value in values.items():
            before = self.trainer.recent.setdefault(name, deque(maxlen=WINDOW))
            if value is None or not math.isfinite(value):  # `Watch` looks at these, and fp16 skips their steps
                continue
            if is_far_off(value, before, self.factor):
                told.append(
                    f"{name} {value:.4g}, where the median of the last {len(before)} steps is {median(before):.4g}"
                )
            before.append(value)
        if told:
            self._tell(state.global_step + 1, " and ".join(told))

    def _loss(self) -> float:
        """This step's, the mean of all ranks'."""
        loss = self.trainer.loss_window[0] - self.losses
        if PartialState().num_processes > 1:
            torch.distributed.all_reduce(loss)
        mean: float = loss.item() / PartialState().num_processes
        return mean

    def _tell(self, step: int, what: str) -> None:
        rows = self.rows_told(gather_object(list(self.trainer.rows_of_step)))
        if not self.stops:
            warn(f"{self.name}: step {step} is far off: a {what}; its rows are {rows}")
            return
        kept = self.trainer.write_step_before()
        raise UserError(
            f"{self.name}: step {step}: expected a step like those before it, got a {what}; look at its rows, {rows}, "
            f"or lower learning_rate; {kept}, from which the same command with `--on_spike say` goes on"
        )
