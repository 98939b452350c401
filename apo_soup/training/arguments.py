"""TRL's arguments from a recipe, on the machine that is here."""

import importlib.util
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import get_token
from transformers import TrainingArguments, get_scheduler
from trl import ModelConfig, get_peft_config, get_quantization_config

from apo_soup.config.recipe import Recipe
from apo_soup.errors import UserError, told_by_library
from apo_soup.progress import say


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
