"""What both stages add to TRL's trainers, and a training from its last checkpoint to a folder in its place."""

import gc
import json
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PrinterCallback, Trainer

from apo_soup.config.recipe import Recipe
from apo_soup.errors import UserError
from apo_soup.progress import is_main
from apo_soup.runs.card import keep_card
from apo_soup.runs.stage import Stage
from apo_soup.training.arguments import adapt_to_machine
from apo_soup.training.checkpoints import COUNTED, last_checkpoint
from apo_soup.training.saving import save_model, upload


class StageTrainer(Trainer):
    """What both stages add to TRL's trainers: tokens and seconds that go on counting after a kill, and tied weights
    that are written once.
    """

    def count_from(self, checkpoint: Path | None) -> None:
        """Go on with the counts of a checkpoint, or begin them."""
        file = checkpoint and checkpoint / COUNTED
        counted = json.loads(file.read_text()) if file and file.is_file() else {"tokens": 0, "seconds": 0.0}
        self._total_train_tokens = counted["tokens"]
        self.begun = time.monotonic() - counted["seconds"]

    def tokens_trained(self) -> int:
        """Tokens of all ranks, from the first step of the run; called by all ranks."""
        return self._total_train_tokens

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        counted = {"tokens": self.tokens_trained(), "seconds": round(time.monotonic() - self.begun, 2)}
        super()._save_checkpoint(*args, **kwargs)
        if self.args.should_save:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            (folder / COUNTED).write_text(json.dumps(counted))

    # The state dict that FSDP and DeepSpeed gather holds tied weights twice, in tensors that no longer show it.
    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        if state_dict is not None:
            tied = getattr(self.accelerator.unwrap_model(self.model), "all_tied_weights_keys", {})
            state_dict = {name: tensor for name, tensor in state_dict.items() if name not in tied}
        super()._save(output_dir, state_dict)


def train_and_save(trainer: StageTrainer, stage: Stage, recipe: Recipe, facts: dict[str, Any]) -> None:
    """Train from the last whole checkpoint if there is one, then put the finished model folder into place."""
    trainer.remove_callback(PrinterCallback)  # Watch prints for people; the numbers are in trainer_state.json
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    checkpoint = last_checkpoint(stage.partial)
    trainer.count_from(checkpoint)
    try:
        result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except KeyError as error:
        if "metric_for_best_model" not in str(error):
            raise
        raise UserError(f"{recipe.where('metric_for_best_model')}: {error.args[0]}") from error
    seconds = time.monotonic() - trainer.begun
    # The last log's own figures are among the result's where its window ends with the run.
    metrics = {k: v for k, v in result.metrics.items() if k.startswith("train_") or k in ("total_flos", "epoch")}
    if trainer.eval_dataset is not None:
        metrics |= trainer.evaluate()
    final = stage.partial / "final"
    save_model(trainer, final, recipe)
    if is_main():
        trainer.state.save_to_json(str(final / "trainer_state.json"))
        metrics["tokens_seen"] = round(trainer._total_train_tokens)
        metrics |= {"steps": trainer.state.global_step, "train_seconds": round(seconds, 2), **facts}
        if torch.cuda.is_available():
            metrics["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated() // 2**20
        values, _ = adapt_to_machine(recipe.values)
        keep_card(values["model_name_or_path"], values.get("model_revision"))
        ran = {k: values.get(k) for k in ("model_name_or_path", "model_revision", "attn_implementation")}
        stage.finish(final, metrics, {"ran_with": ran})
        upload(stage, values)
    PartialState().wait_for_everyone()


def release() -> None:
    """Give back the memory of a finished member before the next one loads its model."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def leave() -> None:
    """Close the process group, all ranks together: a rank that just exits can take the others down with it."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
