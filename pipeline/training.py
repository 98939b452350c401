"""What both training stages share: TRL's arguments from a recipe, resuming, watching, and saving a whole model."""

import contextlib
import gc
import importlib.util
import json
import math
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from huggingface_hub import HfApi, get_token
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    get_scheduler,
)
from trl import ModelConfig, get_peft_config, get_quantization_config

from pipeline.card import keep_card
from pipeline.errors import UserError, told_by_library
from pipeline.program import is_main
from pipeline.recipe import Recipe
from pipeline.stage import Stage
from pipeline.table import clock

WHOLE = "whole"
COUNTED = "counted.json"
# Loading arguments that say how a model runs, not what it is.
LOADING_ONLY = ("attn_implementation", "quantization_config", "device_map", "max_memory")
# Nats a token by which chosen answers may fall below the reference before a person is told.
COLLAPSE = -0.3


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
    trackers = values.get("report_to") or "none"
    trackers = [trackers] if isinstance(trackers, str) else trackers
    missing = [t for t in trackers if t not in ("none", "all") and not _installed(t)]
    if missing:
        notes.append(f"report_to: {', '.join(missing)} is not installed, metrics stay in the run folder")
    values["report_to"] = [t for t in trackers if t not in missing] or ["none"]
    if values.get("push_to_hub") and not (values.get("hub_token") or get_token()):
        values["push_to_hub"] = False
        notes.append("push_to_hub: no Hub token here, nothing is uploaded")
    return values, notes


def tell_notes(recipe: Recipe) -> None:
    """Say what was mapped in the recipe, and which acceleration that it asks for this machine does not have."""
    for note in (*recipe.notes, *adapt_to_machine(recipe.values)[1]):
        say(note)


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def trl_arguments(recipe: Recipe, config_class: type, partial: Path, **fixed: Any) -> tuple[Any, ModelConfig]:
    """The recipe's keys as TRL's configuration and `ModelConfig`; `fixed` are set by the stage.

    Raises:
        UserError: a value that TRL or transformers refuses, in their words.
    """
    values, _ = adapt_to_machine(recipe.values)
    names = {f.name for f in fields(config_class) if f.init}
    model_names = {f.name for f in fields(ModelConfig) if f.init}
    training = {k: v for k, v in values.items() if k in names} | {"output_dir": str(partial), "disable_tqdm": True}
    if not torch.cuda.is_available():
        training.setdefault("dataloader_pin_memory", False)
    # The finished folder is uploaded, not the partial one that the Trainer knows.
    training["push_to_hub"] = False
    loading = training.get("model_init_kwargs") or {}
    if not isinstance(loading, dict):
        raise UserError(f"{recipe.where('model_init_kwargs')}: model_init_kwargs must be a mapping, found {loading!r}")
    with told_by_library(recipe.path, (ValueError, TypeError, ImportError)):
        model = ModelConfig(**{k: v for k, v in values.items() if k in model_names})
        init = {
            "dtype": model.dtype,
            "attn_implementation": model.attn_implementation,
            "revision": model.model_revision,
        }
        training["model_init_kwargs"] = {**init, **loading}
        arguments = config_class(**(training | fixed))
    with told_by_library(recipe.where("lr_scheduler_kwargs"), (ValueError, TypeError)):
        _try_schedule(arguments)
    return arguments, model


def _try_schedule(arguments: TrainingArguments) -> None:
    """Make the learning-rate schedule for a weight of nothing: the Trainer makes its own when rows and model are there,
    which is late to hear of a mistyped key.
    """
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=arguments.learning_rate)
    get_scheduler(
        arguments.lr_scheduler_type,
        optimizer,
        num_warmup_steps=1,
        num_training_steps=10,
        scheduler_specific_kwargs=dict(arguments.lr_scheduler_kwargs or {}),
    )


def adapters(model: ModelConfig) -> dict[str, Any]:
    """Quantisation and PEFT arguments of TRL's trainers, as the recipe asks for them."""
    return {"quantization_config": get_quantization_config(model), "peft_config": get_peft_config(model)}


def say(text: str) -> None:
    """Print from the main process only."""
    if is_main():
        print(text, flush=True)


def begin(stage: Stage) -> Path:
    """The stage's partial folder, prepared by the main process while the others wait; unwhole checkpoints removed.

    Call it when TRL's arguments exist: they open the process group with the recipe's `ddp_timeout`.
    """
    if is_main():
        stage.begin()
        for folder in stage.partial.glob("checkpoint-*"):
            if not (folder / WHOLE).is_file():
                shutil.rmtree(folder)
    PartialState().wait_for_everyone()
    return stage.partial


def last_checkpoint(partial: Path) -> Path | None:
    """The newest whole checkpoint of a begun stage, or None."""
    found = [f for f in partial.glob("checkpoint-*") if (f / WHOLE).is_file()]
    return max(found, key=lambda f: int(f.name.rsplit("-", 1)[1]), default=None)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's shard of a distributed tensor, or the tensor itself."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


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


