"""A DPOTrainer that packs pairs and computes each prompt once.

Mathematics and order of pairs are the stock trainer's; `apo/rows.py` says why the log-probabilities are the same. It
departs in three things: a step's pairs are packed into rows on the ranks (`apo/steps.py`), only answer tokens pass
through the LM head (`apo/scoring.py`), and the reference's log-probabilities come from a store (`apo/reference.py`).
"""

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from accelerate.utils import DistributedType
from datasets import Dataset
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput
from trl import DPOConfig, DPOTrainer
from trl.models import prepare_deepspeed
from trl.trainer.utils import use_adapter

from apo.losses import LOSSES
from apo.reference import ReferenceStore
from apo.rows import Pair, Row, build, places_of, sees, visible
from apo.scoring import add_scoring, rescales_logits
from apo.steps import Numbers, Rows, StepLoader, Steps, all_pairs, only, stock_batches
from corpus.encode import PAIR_COLUMNS
from pipeline.progress import Progress

# What is summed over the pairs of a step, in this order.
SUMS = ("loss", "chosen", "rejected", "right", "logp_chosen", "logp_rejected", "ratio_chosen", "length_chosen",
        "length_rejected", "truncated", "pairs", "places")  # fmt: skip
NOTHING = ([0], [0], [0])


class PackedDPOTrainer(DPOTrainer):
    """DPOTrainer on prepared pairs (`prompt_ids`, `chosen_ids`, `rejected_ids`), packed.

    Args:
        store: where reference log-probabilities are kept.
        capacity: places a row may have.
    """

    def __init__(self, *args: Any, store: ReferenceStore, capacity: int, **kwargs: Any):
        self.store, self.capacity = store, capacity
        self.reference_passes = 0
        self._sums = torch.zeros(len(SUMS), dtype=torch.float64)
        self._since = time.monotonic()
        super().__init__(*args, **kwargs)
        self.loss_function = LOSSES[self.loss_types[0]]

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """`dataset` with the reference's log-probabilities, from the store or computed now and stored."""
        model = self.accelerator.unwrap_model(self.model)
        add_scoring(model.get_base_model() if isinstance(model, PeftModel) else model)
        found = self.store.read(name, len(dataset))
        if found is None:
            found = self._reference_logprobs(model, dataset)
            if self.accelerator.is_main_process:
                self.store.write(name, *found)
            self.accelerator.wait_for_everyone()
        chosen, rejected = (values.tolist() for values in found)
        return dataset.add_column("ref_chosen_logps", chosen).add_column("ref_rejected_logps", rejected)

    @torch.no_grad()
    def _reference_logprobs(self, model: torch.nn.Module, dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities `[N]` of both answers of every pair under `model` as it is before training."""
        device, home = self.accelerator.device, next(model.parameters()).device
        runner = prepare_deepspeed(model, self.accelerator) if self.is_deepspeed_enabled else model.to(device)
        adapter = contextlib.nullcontext()
        if isinstance(model, PeftModel):
            adapter = use_adapter(model, "ref" if "ref" in model.peft_config else None)
        values = torch.zeros(len(dataset), 2, dtype=torch.float64, device=device)
        was_training = model.training
        model.eval()
        progress = Progress("reference", "pairs", len(dataset), quiet=not self.accelerator.is_main_process)
        done = 0
        with adapter, self.accelerator.autocast():
            for numbers in self._every_pair(dataset):
                row = self._made(dataset, numbers)["row"].to(device)
                found = self._answers(runner, row)
                self.reference_passes += 1
                done += len(numbers) * self.accelerator.num_processes
                progress.at(done)
                if numbers:
                    values[torch.tensor(numbers, device=device)] = found.double().view(-1, 2)
        progress.end()
        model.train(was_training)
        if not self.is_deepspeed_enabled:
            model.to(home)
        values = self.accelerator.reduce(values, "sum").cpu().float()
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
            found = [float(value) for value in (*found, made["truncated"], row.pairs, len(row.input_ids))]
        self._sums += torch.tensor(found, dtype=torch.float64)
        return losses.sum()

    def _tell(self, mode: str) -> dict[str, float]:
        """Means over all ranks' pairs since the last call, for the log of `mode`."""
        reduced = self.accelerator.reduce(self._sums.float().to(self.accelerator.device), "sum").tolist()
        self._sums.zero_()
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
        self._sums.zero_()
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
    from torch.nn.attention.flex_attention import create_block_mask

    size = len(row.input_ids)
    return create_block_mask(
        lambda batch, head, query, key: sees(row, query, key), None, None, size, size, device=row.input_ids.device
    )


def pair_lengths(dataset: Dataset) -> list[int]:
    """The places every pair takes."""
    columns = [dataset.with_format("numpy")[name] for name in PAIR_COLUMNS]
    return [places_of(*map(len, parts)) for parts in zip(*columns, strict=True)]


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


def stock_reason(arguments: DPOConfig, config: Any) -> str | None:
    """Why the packed path cannot run these settings, in a few words, or None when it can."""
    kinds = arguments.loss_type if isinstance(arguments.loss_type, list) else [arguments.loss_type]
    if len(kinds) != 1 or kinds[0] not in LOSSES:
        return f"loss_type {', '.join(kinds)}"
    checks = {
        "f_divergence_type": str(getattr(arguments.f_divergence_type, "value", arguments.f_divergence_type))
        != "reverse_kl",
        "ld_alpha": arguments.ld_alpha is not None,
        "use_weighting": arguments.use_weighting,
        "sync_ref_model": arguments.sync_ref_model,
        "label_smoothing": bool(arguments.label_smoothing),
        "loss_weights": bool(arguments.loss_weights),
    }
    for name, present in checks.items():
        if present:
            return name
    text = config.get_text_config()
    rescaled = rescales_logits(config)
    if rescaled:
        return f"a model with {rescaled}"
    if "sliding_attention" in (getattr(text, "layer_types", None) or ()):
        return "a model with sliding-window attention"
    if getattr(text, "num_experts", None) or getattr(text, "num_local_experts", None):
        return "a mixture-of-experts model"
    return None
