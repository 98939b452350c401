"""TRL's arguments from a recipe, on the machine that is here."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import get_token
from transformers import TrainingArguments, get_scheduler
from trl import ModelConfig, get_peft_config, get_quantization_config

from apo_soup.config.adapter_keys import lora_targets, missing_package
from apo_soup.config.batch import accumulation_steps
from apo_soup.config.library_values import missing_library
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError, told_by_library
from apo_soup.models.earlier_adapter import earlier_adapter_problem
from apo_soup.progress import say, warn
from apo_soup.runs.manifest import process_count
from apo_soup.runs.stage import Stage
from apo_soup.runs.trackers import (
    keep_what_trackers_write,
    logging_note,
    missing_note,
    missing_trackers,
    named_trackers,
    run_name,
)
from apo_soup.training.precision import decide_by_recipe, launcher_note, precision

# Libraries whose code TRL's constructors run beside ours, which they call back; a model may bring code of its own.
TRAINER_LIBRARIES = ("trl", "transformers", "transformers_modules", "accelerate", "peft")

C = TypeVar("C", bound=TrainingArguments)


def machine_overrides(recipe: TrainingFile) -> tuple[dict[str, Any], list[str]]:
    """The keys that this machine sets for a recipe, because what they ask for is not available here, and a sentence for
    each that a person should know of.
    """
    values: dict[str, Any] = {}
    notes = []
    if not torch.accelerator.is_available() and not recipe.gives("use_cpu"):
        values["use_cpu"] = True
    attention = recipe.attn_implementation or ""
    if attention.startswith("flash_attention") and not (torch.cuda.is_available() and _installed("flash_attn")):
        values["attn_implementation"] = "sdpa"
        notes.append(f"attn_implementation: {attention} is not available here, sdpa is used")
    cpu = not torch.accelerator.is_available() or recipe.use_cpu
    if cpu and attention == "flex_attention":
        values["attn_implementation"] = "sdpa"
        notes.append("attn_implementation: flex_attention has no gradients on a CPU, sdpa is used")
    # Both concern speed and memory alone.
    for name, given, without in (
        ("tf32", recipe.tf32, None),
        ("activation_offloading", recipe.activation_offloading, False),
    ):
        if cpu and given:
            values[name] = without
            notes.append(f"{name}: there is no accelerator here, the key has no effect")
    if recipe.use_liger_kernel and not _installed("liger_kernel"):
        values["use_liger_kernel"] = False
        notes.append("use_liger_kernel: liger-kernel is not installed, the plain layers are used")
    notes += filter(None, (missing_note(recipe), logging_note(recipe), launcher_note(recipe)))
    absent = missing_trackers(recipe)
    values["report_to"] = [tracker for tracker in named_trackers(recipe) if tracker not in absent] or ["none"]
    if recipe.push_to_hub and not (recipe.hub_token or get_token()):
        values["push_to_hub"] = False
        notes.append("push_to_hub: no Hub token here, nothing is uploaded")
    return values, notes


def say_notes(recipe: TrainingFile) -> None:
    """Print what was mapped in the recipe, and what it asks for that is not available here."""
    for note in recipe.notes:
        say(note)
    for missing in machine_overrides(recipe)[1]:
        warn(missing)


def keep_trackers(arguments: TrainingArguments, recipe: TrainingFile, stage: Stage) -> None:
    """Let what trackers write of a begun stage be kept, under the recipe's and the stage's name; called before the
    trainer is made, which makes them.

    Raises:
        UserError: `logging_dir` is a file, or lies in one.
    """
    keep_what_trackers_write(recipe, stage)
    arguments.run_name = run_name(recipe, stage)
    if not (recipe.gives("project") and recipe.project):
        arguments.project = recipe.path.absolute().parent.name


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@contextmanager
def refused_by_trl(recipe: TrainingFile) -> Iterator[None]:
    """What TRL's constructor refuses, as a mistake in the recipe. A TypeError is one where options for loading the
    model are given, and elsewhere our own fault.

    Raises:
        UserError: TRL's constructor refused, in its words.
    """
    slips = (TypeError,) if recipe.model_init_kwargs else ()
    refusals = (ValueError, ImportError, NotImplementedError)
    taken, arguments = "a model and settings that TRL trains with", "arguments that the model is loaded with"
    way, loading = "correct the key that it names", recipe.place("model_init_kwargs")
    with (
        told_by_library(recipe.path, refusals, expected=taken, way=way, libraries=TRAINER_LIBRARIES),
        told_by_library(loading, slips, expected=arguments, way="correct them", libraries=TRAINER_LIBRARIES),
    ):
        yield


def trl_arguments(
    recipe: TrainingFile, config_class: type[C], partial: Path, processes: int | None = None, **fixed: Any
) -> tuple[C, ModelConfig]:
    """The recipe's keys as TRL's configuration of the trainer and of the model.

    Args:
        recipe: a stage file.
        config_class: `SFTConfig` or `DPOConfig`.
        partial: the stage's partial folder, where checkpoints are written.
        processes: those of the training; without a number, those of this launch.
        **fixed: what the stage sets whatever the recipe says.

    Raises:
        UserError: a value that TRL or transformers refuses, in their words.
    """
    problem = missing_package(recipe) or missing_library(recipe) or earlier_adapter_problem(recipe)
    if problem:
        raise UserError(problem)
    # Only what was given: defaults are the library's own.
    values = recipe.given_values() | {"model_name_or_path": recipe.model_name_or_path} | machine_overrides(recipe)[0]
    names = {f.name for f in fields(config_class) if f.init}
    model_names = {f.name for f in fields(ModelConfig) if f.init}
    training = {k: v for k, v in values.items() if k in names} | {"output_dir": str(partial), "disable_tqdm": True}
    if not torch.cuda.is_available():
        training.setdefault("dataloader_pin_memory", False)
    training["gradient_accumulation_steps"] = accumulation_steps(recipe, processes or process_count())
    training["logging_nan_inf_filter"] = recipe.logging_nan_inf_filter
    # The finished folder is uploaded, not the partial one that the Trainer knows.
    training["push_to_hub"] = False
    decide_by_recipe(recipe)
    refused = (ValueError, TypeError, ImportError, OSError)
    taken = "values that TRL and transformers take"
    with told_by_library(recipe.path, refused, expected=taken, way="correct the key that it names"):
        model = ModelConfig(**{k: v for k, v in values.items() if k in model_names})
    model.lora_target_modules = lora_targets(recipe)  # type: ignore[assignment]  # one text too, which peft takes
    training["model_init_kwargs"] = {
        "attn_implementation": model.attn_implementation,
        "revision": model.model_revision,
        **{key: value for key, value in recipe.loading_arguments.items() if key not in ("dtype", "torch_dtype")},
    }
    with told_by_library(recipe.path, refused, expected=taken, way="correct the key that it names"):
        arguments = config_class(**(training | fixed))
    loading_options(arguments)["dtype"] = precision(recipe, arguments, model.use_peft).loaded
    _check_schedule(arguments, recipe.place("lr_scheduler_kwargs"))
    return arguments, model


def loading_options(arguments: TrainingArguments) -> dict[str, Any]:
    """The arguments that TRL loads the model with, to be read or changed; `trl_arguments` has made them a mapping."""
    options: dict[str, Any] = arguments.model_init_kwargs  # type: ignore[attr-defined]  # of both of TRL's classes
    return options


def _check_schedule(arguments: TrainingArguments, where: str) -> None:
    """Make the learning-rate schedule for a weight of nothing: the Trainer makes its own when rows and model are there,
    which is late to hear of a mistyped key.
    """
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=arguments.learning_rate)
    options: Any = arguments.lr_scheduler_kwargs  # a mapping: transformers has read the text that it may be
    taken = f"arguments of the schedule {arguments.lr_scheduler_type}"
    with told_by_library(where, (ValueError, TypeError), expected=taken, way="correct them"):
        get_scheduler(
            arguments.lr_scheduler_type,
            optimizer,
            num_warmup_steps=1,
            num_training_steps=10,
            scheduler_specific_kwargs=dict(options or {}),
        )


def adapters(model: ModelConfig, where: str | Path) -> dict[str, Any]:
    """Quantisation and PEFT arguments of TRL's trainers, as the recipe asks for them.

    Raises:
        UserError: TRL or PEFT refuses them, or their package is not installed; `where` is the recipe.
    """
    taken = "quantisation and adapters that TRL and PEFT take"
    with told_by_library(where, expected=taken, way="correct the key that it names"):
        return {"quantization_config": get_quantization_config(model), "peft_config": get_peft_config(model)}
