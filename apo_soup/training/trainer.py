"""What both training stages add to TRL's trainers."""

import json
import shutil
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel, Trainer
from transformers.trainer_utils import rotate_checkpoints

from apo_soup.errors import UserError, told_by_disk
from apo_soup.models.quantised import keep_one_arithmetic
from apo_soup.models.shared_rows import sharing_of
from apo_soup.private import TrainerHooks
from apo_soup.runs.ranks import ended_together
from apo_soup.training.checkpoints import COUNTED, checkpoint_fault, counted_until, holds_optimizer, put_into_place
from apo_soup.training.far_off import WINDOW
from apo_soup.training.finite import require_finite
from apo_soup.training.step_order import GlobalOrder, RowNumbers, StepOrder, StockOrder, stock_loaders
from apo_soup.training.step_rows import taken_from


@dataclass(frozen=True)
class StepBefore:
    """What had been counted when a step began: the stage's own counts, and the Trainer's that it adds to in a step."""

    step: int
    counts: dict[str, Any]
    flos: Any
    tokens_seen: Any


class StageTrainer(TrainerHooks, Trainer):
    """Checkpoints that are absent or whole, counts that go on after a kill, tied weights that are written once."""

    def __init__(self, *args: Any, global_batch: int | None = None, sharing_size: int = 1, **kwargs: Any):
        """`global_batch` are the rows of an optimiser step on all ranks, where the recipe gives them; `sharing_size`
        are the processes that share each row.
        """
        self.global_batch, self.sharing_size = global_batch, sharing_size
        super().__init__(*args, **kwargs)
        self.sharing = sharing_of(sharing_size, self.args.ddp_timeout_delta)
        keep_one_arithmetic(self.trained_model)

    @property
    def trained_model(self) -> PreTrainedModel:
        """The model that is trained, as transformers or PEFT made it."""
        return cast(PreTrainedModel, self.model)

    @property
    def row_ranks(self) -> int:
        """How many ranks take rows of their own; those that share rows are one."""
        processes: int = self.accelerator.num_processes
        return processes // self.sharing_size

    @property
    def row_rank(self) -> int:
        """Which of them this process is, or is one of."""
        process: int = self.accelerator.process_index
        return process // self.sharing_size

    def get_cp_size(self) -> int:
        """As transformers, which divides what all processes count by those that have the same rows."""
        size: int = super().get_cp_size()
        return size * self.sharing_size

    @property
    def folder(self) -> Path:
        """Where checkpoints are written: the stage's partial folder."""
        return Path(cast(str, self.args.output_dir))

    def step_order(self, rows: int) -> StepOrder:
        """Which of so many rows a step takes: the stock trainer's, or those of the global batch."""
        numbers, args, ranks = RowNumbers(rows), self.args, self.row_ranks
        drop, order = args.dataloader_drop_last, self.train_order(numbers)
        if self.global_batch is None:
            loaders = stock_loaders(numbers, order, args.train_batch_size, drop, self.accelerator, ranks)
            return StockOrder(loaders, args.gradient_accumulation_steps)
        (loader,) = stock_loaders(numbers, order, self.global_batch, drop, self.accelerator, 1)
        return GlobalOrder(loader, rows, self.global_batch, args.train_batch_size, ranks, drop)

    def count_from(self, checkpoint: Path | None) -> None:
        """Go on with the counts of a checkpoint, or begin them.

        Raises:
            OtherFormError: the checkpoint's file of counts is cut, empty or of another form.
        """
        counted: dict[str, Any] = counted_until(checkpoint) if checkpoint else {"tokens": 0, "seconds": 0.0}
        self._before: StepBefore | None = None
        self._random: tuple[torch.Tensor, ...] | None = None
        # The kept rows of the running step's documents on this rank; none while they are loaded.
        self.rows_of_step: Sequence[int] = ()
        self.gradient_norm: float | None = None
        # Of the log, the entries until the end of the training; None before it.
        self._logged: int | None = None
        # Whether a signal ended the training before its time.
        self.stopped = False
        self.token_count = counted["tokens"]
        # Steps that left the weights as they were, as the loss scaler of fp16 has it.
        self.skipped: int = counted.get("skipped") or 0
        self.begun = time.monotonic() - counted["seconds"]
        self.counted_window: dict[str, Any] | None = counted.get("window")
        # Values of the last steps, by name, which those to come are held to.
        self.recent = {name: deque(values, WINDOW) for name, values in (counted.get("recent") or {}).items()}

    def tokens_trained(self) -> float:
        """Tokens of all ranks, from the first step of the run; called by all ranks."""
        return self.token_count

    def window_state(self) -> dict[str, Any]:
        """What is not logged yet, of all ranks, which all call it: losses and other values since the last log."""
        loss, total, logged = self.loss_window
        losses = self.accelerator.gather(loss.detach().reshape(1)).tolist()
        values = {name: list(of_name) for name, of_name in self.logged_values.items()}
        return {"losses": losses, "total": total, "logged": logged, "values": values}

    def restore_window(self) -> None:
        """Go on with what was not logged at the checkpoint; called when the Trainer has begun its own counts."""
        window = self.counted_window
        if window is None:
            return
        loss, losses = self.loss_window[0], window["losses"]
        if len(losses) != self.accelerator.num_processes:  # what is logged is their mean
            losses = [sum(losses) / len(losses)] * self.accelerator.num_processes
        own = torch.tensor(losses[self.accelerator.process_index], dtype=loss.dtype, device=loss.device)
        self.loss_window = own, window["total"], window["logged"]
        for name, values in window["values"].items():
            self.logged_values[name] = list(values)
        self.trained_model.train()  # TRL logs them as those of a training, which no step may have begun yet

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """As transformers; nothing where all steps are done, which it does not look for before it takes one more."""
        self.rows_of_step = ()
        if self.state.global_step >= self.state.max_steps:
            return [], None
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.rows_of_step = [row for batch in batches for row in self.rows_in(batch)]
        return batches, items

    def load_best(self) -> None:
        """As transformers, from a checkpoint that is as it was written; called by all ranks.

        Raises:
            UserError: on all ranks, where it is not.
        """
        checkpoint = Path(cast(str, self.state.best_model_checkpoint))
        faults = [checkpoint_fault(checkpoint) if self.args.should_save else None]
        broadcast_object_list(faults)
        if faults[0]:
            raise UserError(
                f"{checkpoint}: expected the best checkpoint as it was written, got one where {faults[0]}; the same "
                "command goes on without it, and says with which"
            )
        super().load_best()

    def end_training(self, *args: Any) -> Any:
        """As transformers. Where a signal stopped it, weights and checkpoint of its last step stay as they are."""
        self.remember_counts()  # adds up the losses once more and logs them: a checkpoint behind it has neither twice
        self._logged = len(self.state.log_history)
        loss, *of_run = self.loss_window
        # transformers would take the main process's own losses of the steps since the last log for those of all.
        self.loss_window = self.accelerator.gather(loss.detach().reshape(1)).mean().to(loss.dtype), *of_run
        if not self.stopped:
            return super().end_training(*args)
        limit, best = self.args.save_total_limit, self.args.load_best_model_at_end
        self.args.save_total_limit, self.args.load_best_model_at_end = None, False
        try:
            return super().end_training(*args)
        finally:
            self.args.save_total_limit, self.args.load_best_model_at_end = limit, best

    @contextmanager
    def off_the_clock(self) -> Iterator[None]:
        """What happens inside does not count as time of training."""
        since = time.monotonic()
        try:
            yield
        finally:
            self.begun += time.monotonic() - since

    def log_beside(self, values: dict[str, Any]) -> None:
        """Log values of this step by themselves: what TRL has collected of training stays for its own log."""
        Trainer.log(self, values)

    def norm_taken(self, norm: float | None) -> None:
        """Keep the norm of the running step's gradient."""
        self.gradient_norm = norm

    def rows_in(self, batch: Any) -> list[int]:
        """The kept rows of a batch's documents, which it brought along and does no more."""
        return taken_from(batch)

    def counts(self) -> dict[str, Any]:
        """What a checkpoint keeps of the run until now, beside what the Trainer keeps; called by all ranks."""
        seconds = round(time.monotonic() - self.begun, 2)
        recent = {name: list(values) for name, values in self.recent.items()}
        counted = {"tokens": self.tokens_trained(), "seconds": seconds, "skipped": self.skipped}
        return counted | {"window": self.window_state(), "recent": recent}

    def remember_counts(self) -> None:
        """Keep the counts as they are before a step."""
        self._before = StepBefore(
            self.state.global_step, self.counts(), self.current_flos, self.state.num_input_tokens_seen
        )

    def remember_random(self) -> None:
        """Keep what random numbers are drawn from, as a checkpoint that is written here would."""
        self._random = random_state()

    def write_step_before(self) -> str:
        """Write a checkpoint of what the running step began with, before its weights are touched; called by all ranks.

        Returns:
            What is kept, in words.

        Raises:
            UserError: a weight is not finite, or the disk refuses it.
        """
        step = self.state.global_step
        kept = f"a checkpoint of step {step} is kept"
        if not step or holds_optimizer(self.folder / f"checkpoint-{step}"):
            return kept if step else "nothing was trained before it"
        if self.is_deepspeed_enabled or self._before is None or self._random is None:
            return "the last checkpoint is kept"  # DeepSpeed has taken the step
        self.current_flos = self._before.flos
        self.state.num_input_tokens_seen = self._before.tokens_seen
        set_random_state(self._random)
        self.keep_step()
        return kept

    def keep_step(self) -> None:
        """Have a checkpoint of the last step that the same command goes on from, whatever `save_only_model` says, for a
        training that ends here; called by all ranks.

        Raises:
            UserError: a weight is not finite, or the disk refuses it.
        """
        self.args.save_only_model = False
        held = [holds_optimizer(self.folder / f"checkpoint-{self.state.global_step}")]
        broadcast_object_list(held)
        if held[0]:
            return
        if self._logged is not None:
            del self.state.log_history[self._logged :]
        self.write_checkpoint(self.model, None)

    def write_checkpoint(self, *args: Any) -> None:
        """As transformers, into a hidden sibling, with what was counted until now, or until the step that is not taken.
        When it is whole and the disk keeps it, it gets its name, and older ones go.

        Raises:
            UserError: a weight is not finite, or the disk refuses it.
        """
        step, folder = self.state.global_step, self.folder
        require_finite(self.trained_model, f"step {step}")
        counted = self._before.counts if self._before and self._before.step == step else self.counts()
        hidden = folder / f".checkpoint-{step}"
        written = hidden / f"checkpoint-{step}"
        with ended_together(f"{hidden} is written"), told_by_disk("checkpoint", hidden):
            if self.args.should_save:
                shutil.rmtree(hidden, ignore_errors=True)
            self.accelerator.wait_for_everyone()
            self.args.output_dir = str(hidden)
            try:
                super().write_checkpoint(*args)
            finally:
                self.args.output_dir = str(folder)
            self._name_best(folder)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                self.state.save_to_json(str(written / "trainer_state.json"))
                (written / COUNTED).write_text(json.dumps(counted), encoding="utf-8")
                put_into_place(written, folder / written.name)
                shutil.rmtree(hidden)  # TRL leaves a card there
                rotate_checkpoints(
                    str(folder), self.args.save_total_limit, best_model_checkpoint=self.state.best_model_checkpoint
                )
            self.accelerator.wait_for_everyone()

    def _name_best(self, folder: Path) -> None:
        """Name the best checkpoint by where it comes to lie, not by where it is written."""
        if self.state.best_global_step and self.args.save_strategy != "no":
            best = folder / f"checkpoint-{self.state.best_global_step}"
            if best.is_dir() or self.state.best_global_step == self.state.global_step:
                self.state.best_model_checkpoint = str(best)

    def write_weights(self, folder: str | None, state_dict: dict[str, torch.Tensor] | None) -> None:
        """As transformers, without the second copy of tied weights: the state dict that FSDP and DeepSpeed gather holds
        them twice, in tensors of any shape that no longer show it.
        """
        if state_dict is not None:
            tied = getattr(self.accelerator.unwrap_model(self.model), "all_tied_weights_keys", {})
            state_dict = {name: tensor for name, tensor in state_dict.items() if name not in tied}
        super().write_weights(folder, state_dict)


def random_state() -> tuple[torch.Tensor, ...]:
    """What torch draws from in a step, bytes `[N]` each: on the CPU and on this process's accelerator, where there is
    one.
    """
    return tuple(device.get_rng_state() for device in _generators())


def set_random_state(state: tuple[torch.Tensor, ...]) -> None:
    """Go back to what `random_state` returned, bytes `[N]` each."""
    for device, of_device in zip(_generators(), state, strict=True):
        device.set_rng_state(of_device)


def _generators() -> list[Any]:
    return [torch.random, *([torch.get_device_module()] if torch.accelerator.is_available() else [])]
