"""What both training stages share: TRL's arguments from a recipe, resuming, watching, and saving a whole model."""

import importlib.util
import math
import os
import shutil
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import ModelConfig, get_peft_config, get_quantization_config

from pipeline.errors import UserError
from pipeline.recipe import Recipe
from pipeline.stage import Stage

WHOLE = "whole"


def adapt_to_machine(values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Values with accelerations that are not installed here switched off, and a line for each."""
    values, notes = dict(values), []
    if not torch.accelerator.is_available():
        values.setdefault("use_cpu", True)
    attention = values.get("attn_implementation") or ""
    if attention.startswith("flash_attention") and not (torch.cuda.is_available() and _installed("flash_attn")):
        values["attn_implementation"] = "sdpa"
        notes.append(f"attn_implementation: {attention} is not available here, sdpa is used")
    if values.get("use_liger_kernel") and not _installed("liger_kernel"):
        values["use_liger_kernel"] = False
        notes.append("use_liger_kernel: liger-kernel is not installed, the plain layers are used")
    trackers = values.get("report_to", "none")
    trackers = [trackers] if isinstance(trackers, str) else trackers
    missing = [t for t in trackers if t not in ("none", "all") and not _installed(t)]
    if missing:
        notes.append(f"report_to: {', '.join(missing)} is not installed, metrics stay in the run folder")
    values["report_to"] = [t for t in trackers if t not in missing] or ["none"]
    if values.get("push_to_hub") and not (values.get("hub_token") or os.environ.get("HF_TOKEN")):
        values["push_to_hub"] = False
        notes.append("push_to_hub: no token in HF_TOKEN, nothing is uploaded")
    return values, notes


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def trl_arguments(recipe: Recipe, config_class: type, partial: Path, **fixed: Any) -> tuple[Any, ModelConfig]:
    """The recipe's keys as TRL's configuration and `ModelConfig`; `fixed` are set by the stage.

    Raises:
        UserError: a value that TRL or transformers refuses, in their words.
    """
    values, notes = adapt_to_machine(recipe.values)
    for note in notes:
        say(note)
    names = {f.name for f in fields(config_class) if f.init}
    model_names = {f.name for f in fields(ModelConfig) if f.init}
    training = {k: v for k, v in values.items() if k in names} | {"output_dir": str(partial), "disable_tqdm": True}
    if not torch.cuda.is_available():
        training.setdefault("dataloader_pin_memory", False)
    training["hub_model_id"] = values.get("hub_model_id") or Path(recipe.need("output_dir")).name
    try:
        model = ModelConfig(**{k: v for k, v in values.items() if k in model_names})
        init = {
            "dtype": model.dtype,
            "attn_implementation": model.attn_implementation,
            "revision": model.model_revision,
        }
        training["model_init_kwargs"] = {**init, **(training.get("model_init_kwargs") or {})}
        arguments = config_class(**(training | fixed))
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"{recipe.path}: {' '.join(str(error).split())}") from error
    return arguments, model


def adapters(model: ModelConfig) -> dict[str, Any]:
    """Quantisation and PEFT arguments of TRL's trainers, as the recipe asks for them."""
    return {"quantization_config": get_quantization_config(model), "peft_config": get_peft_config(model)}


def is_main() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def say(text: str) -> None:
    """Print from the main process only."""
    if is_main():
        print(text, flush=True)


def begin(stage: Stage) -> Path:
    """The stage's partial folder, prepared by the main process while the others wait; unwhole checkpoints removed."""
    state = PartialState()
    if is_main():
        stage.begin()
        for folder in stage.partial.glob("checkpoint-*"):
            if not (folder / WHOLE).is_file():
                shutil.rmtree(folder)
    state.wait_for_everyone()
    return stage.partial


def last_checkpoint(partial: Path) -> Path | None:
    """The newest whole checkpoint of a begun stage, or None."""
    found = [f for f in partial.glob("checkpoint-*") if (f / WHOLE).is_file()]
    return max(found, key=lambda f: int(f.name.rsplit("-", 1)[1]), default=None)


class Watch(TrainerCallback):
    """Progress for people, marks on whole checkpoints, and a stop before a broken step reaches the optimiser."""

    def __init__(self, name: str):
        self.name = name
        self.started = 0.0
        self.first_step = 0
        self.last_line = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.started, self.first_step = time.monotonic(), state.global_step
        if state.global_step:
            say(f"{self.name}: going on from step {state.global_step} of {state.max_steps}")

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: Any, model: Any = None, **_: Any) -> None:
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                raise UserError(
                    f"{self.name}: the gradient of {name} is not finite at step {state.global_step + 1}; "
                    "lower learning_rate or max_grad_norm, or look at the rows of this step"
                )

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: dict | None = None, **_: Any) -> None:
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        done, now = state.global_step - self.first_step, time.monotonic()
        left = (state.max_steps - state.global_step) * (now - self.started) / max(1, done)
        shown = [f"loss {logs['loss']:.4f}", f"lr {logs.get('learning_rate', math.nan):.1e}"]
        if "rewards/accuracies" in logs:
            shown += [f"accuracy {logs['rewards/accuracies']:.2f}", f"margin {logs['rewards/margins']:.3f}"]
        line = f"{self.name}: step {state.global_step}/{state.max_steps}  " + "  ".join(shown)
        line += f"  {done / (now - self.started):.2f} steps/s  {clock(left)} left"
        if sys.stdout.isatty():
            print(f"\r\x1b[K{line}", end="\n" if state.global_step == state.max_steps else "", flush=True)
        elif now - self.last_line > 5 or state.global_step == state.max_steps:
            self.last_line = now
            print(line, flush=True)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / WHOLE).touch()


def clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def train_and_save(trainer: Trainer, stage: Stage, config_metrics: dict[str, Any]) -> None:
    """Train from the last whole checkpoint if there is one, then put the finished model folder into place."""
    trainer.remove_callback(PrinterCallback)  # Watch prints for people; the numbers are in trainer_state.json
    checkpoint = last_checkpoint(stage.partial)
    begun = time.monotonic()
    result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.monotonic() - begun
    metrics = {k: v for k, v in result.metrics.items() if isinstance(v, (int, float))}
    if trainer.eval_dataset is not None:
        metrics |= trainer.evaluate()
    final = stage.partial / "final"
    save_model(trainer, final)
    if is_main():
        trainer.state.save_to_json(str(final / "trainer_state.json"))
        metrics |= {"steps": trainer.state.global_step, "train_seconds": round(seconds, 2), **config_metrics}
        if torch.cuda.is_available():
            metrics["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated() // 2**20
        stage.finish(final, metrics)
    PartialState().wait_for_everyone()


def save_model(trainer: Trainer, folder: Path) -> None:
    """Save a plain model folder. An adapter is merged into its base (and kept beside it in `adapter/`)."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "merge_and_unload"):
        trainer.save_model(str(folder / "adapter"))
        if is_main():
            model.merge_and_unload().save_pretrained(folder)
            trainer.processing_class.save_pretrained(folder)
    else:
        trainer.save_model(str(folder))
    if is_main():
        (folder / "training_args.bin").unlink(missing_ok=True)
        (folder / "adapter" / "training_args.bin").unlink(missing_ok=True)
