"""A DPOTrainer that packs pairs and computes each prompt once.

Mathematics and order of pairs are the stock trainer's; `apo/rows.py` says why the log-probabilities are the same. It
departs in three things: a step's pairs are packed into rows on the ranks (`apo/steps.py`), only answer tokens pass
through the LM head (`apo/scoring.py`), and the reference's log-probabilities come from a store (`apo/reference.py`).
Where an epoch's pairs do not fill its last step, that step's loss is the mean over its pairs too; the stock trainer
takes the mean of its micro-batches' means.
"""

import contextlib
import copy
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow.compute as compute
import torch
from accelerate.utils import DistributedType, broadcast_object_list
from datasets import Dataset
from filelock import Timeout
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput
from trl import DPOTrainer
from trl.models import prepare_deepspeed
from trl.trainer.utils import use_adapter

from apo.attention_mask import attention_mask
from apo.losses import LOSSES
from apo.metrics import SUMS, means, pair_sums
from apo.reference import ReferenceStore
from apo.rows import Pair, Row, build, moved, places_of
from apo.scoring import add_scoring
from apo.steps import Numbers, Rows, StepLoader, Steps, all_pairs, only, stock_batches
from apo.which_trainer import NotPackable, model_reason, probe
from apo_soup.data.encode import PAIR_COLUMNS
from apo_soup.progress import Progress
from apo_soup.training.trainer import StageTrainer

# A row without pairs, for a rank that has none left.
NOTHING = ([0], [0], [0])


class PreparedDPOTrainer(StageTrainer, DPOTrainer):
    """The stock DPOTrainer on prepared pairs: `prompt_ids`, `chosen_ids`, `rejected_ids`.

    Args:
        store: where reference log-probabilities are kept, and what decides them.
    """

    def __init__(self, *args: Any, store: ReferenceStore, **kwargs: Any):
        self.store = store
        super().__init__(*args, **kwargs)

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset

    def _keyed_store(self, **more: Any) -> ReferenceStore:
        """The store of the precision that accelerate decided on: a launcher may ask for bf16 where no recipe does."""
        return self.store.with_content(
            mixed_precision=self.accelerator.mixed_precision, model_dtype=self.model.dtype, **more
        )

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """TRL's own values and file, under a key of all that decides them; TRL's key is of weights and rows alone."""
        keyed = copy.copy(dataset)
        keyed._fingerprint = self._keyed_store(trainer="stock", ld_alpha=self.ld_alpha).key(name)
        return super()._precompute_ref_logps(keyed, name, batch_size)


