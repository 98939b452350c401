"""A DPOTrainer that packs pairs and computes each prompt once.

Mathematics and order of pairs are the stock trainer's; `apo/rows.py` says why the log-probabilities are the same. It
departs in three things: a step's pairs are packed into rows on the ranks (`apo/steps.py`), only answer tokens pass
through the LM head (`apo/scoring.py`), and the reference's log-probabilities come from a store (`apo/reference.py`).
Where an epoch's pairs do not fill its last step, that step's loss is the mean over its pairs too; the stock trainer
takes the mean of its micro-batches' means.
"""

import contextlib
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

from apo.losses import LOSSES
from apo.paths import probe
from apo.reference import ReferenceStore
from apo.rows import Pair, Row, build, places_of, sees, visible
from apo.scoring import add_scoring
from apo.steps import Numbers, Rows, StepLoader, Steps, all_pairs, only, stock_batches
from corpus.encode import PAIR_COLUMNS
from pipeline.progress import Progress

# What is summed over the pairs of a step, in this order.
SUMS = ("loss", "chosen", "rejected", "right", "logp_chosen", "logp_rejected", "ratio_chosen", "length_chosen",
        "length_rejected", "truncated", "pairs", "places")  # fmt: skip
NOTHING = ([0], [0], [0])
# FlexAttention's usual block of queries and of keys.
BLOCK = 128


