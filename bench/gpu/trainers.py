"""The contestants: this project's trainers, the stock ones, and packed pairs that do not share their prompts."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import DPOConfig, SFTConfig, SFTTrainer

from apo.packed_pairs import CHOSEN_BRANCH, REJECTED_BRANCH, SHARED_BRANCH, PackedPairs
from apo.pair_attention import PAIRS, register_pair_attention
from apo.prepared_pairs import PackedRow
from apo.reference import ReferenceStore
from apo.stock_trainer import PreparedDPOTrainer
from apo.train import CAPACITIES
from apo.trainer import PackedDPOTrainer
from apo_soup.data.documents import TRUNCATED_COLUMN
from apo_soup.models.shared_rows import RowSharing
from bench.gpu.work import device_here, random_model, settle
from bench.sft import labelled, packed
from sft.packed_batch import PackedCollator
from sft.train import PackedSFTTrainer
from sft.which_path import use_trained_places

TOKENIZER = "recipes/tiny/base"


class UnsharedDPOTrainer(PackedDPOTrainer):
    """Packed pairs whose two answers have a prompt each, as packing alone would have them."""

    def row_loss(
        self, model: torch.nn.Module, row: PackedRow, sharing: RowSharing | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of the same pairs, from their sequences."""
        apart = PackedRow(unshared(row.pairs), row.reference, row.truncated, row.placeholder, row.kept)
        return super().row_loss(model, apart, sharing)


def unshared(row: PackedPairs) -> PackedPairs:
    """The pairs of a row `[S]` as two sequences each, prompt and answer, every one a row's pair to the mask.

    A sequence's positions are all of one branch, so that each sees what lies before it in its sequence.
    """
    places: list[torch.Tensor] = []
    sequence: list[torch.Tensor] = []
    for number in range(row.pair_count):
        of_pair = row.pair_index == number
        for answer in (CHOSEN_BRANCH, REJECTED_BRANCH):
            own = of_pair & ((row.branch == SHARED_BRANCH) | (row.branch == answer))
            places.append(own.nonzero()[:, 0])
            sequence.append(torch.full_like(places[-1], len(sequence)))
    origin, numbers = torch.cat(places), torch.cat(sequence)
    predicts = torch.zeros(len(row), dtype=torch.bool)
    predicts[row.scored_positions] = True
    scored = (predicts[origin] & (row.branch[origin] != SHARED_BRANCH)).nonzero()[:, 0]
    return PackedPairs(
        row.input_ids[origin],
        row.position_ids[origin],
        numbers,
        torch.full_like(origin, SHARED_BRANCH),
        scored,
        row.targets,
        row.answer_index,
        row.pair_count,
    )


class StepTimes(TrainerCallback):
    """When each optimiser step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Wait for the device and note the time."""
        settle()
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """Of a step, without the first, which compiles."""
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


def common(folder: Path, longest: int, batch: int, steps: int, autocast: bool, checkpointed: bool) -> dict[str, Any]:
    """Arguments of every trainer."""
    return {
        "output_dir": str(folder), "max_length": longest, "use_cpu": device_here().type == "cpu", "bf16": autocast,
        "max_steps": steps, "per_device_train_batch_size": batch, "gradient_accumulation_steps": 1,
        "gradient_checkpointing": checkpointed, "report_to": "none", "save_strategy": "no", "logging_steps": 1,
        "learning_rate": 1e-6, "disable_tqdm": True, "dataloader_pin_memory": False,
    }  # fmt: skip


def pair_trainer(
    name: str, pairs: list[dict[str, list[int]]], config: dict[str, Any], dtype: torch.dtype, arguments: dict[str, Any]
) -> PackedDPOTrainer | PreparedDPOTrainer:
    """A trainer of preference pairs on a fresh model, with its reference taken.

    Args:
        name: `ours`, `unshared` or `stock`.
        pairs: token ids.
        config: of the model.
        dtype: of its weights.
        arguments: of `common`.
    """
    gpu = device_here().type == "cuda"
    attention = {
        "ours": "flex_attention" if gpu else PAIRS,
        "unshared": "flex_attention" if gpu else "sdpa",
        "stock": "sdpa",
    }
    register_pair_attention()
    given: dict[str, Any] = {
        "model": random_model(config, attention[name], dtype),
        "args": DPOConfig(
            **arguments, loss_type=["apo_zero"], beta=0.05, precompute_ref_log_probs=True,
            precompute_ref_batch_size=arguments["per_device_train_batch_size"],
        ),
        "train_dataset": Dataset.from_list([row | {TRUNCATED_COLUMN: False} for row in pairs]),
        "processing_class": AutoTokenizer.from_pretrained(TOKENIZER),
        "store": ReferenceStore(Path(arguments["output_dir"]) / "reference", {"run": "bench"}),
        "callbacks": [StepTimes()],
    }  # fmt: skip
    longest = arguments["max_length"]
    trainer: PackedDPOTrainer | PreparedDPOTrainer
    if name == "stock":
        trainer = PreparedDPOTrainer(**given)
    else:
        made = PackedDPOTrainer if name == "ours" else UnsharedDPOTrainer
        trainer = made(**given, capacity=min(longest, CAPACITIES.get(attention[name], longest)))
    trainer.count_from(None)
    trainer.add_reference()
    return trainer


def chat_trainer(
    name: str,
    chats: list[dict[str, Any]],
    config: dict[str, Any],
    dtype: torch.dtype,
    arguments: dict[str, Any],
    attention: str = "sdpa",
) -> SFTTrainer:
    """A trainer of conversations on a fresh model.

    Args:
        name: `ours`, `packed` or `padded`; the last two are stock.
        chats: token ids, and where the trained ones begin and end.
        config: of the model.
        dtype: of its weights.
        arguments: of `common`.
        attention: what the model is loaded with.
    """
    mine = name == "ours"
    given: dict[str, Any] = {
        "model": random_model(config, attention, dtype),
        "args": SFTConfig(
            **arguments, packing=name == "packed", remove_unused_columns=not mine,
            dataset_kwargs={"skip_prepare_dataset": name != "packed"},
        ),
        "processing_class": AutoTokenizer.from_pretrained(TOKENIZER),
        "callbacks": [StepTimes()],
    }  # fmt: skip
    if not mine:
        return SFTTrainer(train_dataset=Dataset.from_list(labelled(chats)), **given)
    rows = packed(chats, arguments["max_length"])
    data = Dataset.from_list(rows).with_format("numpy", dtype=np.int32)
    trainer = PackedSFTTrainer(train_dataset=data, data_collator=PackedCollator(0), **given)
    trainer.count_from(None)
    use_trained_places(trainer)
    return trainer