class PackedDPOTrainer(PreparedDPOTrainer):
    """The same pairs, packed.

    Args:
        capacity: places a row may have.
    """

    def __init__(self, *args: Any, capacity: int, **kwargs: Any):
        self.capacity = capacity
        self.reference_passes = 0
        self._sums = torch.zeros(len(SUMS))
        self._since: float | None = None  # when the log's window began; the first step of a run begins one
        self._stopped = False
        super().__init__(*args, **kwargs)
        self.loss_function = LOSSES[self.loss_types[0]]

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        policy = getattr(plugin, "mixed_precision_policy", None)
        # FSDP2 would cast what leaves the model to this type, and log-probabilities summed in bfloat16 are off by whole
        # nats. Hidden states between the layers have the type they are computed in anyway.
        if getattr(policy, "output_dtype", None) is not None:
            plugin.mixed_precision_policy = replace(policy, output_dtype=None)

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """`dataset` with the reference's log-probabilities, from the store or computed now and stored."""
        for model in filter(None, (self.model, self.ref_model)):
            model = self.accelerator.unwrap_model(model)
            add_scoring(model.get_base_model() if isinstance(model, PeftModel) else model)
        runner = self._reference_runner()
        if name == "train":
            self._probe(runner)
        store = self._keyed_store()
        # Only the main process looks, and tells the others: on separate disks they might see otherwise, and a job that
        # runs beside this one may write in between.
        with self._reference_lock(store, name):
            found = [store.read(name, len(dataset)) if self.accelerator.is_main_process else None]
            (found,) = broadcast_object_list(found)
            if found is None:
                found = self._reference_logprobs(runner, dataset)
                if self.accelerator.is_main_process:
                    store.write(name, *found)
        chosen, rejected = (values.tolist() for values in found)
        return dataset.add_column("ref_chosen_logps", chosen).add_column("ref_rejected_logps", rejected)

    def _reference_runner(self) -> torch.nn.Module:
        """What computes the reference: under FSDP TRL's sharded copy, elsewhere, and with an adapter, the model that is
        not trained yet.
        """
        if self.ref_model is not None:
            return self.ref_model
        if not self.is_deepspeed_enabled:
            return self.model
        if self._precompute_engine is None:
            self._precompute_engine = prepare_deepspeed(self.model, self.accelerator)
        return self._precompute_engine

    @contextlib.contextmanager
    def _reference_lock(self, store: ReferenceStore, name: str) -> Iterator[None]:
        """Hold the store's lock on the main process. While another job holds it the ranks meet every minute, so that
        none of them waits in a collective until it times out.
        """
        main, lock = self.accelerator.is_main_process, store.locked(name)
        waits = True
        while waits:
            if main:
                with contextlib.suppress(Timeout):
                    lock.acquire(timeout=60)
            (waits,) = broadcast_object_list([main and not lock.is_locked])
        try:
            yield
        finally:
            lock.release()

    @torch.no_grad()
    def _probe(self, runner: torch.nn.Module) -> None:
        """Raise NotPackable where this model's packed log-probabilities are not those of its own plain sequences."""
        text = self.model.config.get_text_config()
        reason = model_reason(text)  # once more: what the recipe loads it with may have changed its configuration
        if reason:
            raise NotPackable(reason)
        device = self.accelerator.device

        def packed(pairs: list[Pair]) -> torch.Tensor:
            return self._answers(runner, build(pairs).to(device))

        def plain(ids: list[int]) -> torch.Tensor:
            return runner(input_ids=torch.tensor([ids], device=device), use_cache=False).logits[0]

        precise = self.accelerator.mixed_precision == "no" and not self.args.tf32
        with self._at_rest(runner), self.accelerator.autocast():
            try:
                probe(packed, plain, text.vocab_size, precise and self.model.dtype == torch.float32)
            except NotPackable as error:
                reason = str(error)
        # Ranks whose rounding differs must not part ways.
        (reason,) = broadcast_object_list([reason])
        if reason:
            raise NotPackable(reason)

    @contextlib.contextmanager
    def _at_rest(self, model: torch.nn.Module) -> Iterator[None]:
        """The model on this rank's device without dropout inside, and where and as it was after."""
        device, home = self.accelerator.device, next(model.parameters()).device
        was_training = model.training
        # Quantised weights are there already, and cannot be moved; FSDP and DeepSpeed move theirs themselves.
        moves = home.type != device.type and model is self.model
        model.eval()
        if moves:
            model.to(device)
        try:
            yield
        finally:
            model.train(was_training)
            if moves:
                model.to(home)

    @torch.no_grad()
    def _reference_logprobs(self, runner: torch.nn.Module, dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities `[N]` of both answers of every pair under the model as it is before training."""
        device = self.accelerator.device
        adapter = contextlib.nullcontext()
        model = self.accelerator.unwrap_model(self.model)
        if isinstance(model, PeftModel):
            adapter = use_adapter(model, "ref" if "ref" in model.peft_config else None)
        # In float32: the sums they hold are, and Apple's GPUs have no other type.
        values = torch.zeros(len(dataset), 2, device=device)
        progress = Progress("reference", "pairs", len(dataset), quiet=not self.accelerator.is_main_process)
        done = 0
        with self._at_rest(runner), adapter, self.accelerator.autocast():
            for numbers in self._every_pair(dataset):
                found = self._answers(runner, self._made(dataset, numbers)["row"].to(device))
                self.reference_passes += 1
                done += len(numbers) * self.accelerator.num_processes
                progress.at(done)
                if numbers:
                    values[torch.tensor(numbers, device=device)] = found.float().view(-1, 2)
        progress.end()
        values = self.accelerator.reduce(values, "sum").cpu()
        return values[:, 0], values[:, 1]

    def _made(self, dataset: Dataset, numbers: list[int]) -> dict[str, Any]:
        """A row of these pairs: its tensors, reference log-probabilities `[N, 2]`, how many of the pairs are cut.

        Where there are no pairs it is a placeholder.
        """
        if not numbers:
            return {"row": build([NOTHING]), "reference": torch.zeros(1, 2), "truncated": 0, "placeholder": True}
        found = dataset[numbers]
        pairs = list(zip(*(found[name] for name in PAIR_COLUMNS), strict=True))
        reference = torch.zeros(len(numbers), 2)
        if "ref_chosen_logps" in found:
            reference = torch.tensor([found["ref_chosen_logps"], found["ref_rejected_logps"]]).T
        cut = sum(truncated(pair, self.args.max_length, self.processing_class.eos_token_id) for pair in pairs)
        return {"row": build(pairs), "reference": reference, "truncated": cut, "placeholder": False}

    def get_train_dataloader(self) -> DataLoader:
        """This rank's rows of every micro-batch, in the order of the stock trainer's pairs."""
        self._since = None
        dataset = self.train_dataset
        lengths = pair_lengths(dataset)
        numbers = Numbers(len(dataset))
        arguments = (self._train_batch_size, self.args.dataloader_drop_last, self.accelerator)
        loaders = stock_batches(numbers, self._get_train_sampler(numbers), *arguments)
        steps = Steps(
            loaders, lengths, self.capacity, self.args.gradient_accumulation_steps, self.accelerator.process_index
        )
        return StepLoader(
            Rows(len(dataset), lambda row: self._made(dataset, row)),
            batch_sampler=steps,
            collate_fn=only,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """Forward and backward of a micro-batch's rows; the step's gradient is that of the mean over its pairs."""
        model.train()
        self._since = self._since or time.monotonic()
        done = torch.zeros((), device=self.accelerator.device)
        # Ranks' gradients are averaged, so each rank's share of the sum is scaled up by their number.
        scale = self.accelerator.num_processes / inputs["total"]
        options = {}
        if self.accelerator.distributed_type == DistributedType.DEEPSPEED:
            options["scale_wrt_gas"] = False
        with self.maybe_activation_offload_context:
            for number, made in enumerate(inputs["rows"]):
                final = number == len(inputs["rows"]) - 1
                with self._gradients_kept(model, final), self.compute_loss_context_manager():
                    loss, sums = self._row_loss(model, made)
                    loss = loss * scale
                    self.accelerator.backward(loss, **options)
                done += loss.detach()
                self._sums = self._sums.to(sums.device) + sums
        return done

    @contextlib.contextmanager
    def _gradients_kept(self, model: torch.nn.Module, final: bool) -> Iterator[None]:
        """Hold back the optimiser, and DDP's exchange of gradients, for all rows of a micro-batch but the last.

        FSDP and DeepSpeed exchange after every row, since gradients held back would be whole on every rank. So does a
        recipe with `sync_each_batch`.
        """
        state = self.accelerator.gradient_state
        if final or not state.sync_gradients:  # without it, the Trainer holds them back already
            yield
            return
        sharded = self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
        held = not sharded and not state.plugin_kwargs.get("sync_each_batch", False)
        state._set_sync_gradients(False)
        try:
            with self.accelerator.no_sync(model) if held else contextlib.nullcontext():
                yield
        finally:
            state._set_sync_gradients(True)

    def _answers(self, model: torch.nn.Module, row: Row) -> torch.Tensor:
        """Log-probability of every answer of a row, `[2 N]`: chosen and rejected of each pair in turn."""
        logprobs = model(
            input_ids=row.input_ids[None],
            position_ids=row.position_ids[None],
            attention_mask=attention_mask(row, self.model.config._attn_implementation),
            places=row.places,
            targets=row.targets,
        )
        return logprobs.new_zeros(2 * row.pairs).index_add(0, row.answers, logprobs)

    def _row_loss(self, model: torch.nn.Module, made: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum of the losses of a row's pairs, and the sums of what a person watches, `[len(SUMS)]`."""
        row = made["row"].to(self.accelerator.device)
        logps = self._answers(model, row).view(-1, 2)
        reference = moved(made["reference"], logps.device)
        losses = self.loss_function(*(logps - reference).unbind(1), self.beta)
        if made["placeholder"]:
            return losses.sum() * 0.0, losses.new_zeros(len(SUMS))
        with torch.no_grad():
            ones = torch.ones_like(row.answers, dtype=logps.dtype)
            lengths = logps.new_zeros(2 * row.pairs).index_add(0, row.answers, ones).view(-1, 2)
            sums = pair_sums(losses, logps, reference, lengths, self.beta, made["truncated"], len(row.input_ids))
        return losses.sum(), sums

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As the stock trainer, with means and rates over the pairs since the last log."""
        if not any(name.startswith("eval_") for name in logs):
            now = time.monotonic()
            told = self._told(self._sums, now - (self._since or now))
            self._sums = torch.zeros(len(SUMS))
            self._since = now
            if told["pairs"]:
                self._total_train_tokens += int(told.pop("places"))
                # The trainer logs the loss itself.
                logs |= {k: v for k, v in told.items() if k not in ("loss", "pairs")}
                logs["num_tokens"] = self._total_train_tokens
        super().log(logs, start_time)

    def _told(self, sums: torch.Tensor, seconds: float) -> dict[str, float]:
        """Means and rates over all ranks' pairs in `sums`, and how many pairs and places they are."""
        named = self._over_ranks(sums)
        rates = {
            "pairs_per_second": named["pairs"] / max(1e-9, seconds),
            "tokens_per_second": named["places"] / max(1e-9, seconds),
        }
        return {**means(named), **rates, "pairs": named["pairs"], "places": named["places"]}

    def _over_ranks(self, sums: torch.Tensor) -> dict[str, float]:
        """All ranks' sums by name."""
        reduced = self.accelerator.reduce(sums.to(self.accelerator.device), "sum").tolist()
        return dict(zip(SUMS, reduced, strict=True))

    @contextlib.contextmanager
    def _clock_stopped(self) -> Iterator[None]:
        """What happens inside does not count as time of training."""
        if self._stopped or self._since is None:
            yield
            return
        self._stopped, begun = True, time.monotonic()
        try:
            yield
        finally:
            self._stopped = False
            self._since += time.monotonic() - begun

    def tokens_trained(self) -> int:
        return self._total_train_tokens + int(self._over_ranks(self._sums)["places"])

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with self._clock_stopped():
            super()._save_checkpoint(*args, **kwargs)

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        with self._clock_stopped():
            super().save_model(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        with self._clock_stopped():
            return super().evaluate(*args, **kwargs)

    def get_eval_dataloader(self, eval_dataset: Dataset | None = None) -> DataLoader:
        """This rank's rows of the held-out pairs, each pair once."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        rows = [self._made(dataset, row) for row in self._every_pair(dataset)]
        return DataLoader(rows, batch_size=1, collate_fn=only)

    def _every_pair(self, dataset: Dataset) -> list[list[int]]:
        """This rank's rows of a pass over all pairs, each pair once on one rank."""
        ranks, rank = self.accelerator.num_processes, self.accelerator.process_index
        return all_pairs(pair_lengths(dataset), self.capacity, ranks, rank)

    def evaluation_loop(
        self, dataloader: DataLoader, description: str, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any
    ) -> EvalLoopOutput:
        """Means over every held-out pair, counted once whatever the number of ranks."""
        model = self.model_wrapped
        model.eval()
        self.model.eval()
        begun = time.monotonic()
        total = torch.zeros(len(SUMS), device=self.accelerator.device)
        for made in dataloader:
            with torch.no_grad(), self.compute_loss_context_manager():
                total += self._row_loss(model, made)[1]
        told = self._told(total, time.monotonic() - begun)
        measured = {f"{metric_key_prefix}_{k}": v for k, v in told.items() if k not in ("pairs", "places")}
        return EvalLoopOutput(None, None, measured, int(told["pairs"]))


def pair_lengths(dataset: Dataset) -> list[int]:
    """The places every pair takes."""
    return [places_of(*lengths) for lengths in zip(*(column_lengths(dataset, n) for n in PAIR_COLUMNS), strict=True)]


def column_lengths(dataset: Dataset, name: str) -> list[int]:
    """How many tokens every row of a column has, read from the table's offsets and not from the tokens."""
    column = dataset.with_format("arrow").select_columns([name])[:][name]
    return compute.list_value_length(column).to_pylist()


def truncated(pair: Pair, max_length: int | None, end_of_turn: int) -> bool:
    """Whether an answer of a prepared pair was cut: it reaches `max_length` without its end-of-turn token."""
    prompt, *answers = pair
    limit = max_length or math.inf
    return any(len(prompt) + len(answer) >= limit and answer[-1] != end_of_turn for answer in answers)