class PackedDPOTrainer(DPOTrainer):
    """DPOTrainer on prepared pairs (`prompt_ids`, `chosen_ids`, `rejected_ids`), packed.

    Args:
        store: where reference log-probabilities are kept.
        capacity: places a row may have.
    """

    def __init__(self, *args: Any, store: ReferenceStore, capacity: int, **kwargs: Any):
        self.store, self.capacity = store, capacity
        self.reference_passes = 0
        self._sums: torch.Tensor | float = 0.0
        self._since = time.monotonic()
        super().__init__(*args, **kwargs)
        self.loss_function = LOSSES[self.loss_types[0]]
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        policy = getattr(plugin, "mixed_precision_policy", None)
        if getattr(policy, "output_dtype", None) is not None:  # FSDP2: what leaves the model are log-probabilities
            plugin.mixed_precision_policy = replace(policy, output_dtype=torch.float32)

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """`dataset` with the reference's log-probabilities, from the store or computed now and stored."""
        model = self.accelerator.unwrap_model(self.model)
        add_scoring(model.get_base_model() if isinstance(model, PeftModel) else model)
        self._probe(model)
        # What accelerate decided counts, not what the recipe says: a launcher may ask for bf16 too.
        store = self.store.with_precision(self.accelerator.mixed_precision, str(model.dtype))
        # Only the main process looks, and tells the others: on separate disks they might see otherwise, and a job that
        # runs beside this one may write in between.
        with self._reference_lock(store, name):
            found = [store.read(name, len(dataset)) if self.accelerator.is_main_process else None]
            (found,) = broadcast_object_list(found)
            if found is None:
                found = self._reference_logprobs(model, dataset)
                if self.accelerator.is_main_process:
                    store.write(name, *found)
        chosen, rejected = (values.tolist() for values in found)
        return dataset.add_column("ref_chosen_logps", chosen).add_column("ref_rejected_logps", rejected)

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
    def _probe(self, model: torch.nn.Module) -> None:
        """Raise NotPackable where this model's packed log-probabilities are not those of plain sequences."""
        if self.is_deepspeed_enabled:
            return  # its weights may be in pieces by now; ZeRO-3 runs on the stock path

        def score(pairs: list[Pair]) -> torch.Tensor:
            return self._answers(model, build(pairs).to(self.accelerator.device))

        with self._at_rest(model), self.accelerator.autocast():
            exact = model.dtype == torch.float32 and self.accelerator.mixed_precision == "no"
            probe(score, model.config.get_text_config().vocab_size, exact)

    @contextlib.contextmanager
    def _at_rest(self, model: torch.nn.Module) -> Iterator[None]:
        """The model on this rank's device without dropout inside, and where and as it was after."""
        device, home = self.accelerator.device, next(model.parameters()).device
        was_training = model.training
        model.eval()
        if home.type != device.type:  # quantised weights are there already, and cannot be moved
            model.to(device)
        yield
        model.train(was_training)
        if home.type != device.type:
            model.to(home)

    @torch.no_grad()
    def _reference_logprobs(self, model: torch.nn.Module, dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities `[N]` of both answers of every pair under `model` as it is before training."""
        device = self.accelerator.device
        runner = prepare_deepspeed(model, self.accelerator) if self.is_deepspeed_enabled else model
        resting = contextlib.nullcontext() if self.is_deepspeed_enabled else self._at_rest(model)
        adapter = contextlib.nullcontext()
        if isinstance(model, PeftModel):
            adapter = use_adapter(model, "ref" if "ref" in model.peft_config else None)
        # In float32: the sums they hold are, and Apple's GPUs have no other type.
        values = torch.zeros(len(dataset), 2, device=device)
        progress = Progress("reference", "pairs", len(dataset), quiet=not self.accelerator.is_main_process)
        done = 0
        with resting, adapter, self.accelerator.autocast():
            for numbers in self._every_pair(dataset):
                row = self._made(dataset, numbers)["row"].to(device)
                found = self._answers(runner, row)
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
        self._since = time.monotonic()
        dataset = self.train_dataset
        lengths = pair_lengths(dataset)
        numbers = Numbers(len(dataset))
        arguments = (self._train_batch_size, self.args.dataloader_drop_last, self.accelerator)
        loaders = stock_batches(numbers, self._get_train_sampler(numbers), *arguments)
        steps = Steps(
            loaders, lengths, self.capacity, self.args.gradient_accumulation_steps, self.accelerator.process_index
        )
        return StepLoader(
            Rows(lambda row: self._made(dataset, row)),
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
        done = torch.zeros((), device=self.accelerator.device)
        # Ranks' gradients are averaged, so each rank's share of the sum is scaled up by their number.
        scale = self.accelerator.num_processes / inputs["total"]
        with self.maybe_activation_offload_context:
            for number, made in enumerate(inputs["rows"]):
                final = number == len(inputs["rows"]) - 1
                with self._gradients_kept(model, final), self.compute_loss_context_manager():
                    loss = self._row_loss(model, made) * scale
                    options = {}
                    if self.accelerator.distributed_type == DistributedType.DEEPSPEED:
                        options["scale_wrt_gas"] = False
                    self.accelerator.backward(loss, **options)
                done += loss.detach()
        if inputs["last"]:
            self._tell("train")
        return done

    @contextlib.contextmanager
    def _gradients_kept(self, model: torch.nn.Module, final: bool) -> Iterator[None]:
        """Hold back the exchange of gradients and the optimiser for all rows of a micro-batch but the last."""
        state = self.accelerator.gradient_state
        synced = state.sync_gradients
        if final:
            yield
            return
        state._set_sync_gradients(False)
        with self.accelerator.no_sync(model):
            yield
        state._set_sync_gradients(synced)

    def _answers(self, model: torch.nn.Module, row: Row) -> torch.Tensor:
        """Log-probability of every answer of a row, `[2 N]`: chosen and rejected of each pair in turn."""
        logprobs = model(
            input_ids=row.input_ids[None],
            position_ids=row.position_ids[None],
            attention_mask=attention_mask(row, self.model.config._attn_implementation),
            places=row.places,
            targets=row.targets,
        )
        # FSDP may hand them back in bfloat16, and hundreds of them summed in that type are off by whole nats.
        logprobs = logprobs.float()
        return logprobs.new_zeros(2 * row.pairs).index_add(0, row.answers, logprobs)

    def _row_loss(self, model: torch.nn.Module, made: dict[str, Any]) -> torch.Tensor:
        """The sum of the losses of a row's pairs; what a person watches is added up on the way."""
        row = made["row"].to(self.accelerator.device)
        logps = self._answers(model, row).view(-1, 2)
        reference = made["reference"].to(logps)
        ratios = logps - reference
        chosen, rejected = ratios.unbind(1)
        losses = self.loss_function(chosen, rejected, self.beta)
        if made["placeholder"]:
            return losses.sum() * 0.0
        with torch.no_grad():
            counts = torch.bincount(row.answers, minlength=2 * row.pairs).view(-1, 2).sum(0)
            found = [
                losses.sum(), chosen.sum() * self.beta, rejected.sum() * self.beta, (chosen > rejected).sum(),
                *logps.sum(0), chosen.sum(), *counts,
            ]  # fmt: skip
            rest = torch.tensor([made["truncated"], row.pairs, len(row.input_ids)], device=logps.device)
            # Added up where they are: reading a value from a GPU would make it wait.
            self._sums = self._sums + torch.cat([torch.stack([v.float() for v in found]), rest.float()])
        return losses.sum()

    def _tell(self, mode: str) -> dict[str, float]:
        """Means over all ranks' pairs since the last call, for the log of `mode`."""
        own = torch.zeros(len(SUMS), device=self.accelerator.device) + self._sums
        reduced = self.accelerator.reduce(own, "sum").tolist()
        self._sums = 0.0
        sums = dict(zip(SUMS, reduced, strict=True))
        now = time.monotonic()
        seconds = max(1e-9, now - self._since)
        self._since = now
        told = means(sums)
        told |= {"pairs_per_second": sums["pairs"] / seconds, "tokens_per_second": sums["places"] / seconds}
        for name, value in told.items():
            if name != "loss":  # the trainer logs that one itself
                self._metrics[mode][name].append(value)
        if mode == "train":
            self._total_train_tokens += int(sums["places"])
            self._metrics[mode]["num_tokens"] = [self._total_train_tokens]
        return told

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
        self._since = time.monotonic()
        self._sums = 0.0
        for made in dataloader:
            with torch.no_grad(), self.compute_loss_context_manager():
                self._row_loss(model, made)
        told = self._tell("eval")
        self._since = time.monotonic()
        return EvalLoopOutput(None, None, {f"{metric_key_prefix}_loss": told["loss"]}, len(self.eval_dataset or ()))


def attention_mask(row: Row, attention: str) -> Any:
    """What each place may see, in the form the attention implementation takes: a block mask or `[1, 1, S, S]`."""
    if attention != "flex_attention":
        return visible(row)[None, None]
    return block_mask(row)


def block_mask(row: Row) -> Any:
    """FlexAttention's mask of a row, made a band of queries at a time: [128, S] places in memory, never [S, S]."""
    from torch.nn.attention.flex_attention import BlockMask

    size, device = len(row.input_ids), row.input_ids.device
    blocks = -(-size // BLOCK)
    keys = torch.arange(blocks * BLOCK, device=device)
    inside = keys < size
    some, all_ = [], []
    for start in range(0, size, BLOCK):
        queries = torch.arange(start, min(start + BLOCK, size), device=device)
        seen = sees(row, queries[:, None], keys.clamp(max=size - 1)[None]) & inside
        by_block = seen.view(len(queries), blocks, BLOCK)
        whole = by_block.all(2).all(0) & (len(queries) == BLOCK)
        some.append(by_block.any(2).any(0) & ~whole)
        all_.append(whole)
    partial, full = torch.stack(some), torch.stack(all_)  # [blocks of queries, blocks of keys]

    def table(marks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        order = marks.int().argsort(dim=1, descending=True, stable=True).int()
        return marks.sum(1, dtype=torch.int32)[None, None], order[None, None]

    return BlockMask.from_kv_blocks(
        *table(partial),
        *table(full),
        BLOCK_SIZE=BLOCK,
        mask_mod=lambda batch, head, query, key: sees(row, query, key),
        seq_lengths=(size, size),
    )


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


def means(sums: dict[str, float]) -> dict[str, float]:
    """What a person watches, from the sums over pairs."""
    pairs = max(1.0, sums["pairs"])
    return {
        "loss": sums["loss"] / pairs,
        "rewards/chosen": sums["chosen"] / pairs,
        "rewards/rejected": sums["rejected"] / pairs,
        "rewards/margins": (sums["chosen"] - sums["rejected"]) / pairs,
        "rewards/accuracies": sums["right"] / pairs,
        "logps/chosen": sums["logp_chosen"] / pairs,
        "logps/rejected": sums["logp_rejected"] / pairs,
        "logps_per_token/chosen": sums["logp_chosen"] / max(1.0, sums["length_chosen"]),
        "logps_per_token/rejected": sums["logp_rejected"] / max(1.0, sums["length_rejected"]),
        "logratios_per_token/chosen": sums["ratio_chosen"] / max(1.0, sums["length_chosen"]),
        "lengths/chosen": sums["length_chosen"] / pairs,
        "lengths/rejected": sums["length_rejected"] / pairs,
        "truncated_share": sums["truncated"] / pairs,
    }
