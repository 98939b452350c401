"""Mid-training and supervised fine-tuning with TRL's SFTTrainer, on rows prepared by `apo_soup.data`.

    accelerate launch -m sft --config recipes/tiny/sft.yaml
    accelerate launch --config_file recipes/accelerate/fsdp2.yaml -m sft --config recipes/smollm3/sft.yaml

The loss is the mean negative log-likelihood of the trained tokens of a whole optimiser step. It departs from stock
TRL in the data, whose masks and packing are ours, made and checked before the model is loaded, and in the way, not the
result, of the computation: what the loss does not come from is not computed (`sft/trained_places.py`), unless options
or a model ask for TRL's own way (`sft/which_path.py`), with one line that says so. Packed documents never see each
other whatever the attention implementation, because every row carries its own positions; a model that does not heed
them is refused.
"""

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from transformers.utils.generic import is_flash_attention_requested
from trl import SFTConfig, SFTTrainer

from apo_soup.config.sft import SftFile
from apo_soup.config.shared_rows import sharing_refused
from apo_soup.data.documents import ROWS_COLUMN
from apo_soup.data.prepare import training_rows
from apo_soup.errors import UserError
from apo_soup.models.shared_rows import NotShared
from apo_soup.models.window import widen, window_arguments
from apo_soup.progress import say
from apo_soup.runs.stage import Stage
from apo_soup.runs.training_suite import training_suite
from apo_soup.training.adapter_fit import check_adapter_fits
from apo_soup.training.arguments import (
    adapters,
    keep_trackers,
    loading_options,
    refused_by_trl,
    say_notes,
    trl_arguments,
)
from apo_soup.training.callbacks import Watch
from apo_soup.training.checkpoints import begin_stage
from apo_soup.training.going_on import with_earlier_adapter
from apo_soup.training.new_rows import settle_adapter, train_new_rows
from apo_soup.training.resized import model_to_load
from apo_soup.training.run import train_and_save
from apo_soup.training.step_order import (
    GlobalOrder,
    RankBatches,
    RowsOfSteps,
    StockBatches,
    StockOrder,
    step_loader,
)
from apo_soup.training.step_rows import CollatorWithRows
from apo_soup.training.trainer import StageTrainer
from sft.packed_batch import PackedCollator, stands_in, untrained
from sft.shared_rows import share_rows
from sft.which_path import DocumentsMixed, use_trained_places


class PackedSFTTrainer(StageTrainer, SFTTrainer):
    """SFTTrainer whose token counter knows that a batch may hold several packed rows, and whose steps of a global batch
    have the same rows on any number of ranks.
    """

    def get_train_dataloader(self) -> DataLoader[Any]:
        """As TRL; on several ranks, or without a step that is not full, the micro-batches of the global batch; where
        processes share rows, those that TRL would give to one in their place.
        """
        rows: Any = self.train_dataset
        order = self.step_order(len(rows))
        several = self.accelerator.num_processes > 1 or self.args.dataloader_drop_last
        batches: Sampler[list[int]]
        if isinstance(order, GlobalOrder) and several:
            batches = RankBatches(order, self.row_rank)
        elif isinstance(order, StockOrder) and self.sharing is not None:
            batches = StockBatches(order, self.row_rank)
        else:
            return super().get_train_dataloader()
        return step_loader(self.args, RowsOfSteps(rows, untrained), batches, self.data_collator)

    def compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """As TRL: the mean negative log-likelihood of a step's trained tokens; `inputs` are `[B, S]`."""
        result = super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[no-untyped-call]  # TRL's
        if self.trained_model.training and "attention_mask" not in inputs:
            rows, width = inputs["position_ids"].shape  # TRL has counted one row, on each that shares it
            taken = 0 if stands_in(inputs["labels"]) else rows * width
            uncounted = torch.tensor(taken - self.sharing_size * width, device=inputs["position_ids"].device)
            self.token_count += self.accelerator.gather_for_metrics(uncounted).sum().item() // self.sharing_size
            self.log_metric("num_tokens", self.token_count)
        return result


def train_model(recipe: SftFile, stage: Stage) -> None:
    """Prepare the rows, train (or go on training) and put the model folder into place.

    Raises:
        UserError: rows that cannot be used, a value that TRL or transformers refuses, or a model whose packed documents
            see each other.
    """
    say_notes(recipe)
    suite = training_suite(recipe, recipe.eval_suite) if recipe.eval_suite else None
    arguments, model = trl_arguments(
        recipe, SFTConfig, stage.partial, dataset_kwargs={"skip_prepare_dataset": True}, assistant_only_loss=False
    )
    adapting = adapters(model, recipe.path)
    check_adapter_fits(adapting["peft_config"], recipe)
    rows = training_rows(recipe, say)
    begin_stage(stage, recipe.place("output_dir"))
    keep_trackers(arguments, recipe, stage)

    # Rows are packed already, and their columns are the collator's, not the model's.
    arguments.padding_free, arguments.packing, arguments.eval_packing = False, False, False
    arguments.remove_unused_columns = False
    splits = rows.splits.with_format("numpy", dtype=np.int32)
    # Only a step takes its rows' numbers out of a batch; an evaluation gives all that it finds to the model.
    held_out = splits["test"].remove_columns(ROWS_COLUMN) if "test" in splits else None
    collator = PackedCollator(rows.tokenizer.pad_token_id)
    loading_options(arguments).update(window_arguments(recipe))
    widen(rows.tokenizer, recipe)
    dtype = "auto" if model.use_peft and not recipe.gives("dtype") else loading_options(arguments)["dtype"]
    base = with_earlier_adapter(recipe, arguments, adapting) or model_to_load(recipe, stage, rows.tokenizer, dtype)
    if adapting["peft_config"] is not None:
        adapting["peft_config"] = train_new_rows(adapting["peft_config"], recipe, base, rows.tokenizer)
    with refused_by_trl(recipe):
        trainer = PackedSFTTrainer(
            model=base,
            args=arguments,
            data_collator=CollatorWithRows(collator),
            train_dataset=splits["train"],
            eval_dataset=held_out,
            processing_class=rows.tokenizer,
            callbacks=[Watch(stage.name)],
            global_batch=recipe.global_batch_size,
            sharing_size=recipe.sequence_parallel_size,
            **adapting,
        )
    # Known of the loaded model alone: its configuration, or a kernel from the Hub, may bring FlashAttention along.
    collator.flat = is_flash_attention_requested(trainer.trained_model.config.get_text_config())
    settle_adapter(trainer, recipe)
    scorer = None
    if suite is not None:
        from apo_soup.evals.while_training import suite_scorer  # for those who ask

        scorer = suite_scorer(suite, recipe, rows.tokenizer)
    try:
        if trainer.sharing is not None:
            share_rows(trainer, trainer.sharing, recipe.packing)
        else:
            for told in use_trained_places(trainer, recipe.packing):
                say(f"{stage.name}: {told}")
    except NotShared as error:
        raise sharing_refused(recipe, error.why) from error
    except DocumentsMixed as error:
        raise UserError(
            f"{recipe.place('packing')}: expected a model whose packed documents do not see each other, got {error}; "
            "write packing: false"
        ) from error
    train_and_save(trainer, stage, recipe, rows.folder, {"data": rows.sources, "packed": rows.packed}, scorer)
