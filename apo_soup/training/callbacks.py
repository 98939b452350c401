"""What watches a training: progress for people, a stop before a broken step, a stop when a signal asks for one."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from apo_soup.errors import UserError
from apo_soup.progress import bar, clock, is_quiet, rate_text, say, warn
from apo_soup.stops import STOPS
from apo_soup.training.finite import all_finite, require_finite
from apo_soup.training.trainer import StageTrainer

# Nats a token by which chosen answers may fall below the reference before a person is told.
COLLAPSE = -0.3


class Watch(TrainerCallback):
    """Progress for people, and a stop before a broken step reaches the optimiser."""

    def __init__(self, name: str, nats_a_reward: float | None = None):
        """`name` is the stage's. `nats_a_reward` is beta times the mean number of tokens of a chosen answer, where
        preferences are trained: a reward divided by it is a log-ratio a token.
        """
        self.name = name
        self.nats_a_reward = nats_a_reward
        self.started = 0.0
        self.first_step = 0
        self.last_line = 0.0
        self.warned = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock, and say where a run goes on."""
        self.started, self.first_step = time.monotonic(), state.global_step
        if state.global_step:
            say(f"{self.name}: going on from step {state.global_step} of {state.max_steps}")

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: Any, model: Any = None, **_: Any) -> None:
        """Stop a run whose gradient is not finite, before the weights are touched.

        Raises:
            UserError: it is not.
        """
        # With fp16 the loss scaler meets infinite gradients on purpose and skips their step.
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if args.fp16 or not gradients:
            return
        if not all_finite(gradients):
            require_finite(model, f"{self.name}: step {state.global_step}", trained=state.global_step > 0)
            raise UserError(
                f"{self.name}: expected a finite gradient, got one that is not at step {state.global_step + 1}; lower "
                "learning_rate, or look at the rows of this step and at the weights it began with"
            )

    def on_log(
        self, args: Any, state: TrainerState, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Print a line of progress: always at the end, on a terminal at every log, elsewhere every five seconds."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        done, now = state.global_step - self.first_step, time.monotonic()
        left = (state.max_steps - state.global_step) * (now - self.started) / max(1, done)
        parts = [f"loss {logs['loss']:.4f}", f"lr {logs.get('learning_rate', math.nan):.1e}"]
        self._warn_of_collapse(logs)
        if "rewards/accuracies" in logs:
            parts += [f"accuracy {logs['rewards/accuracies']:.2f}", f"margin {logs['rewards/margins']:.3f}"]
        rate = rate_text(done / max(1e-9, now - self.started), "steps")
        line = f"step {state.global_step}/{state.max_steps}  {'  '.join(parts)}  {rate}  {clock(left)} left"
        if is_quiet():
            return
        if sys.stdout.isatty():
            line = f"{self.name}: {bar(state.global_step, state.max_steps)}{line}"
            print(f"\r\x1b[K{line}", end="\n" if state.global_step == state.max_steps else "", flush=True)
        elif now - self.last_line > 5 or state.global_step == state.max_steps:
            self.last_line = now
            print(f"{self.name}: {line}", flush=True)

    def _warn_of_collapse(self, logs: dict[str, float]) -> None:
        """Say once that chosen answers fall below the reference too: both sides go down, the rejected one faster."""
        fall = logs.get("logratios_per_token/chosen")
        if fall is None:  # the stock trainer tells the reward alone: beta times the sum over an answer's tokens
            fall = logs.get("rewards/chosen", 0.0) / self.nats_a_reward if self.nats_a_reward else 0.0
        if fall < COLLAPSE and not self.warned:
            self.warned = True
            warn(
                f"chosen answers have become less likely than under the reference, by {-fall:.2f} nats a "
                "token; lower learning_rate, raise beta, or look whether they differ in kind from the model's own"
            )


class LookAtSteps(TrainerCallback):
    """Stops before a step whose loss is not finite, which a finite gradient can have, and with fp16 has without a word;
    counts the steps that its loss scaler skips.

    Args:
        name: the stage's.
        rows_told: where rows are, by their numbers among the kept ones.
    """

    def __init__(self, trainer: StageTrainer, name: str, rows_told: Callable[[Sequence[int]], str]):
        self.trainer, self.name, self.rows_told = trainer, name, rows_told

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Look at the losses since the last log, of which all but this step's were looked at.

        Raises:
            UserError: on all ranks, where one of any rank is not finite.
        """
        losses = self.trainer.loss_window[0].detach().clone()
        if PartialState().num_processes > 1:
            torch.distributed.all_reduce(losses)
        if not math.isfinite(losses.item()):
            rows = self.rows_told(gather_object(list(self.trainer.rows_of_step)))
            raise UserError(
                f"{self.name}: expected a finite loss, got {losses.item()} at step {state.global_step + 1}; look at "
                f"its rows, {rows}, or lower learning_rate"
            )

        self.scale = self._scale()

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Count it where the weights were left as they are. A fused optimiser skips a step itself, which accelerate
        does not see; the scale falls, until it is 0.
        """
        fell = self._scale() < self.scale or self.scale == 0
        self.trainer.skipped += fell or self.trainer.accelerator.optimizer_step_was_skipped

    def _scale(self) -> float:
        """What losses are multiplied with; 1 where they are not, or by DeepSpeed."""
        scaler = self.trainer.accelerator.scaler
        return 1.0 if scaler is None else scaler.get_scale()


class RestoreCounts(TrainerCallback):
    """Lets losses and metrics that were not logged at a checkpoint be logged by the run that goes on from it."""

    def __init__(self, trainer: StageTrainer, name: str):
        self.trainer, self.name = trainer, name

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The Trainer has just set its own counts to nothing. Where the best checkpoint is gone, the best of those to
        come is looked for: its metric would have all of them be worse.
        """
        if state.global_step:
            self.trainer.restore_window()
        if state.best_global_step is not None and state.best_model_checkpoint is None:
            metric = args.metric_for_best_model or "by eval_suite"
            warn(
                f"{self.name}: checkpoint-{state.best_global_step}, the best until now ({metric} "
                f"{state.best_metric:.4g}), is gone; the best of those to come is looked for"
            )
            state.best_global_step = state.best_metric = None


class StopAtStep(TrainerCallback):
    """Ends a training that a signal asked to end, at the end of the running step and with a checkpoint of it."""

    def __init__(self, trainer: StageTrainer) -> None:
        self.trainer, self.number = trainer, 0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Ask all ranks, so that they stop at the same step whichever of them got the signal."""
        if self.asked():
            args.save_only_model = False
            control.should_save = control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """A signal that came while a checkpoint was written needs no further step.

        Raises:
            UserError: a weight is not finite, or the disk refuses it.
        """
        if self.asked():
            self.trainer.keep_step()
            control.should_training_stop = True

    def asked(self) -> bool:
        """Whether a signal asked any of the ranks, which all call this; its number is then known to all."""
        self.number = STOPS.number or 0
        if PartialState().num_processes > 1:
            numbers = torch.tensor(self.number, device=PartialState().device)
            torch.distributed.all_reduce(numbers, torch.distributed.ReduceOp.MAX)
            self.number = int(numbers.item())
        self.trainer.stopped = self.number > 0
        return self.trainer.stopped