class Watch(TrainerCallback):
    """Progress for people, marks on whole checkpoints, and a stop before a broken step reaches the optimiser."""

    def __init__(self, name: str, nats_a_reward: float | None = None):
        """`nats_a_reward` is beta times the mean length of a chosen answer, where preferences are trained."""
        self.name = name
        self.nats_a_reward = nats_a_reward
        self.started = 0.0
        self.first_step = 0
        self.last_line = 0.0
        self.warned = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.started, self.first_step = time.monotonic(), state.global_step
        if state.global_step:
            say(f"{self.name}: going on from step {state.global_step} of {state.max_steps}")

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: Any, model: Any = None, **_: Any) -> None:
        # With fp16 the loss scaler meets infinite gradients on purpose and skips their step.
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if args.fp16 or not gradients:
            return
        if not torch.stack([g.isfinite().all() for g in map(local, gradients)]).all():
            raise UserError(
                f"{self.name}: the gradient is not finite at step {state.global_step + 1}; lower learning_rate, or "
                "look at the rows of this step and at the weights it began with"
            )

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: dict | None = None, **_: Any) -> None:
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        done, now = state.global_step - self.first_step, time.monotonic()
        left = (state.max_steps - state.global_step) * (now - self.started) / max(1, done)
        shown = [f"loss {logs['loss']:.4f}", f"lr {logs.get('learning_rate', math.nan):.1e}"]
        self._warn_of_collapse(logs)
        if "rewards/accuracies" in logs:
            shown += [f"accuracy {logs['rewards/accuracies']:.2f}", f"margin {logs['rewards/margins']:.3f}"]
        line = f"{self.name}: step {state.global_step}/{state.max_steps}  " + "  ".join(shown)
        line += f"  {done / (now - self.started):.2f} steps/s  {clock(left)} left"
        if sys.stdout.isatty():
            print(f"\r\x1b[K{line}", end="\n" if state.global_step == state.max_steps else "", flush=True)
        elif now - self.last_line > 5 or state.global_step == state.max_steps:
            self.last_line = now
            print(line, flush=True)

    def _warn_of_collapse(self, logs: dict[str, float]) -> None:
        """Say once that chosen answers fall below the reference too: both sides go down, the rejected one faster."""
        fall = logs.get("logratios_per_token/chosen")
        if fall is None:  # the stock trainer tells the reward alone: beta times the sum over an answer's tokens
            fall = logs.get("rewards/chosen", 0.0) / self.nats_a_reward if self.nats_a_reward else 0.0
        if fall < COLLAPSE and not self.warned:
            self.warned = True
            say(
                f"warning: chosen answers have become less likely than under the reference, by {-fall:.2f} nats a "
                "token; lower learning_rate, raise beta, or look whether they differ in kind from the model's own"
            )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / WHOLE).touch()


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


@contextlib.contextmanager
def whole_state_dict(trainer: Trainer) -> Iterator[None]:
    """Gather a sharded model's weights into one state dict inside, and let checkpoints be sharded as before after."""
    if not trainer.is_fsdp_enabled:
        yield
        return
    plugin = trainer.accelerator.state.fsdp_plugin
    before = plugin.state_dict_type
    plugin.set_state_dict_type("FULL_STATE_DICT")
    try:
        yield
    finally:
        plugin.set_state_dict_type(before)


def save_model(trainer: Trainer, folder: Path, recipe: Recipe) -> None:
    """Save a plain model folder. An adapter is merged into its base (and kept beside it in `adapter/`).

    Raises:
        UserError: no weights were written.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    adapted = isinstance(model, PeftModel)
    saved = folder / "adapter" if adapted else folder
    with whole_state_dict(trainer):
        trainer.save_model(str(saved), _internal_call=True)
    if not is_main():
        return
    (saved / "training_args.bin").unlink(missing_ok=True)
    if adapted:
        # The base is read again rather than taken from the trainer, where it may be sharded or quantised.
        values = recipe.values
        own = {k: v for k, v in (values.get("model_init_kwargs") or {}).items() if k not in LOADING_ONLY}
        plain = {"revision": values.get("model_revision"), "dtype": values.get("dtype", "auto")}
        plain |= {"trust_remote_code": values.get("trust_remote_code", False)}
        base = AutoModelForCausalLM.from_pretrained(values["model_name_or_path"], **(plain | own))
        merged = PeftModel.from_pretrained(base, saved).merge_and_unload()
        # Training aligned the end-of-turn and padding tokens with the tokenizer; the fresh base knows nothing of it.
        trained = model.get_base_model()
        merged.config.eos_token_id = trained.config.eos_token_id
        merged.config.pad_token_id = trained.config.pad_token_id
        merged.generation_config = trained.generation_config
        merged.save_pretrained(folder)
        trainer.processing_class.save_pretrained(folder)
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"{recipe.path}: no weights were saved in {folder}; the checkpoints stay in {folder.parent}")


def upload(stage: Stage, values: dict[str, Any]) -> None:
    """Send the finished folder to the Hub when the values, adapted to this machine, still say `push_to_hub`."""
    if not values.get("push_to_hub"):
        return
    name = values.get("hub_model_id") or stage.name.replace("/", "-")
    api = HfApi(token=values.get("hub_token"))
    repository = api.create_repo(name, private=values.get("hub_private_repo"), exist_ok=True).repo_id
    api.upload_folder(repo_id=repository, folder_path=stage.folder, commit_message=f"{stage.name} by apo-soup")
    say(f"{stage.name}: uploaded to {repository}")


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
