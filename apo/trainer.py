"""A DPOTrainer that packs pairs and computes each prompt once.

A step's pairs are those of the stock trainer, and so are its loss and gradient. What differs is how they are computed:

- a step's pairs are packed into rows on the ranks (`apo/steps.py`), where they share their prompts and nothing else
  (`apo/packed_pairs.py`, `apo/attention_mask.py`);
- only answer tokens pass through the LM head (`apo/scoring.py`);
- the reference's log-probabilities are computed once and stored (`apo/reference_pass.py`, `apo/reference.py`).

The losses themselves are in `apo/losses.py`. Where an epoch's pairs do not fill its last step, that step's loss is the
mean over its pairs too; the stock trainer takes the mean of its micro-batches' means.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import DistributedType
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel
from transformers.trainer_utils import EvalLoopOutput
from trl import DPOConfig

from apo.held_gradients import gradients_held
from apo.losses import LogRatios, LossOptions, weighted_loss
from apo.metrics import SUM_NAMES, LogWindow, mean_metrics, pair_sums, rates
from apo.packed_pairs import to_device
from apo.prepared_pairs import REFERENCE_COLUMNS, PackedRow, PreparedPairs
from apo.reference_pass import ReferencePass
from apo.scoring import add_scoring, answer_logprobs
from apo.steps import StepRows, StepSampler, rows_of_every_pair, single_item
from apo.stock_trainer import PreparedDPOTrainer
from apo.which_trainer import NotPackable
from apo_soup.config.shared_rows import heads_problem, unshared
from apo_soup.models.shared_rows import NotShared, RowSharing, share_attention
from apo_soup.private import attention_implementation, lets_attention_be_set, without_model_hash
from apo_soup.training.step_order import step_loader


class PackedDPOTrainer(PreparedDPOTrainer):
    """The stock trainer's steps on packed pairs.

    Made first, then `add_reference()`, then trained.

    Args:
        capacity: positions of a row.

    Attributes:
        window: what the next log will tell.
        reference_passes: forward passes of the reference on this rank; 0 where the store held all values.
    """

    def __init__(self, *args: Any, capacity: int, **kwargs: Any):
        self.capacity = capacity
        self.reference_passes = 0
        self.window = LogWindow()
        with without_model_hash():
            super().__init__(*args, **kwargs)
        self.pair_loss = weighted_loss(self.loss_types, self.loss_weights)
        self.loss_options = LossOptions(self.beta, self.label_smoothing, cast(DPOConfig, self.args).discopop_tau)

    def create_accelerator_and_postprocess(self) -> None:
        """As the stock trainer, with log-probabilities that leave FSDP2 as they were computed.

        Raises:
            NotPackable: accelerate's own file divides sequences or layers among processes.
        """
        super().create_accelerator_and_postprocess()
        if self.accelerator.parallelism_config is not None:
            raise NotPackable("parallelism_config")
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        policy = getattr(plugin, "mixed_precision_policy", None)
        # FSDP2 would cast what leaves the model to this type, and log-probabilities summed in bfloat16 are off by whole
        # nats. Hidden states between the layers have the type they are computed in anyway.
        if plugin is not None and getattr(policy, "output_dtype", None) is not None:
            plugin.mixed_precision_policy = replace(cast(Any, policy), output_dtype=None)

    def add_reference(self) -> None:
        """Give the pairs of all splits the reference's log-probabilities, from the store or computed now and stored.

        Raises:
            NotPackable: the model's packed log-probabilities are not those of its plain sequences.
            NotShared: processes cannot share the rows of the model.
        """
        if self.sharing is not None:
            self._share_attention(self.sharing)
        for wrapped in filter(None, (self.model, self.reference_model)):
            model: Any = self.accelerator.unwrap_model(wrapped)
            add_scoring(cast(PreTrainedModel, model.get_base_model() if isinstance(model, PeftModel) else model))
        self.reference = ReferencePass(
            self.trained_model, self._reference_runner(), self.accelerator, self.capacity, self.sharing
        )
        self.reference.check_packable(exact=self.accelerator.mixed_precision == "no" and not self.args.tf32)
        super().add_reference()
        self.reference_passes = self.reference.passes
        del self.reference  # and with it FSDP's copy of the model

    def _share_attention(self, sharing: RowSharing) -> None:
        """Let the model's attention take rows that processes share.

        Raises:
            NotShared: they cannot.
        """
        model: Any = self.accelerator.unwrap_model(self.model)
        model = model.get_base_model() if isinstance(model, PeftModel) else model
        heads, reason = heads_problem(model.config.get_text_config(), sharing.size), ""
        if not lets_attention_be_set(type(model)):
            reason = f"{type(model).__name__}, whose attention cannot be set"
        if self.is_deepspeed_enabled:
            reason = "DeepSpeed"
        why = unshared(reason) if reason else heads
        if why:
            raise NotShared(why)
        share_attention(model)

    def reference_added(self, dataset: Dataset, split: str) -> Dataset:
        """The rows with the reference's columns. In less than float32 what a pair scores depends on the row that it is
        in: the training pairs' reference is then taken on the rows of every epoch, so that each begins at a margin of
        zero.
        """
        pairs, store = PreparedPairs(dataset), self.keyed_store()
        if split == "train" and self.computes_low:
            epochs = self.epochs_of_rows(pairs)
            self._checkpoint_reference()
            values = self.reference.epoch_logprobs(pairs, epochs, store)
        else:
            values = self.reference.logprobs(pairs, split, store)
        for name, column in zip(REFERENCE_COLUMNS, values, strict=True):
            dataset = dataset.add_column(name, column.tolist())
        return dataset

    @property
    def computes_low(self) -> bool:
        """Whether log-probabilities are computed in less than float32."""
        lower = self.accelerator.mixed_precision != "no" or bool(self.args.tf32)
        return lower or self.trained_model.dtype != torch.float32

    def epochs_of_rows(self, pairs: PreparedPairs) -> list[list[list[list[int]]]]:
        """Every rank's rows of every epoch that is trained, in their order."""
        sampler = self.step_sampler(pairs)
        a_epoch = -(-len(sampler) // self.args.gradient_accumulation_steps)
        steps = self.args.max_steps if self.args.max_steps > 0 else math.ceil(self.args.num_train_epochs * a_epoch)
        return [sampler.epoch_rows(number, steps - number * a_epoch) for number in range(-(-steps // a_epoch))]

    def _checkpoint_reference(self) -> None:
        """Let what computes the reference checkpoint its activations as training will, where a recipe asks for that."""
        options = dict(cast(dict[str, Any], self.args.activation_checkpointing_kwargs or {}))
        every, offload = options.pop("every_n_layers", 1), options.pop("offload", False)
        model: Any = self.accelerator.unwrap_model(self.reference_model or self.model)
        if self.args.activation_checkpointing:
            model.activation_checkpointing_enable(
                activation_checkpointing_kwargs=options or None, every_n_layers=every, offload=offload
            )

    def _reference_runner(self) -> torch.nn.Module:
        """What computes the reference: under FSDP TRL's sharded copy, elsewhere, and with an adapter, the model that is
        not trained yet.
        """
        if self.reference_model is not None:
            return cast(torch.nn.Module, self.reference_model)
        return self.inference_engine() if self.is_deepspeed_enabled else self.trained_model

    def get_train_dataloader(self) -> DataLoader[Any]:
        """This rank's rows of every micro-batch, in the order of the stock trainer's pairs."""
        self.window.forget_time()
        pairs = PreparedPairs(cast(Dataset, self.train_dataset))
        rows = StepRows(len(pairs), pairs.packed_row)
        return step_loader(self.args, rows, self.step_sampler(pairs), single_item)

    def step_sampler(self, pairs: PreparedPairs) -> StepSampler:
        """What draws the micro-batches of this rank."""
        order = self.step_order(len(pairs))
        return StepSampler(order, pairs.lengths(), self.capacity, self.row_rank)

    def rows_in(self, batch: Any) -> list[int]:
        """The kept rows that a `MicroBatchRows` has pairs of."""
        return [kept for row in batch.rows for kept in row.kept]

    def training_step(self, model: torch.nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of a micro-batch's rows; returns its share of the step's loss, a number `[]`.

        The step's gradient is that of the mean loss over its pairs. `inputs` are a `MicroBatchRows`.
        """
        model.train()
        self.window.begin()
        done = torch.zeros((), device=self.accelerator.device)
        # Ranks' gradients are averaged, so each rank's share of the sum is scaled up by their number. Of those that
        # share a row, each has the whole loss, and the part of its gradient that comes by its places.
        scale = self.accelerator.num_processes / inputs.total
        deepspeed = self.accelerator.distributed_type == DistributedType.DEEPSPEED
        options = {"scale_wrt_gas": False} if deepspeed else {}
        with self.maybe_activation_offload_context:
            for number, row in enumerate(inputs.rows):
                last = number == len(inputs.rows) - 1
                with gradients_held(self.accelerator, model, last), self.compute_loss_context_manager():
                    loss, sums = self.row_loss(model, row, self.sharing)
                    loss = loss * scale
                    self.accelerator.backward(loss, **options)
                done += loss.detach()
                self.window.add(sums if self.counts_rows else torch.zeros_like(sums))
        return done / self.sharing_size

    @property
    def counts_rows(self) -> bool:
        """Whether this rank counts the rows that it is trained on: of those that share them, the first does."""
        return self.sharing is None or self.sharing.number == 0

    def row_loss(
        self, model: torch.nn.Module, row: PackedRow, sharing: RowSharing | None = None
    ) -> tuple[Tensor, Tensor]:
        """The sum of the losses of a row's pairs, a number `[]`, and the sums of what is logged, `[len(SUM_NAMES)]`;
        the same on all processes of `sharing`, which have the same row.
        """
        pairs = row.pairs.to(self.accelerator.device)
        attention = attention_implementation(self.trained_model.config)
        logps = answer_logprobs(model, pairs, attention, sharing)  # [N, 2]
        reference = to_device(row.reference, logps.device)
        chosen, rejected = (logps - reference).unbind(1)
        with torch.no_grad():
            lengths = pairs.answer_sums(torch.ones_like(pairs.answer_index, dtype=logps.dtype))
        losses = self.pair_loss(LogRatios(chosen, rejected, *lengths.unbind(1)), self.loss_options)
        if row.placeholder:
            return losses.sum() * 0.0, losses.new_zeros(len(SUM_NAMES))
        with torch.no_grad():
            sums = pair_sums(losses, logps, reference, lengths, self.beta, row.truncated, len(pairs))
        return losses.sum(), sums

    def get_eval_dataloader(self, eval_dataset: Dataset | None = None) -> DataLoader[Any]:
        """This rank's rows of the held-out pairs, each pair once."""
        pairs = PreparedPairs(cast(Dataset, self.eval_dataset if eval_dataset is None else eval_dataset))
        ranks, rank = self.accelerator.num_processes, self.accelerator.process_index
        rows = [pairs.packed_row(row) for row in rows_of_every_pair(pairs.lengths(), self.capacity, ranks, rank)]
        return DataLoader(cast(Any, rows), batch_size=1, collate_fn=single_item)

    def evaluation_loop(
        self, dataloader: DataLoader[Any], description: str, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any
    ) -> EvalLoopOutput:
        """Means over every held-out pair, counted once whatever the number of ranks."""
        model = self.model_wrapped
        model.eval()
        self.trained_model.eval()
        begun = time.monotonic()
        total = torch.zeros(len(SUM_NAMES), device=self.accelerator.device)
        for row in dataloader:
            with torch.no_grad(), self.compute_loss_context_manager():
                total += self.row_loss(model, row)[1]
        seconds = time.monotonic() - begun
        sums = self._over_ranks(total)
        metrics = mean_metrics(sums) | rates(sums, seconds)
        named = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        return EvalLoopOutput(np.empty(0), None, named, int(sums["pairs"]))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As the stock trainer, with means and rates over the pairs since the last log."""
        if not any(name.startswith("eval_") for name in logs):
            total, seconds = self.window.close()
            sums = self._over_ranks(total)
            if sums["pairs"]:
                self.token_count += int(sums["positions"])
                metrics = mean_metrics(sums) | rates(sums, seconds)
                del metrics["loss"]  # the Trainer logs it itself
                logs |= metrics
                logs["num_tokens"] = self.token_count
        super().log(logs, start_time)

    def tokens_trained(self) -> float:
        """Positions of all ranks' rows, from the first step of the run; called by all ranks."""
        return self.token_count + int(self._over_ranks(self.window.sums)["positions"])

    def window_state(self) -> dict[str, Any]:
        """As for any stage, with the sums and seconds since the last log."""
        gathered = self.accelerator.gather(self.window.sums.to(self.accelerator.device)[None]).tolist()
        return super().window_state() | {"sums": gathered, "seconds": self.window.seconds}

    def restore_window(self) -> None:
        """As for any stage; what the window holds is counted when it is logged."""
        super().restore_window()
        window = self.counted_window
        if window is None:
            return
        sums = window["sums"]
        if len(sums) != self.accelerator.num_processes:  # what is logged is their sum
            total = [sum(of_ranks) for of_ranks in zip(*sums, strict=True)]
            sums = [total, *([[0.0] * len(total)] * (self.accelerator.num_processes - 1))]
        own = sums[self.accelerator.process_index]
        self.window.go_on(torch.tensor(own, device=self.accelerator.device), window["seconds"])
        self.token_count -= int(self._over_ranks(self.window.sums)["positions"])

    def write_checkpoint(self, *args: Any) -> None:
        """As every stage's trainer, off the clock.

        Raises:
            UserError: a weight is not finite, or the disk refuses it.
        """
        with self.window.paused():
            super().write_checkpoint(*args)

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        """As the stock trainer, off the clock."""
        with self.window.paused():
            super().save_model(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As the stock trainer, off the clock."""
        with self.window.paused():
            return super().evaluate(*args, **kwargs)

    @contextmanager
    def off_the_clock(self) -> Iterator[None]:
        """As every stage's trainer, and in no rate that is logged."""
        with self.window.paused(), super().off_the_clock():
            yield

    def _over_ranks(self, sums: Tensor) -> dict[str, float]:
        """All ranks' sums by name, from this rank's `[len(SUM_NAMES)]`."""
        reduced = self.accelerator.reduce(sums.to(self.accelerator.device), "sum").tolist()
        return dict(zip(SUM_NAMES, reduced, strict=True))
