"""Values of TRL's and transformers' keys that their own constructors refuse, told before torch is imported.

The libraries say so when the model is loaded, or the first step is taken. What a release takes is read from its source;
where that does not say it, a table here does, which a test holds to the installed release.
"""

import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from apo_soup.config.in_words import as_written, said_again
from apo_soup.config.library_source import class_members, enumerations, fields_of
from apo_soup.config.nearest import nearest
from apo_soup.config.stage_file import Fault

if TYPE_CHECKING:
    from apo_soup.config.training import TrainingFile

LOG_LEVELS = ("detail", "debug", "info", "warning", "error", "critical", "passive")
COMPILE_MODES = ("default", "lite", "reduce-overhead", "max-autotune-no-cudagraphs", "max-autotune")
# Ways to shard that FSDP2, which holds without `fsdp_config: {version: 1}`, has no word for.
FSDP1_ONLY = ("no_shard", "hybrid_shard", "hybrid_shard_zero2")
# What an evaluation measures, by the kind of file.
MEASURED = {
    "sft": ("loss", "entropy", "mean_token_accuracy", "num_tokens"),
    "apo": (
        "loss", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen",
        "logps/rejected", "logits/chosen", "logits/rejected", "entropy", "mean_token_accuracy", "num_tokens",
    ),
}  # fmt: skip
OF_TIME = ("runtime", "samples_per_second", "steps_per_second")
# The package that an optimiser comes from, by a part of its name: as it is imported, and as it is installed.
OPTIMISER_PACKAGES = {
    "galore": ("galore_torch", "galore-torch"),
    "apollo": ("apollo_torch", "apollo-torch"),
    "lomo": ("lomo_optim", "lomo-optim"),
    "grokadamw": ("grokadamw", "grokadamw"),
    "schedule_free": ("schedulefree", "schedulefree"),
    "stable_adamw": ("optimi", "torch-optimi"),
    "adamw_torch_4bit": ("torchao", "torchao"),
    "adamw_torch_8bit": ("torchao", "torchao"),
    "anyprecision": ("torchdistx", "torchdistx"),
    "npu": ("torch_npu", "torch-npu"),
    "xla": ("torch_xla", "torch-xla"),
    **dict.fromkeys(("bnb", "8bit", "32bit", "ademamix", "paged"), ("bitsandbytes", "bitsandbytes")),
}
# Optimisers to which transformers hands no `optim_args`; and parts of the names of those that read
# `optim_target_modules`.
WITHOUT_ARGS = (
    "adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adamw_torch_npu_fused", "adafactor", "lomo", "adalomo",
)  # fmt: skip
LOW_RANK = ("galore", "apollo")
# transformers' own where a file names none.
USUAL_OPTIMISER = "adamw_torch_fused"


def library_faults(recipe: "TrainingFile") -> Iterator[Fault]:
    """What is wrong with values of a training file that the libraries read late.

    Raises:
        UserError: transformers, accelerate or torch is not installed.
    """
    yield from _word_fault("log_level", recipe.log_level, LOG_LEVELS)
    yield from _word_fault("log_level_replica", recipe.log_level_replica, LOG_LEVELS)
    yield from _word_fault("torch_compile_mode", recipe.torch_compile_mode, COMPILE_MODES)
    if recipe.torch_compile_backend:
        yield from _word_fault(
            "torch_compile_backend", recipe.torch_compile_backend, _backends(), lambda word: str(word).lower()
        )
    if isinstance(recipe.debug, str):
        for word in recipe.debug.split():
            yield from _word_fault("debug", word, _debug_words())
    yield from _fsdp_faults(recipe)
    if isinstance(recipe.accelerator_config, dict):
        known = fields_of("transformers", "trainer_pt_utils.py", "AcceleratorConfig")
        for name in recipe.accelerator_config:
            yield from _word_fault("accelerator_config", name, known)
    if recipe.dataloader_prefetch_factor is not None and not recipe.dataloader_num_workers:
        told = "expected dataloader_num_workers above 0 beside it, got none, and only workers load ahead"
        yield Fault("dataloader_prefetch_factor", f"{told}; add it, or leave the key out", ("dataloader_num_workers",))
    if isinstance(recipe.model_init_kwargs, str) and recipe.model_init_kwargs:
        told = f"expected a mapping, got {as_written(recipe.model_init_kwargs)}"
        yield Fault("model_init_kwargs", f"{told}; write the keys that the model is loaded with below it")
    yield from _metric_faults(recipe)
    yield from _optimiser_faults(recipe)


def missing_library(recipe: "TrainingFile") -> str | None:
    """A sentence where a training file asks for what a package brings that is not installed here."""
    if recipe.deepspeed and not importlib.util.find_spec("deepspeed"):
        return f"{recipe.place('deepspeed')}: expected the package deepspeed, got none; pip install deepspeed"
    optimiser = recipe.optim or ""
    for part, (package, installed_as) in OPTIMISER_PACKAGES.items():
        if part in optimiser and not importlib.util.find_spec(package):
            told = f"expected the package {installed_as}, which brings {optimiser}, got none installed here"
            return f"{recipe.place('optim')}: {told}; pip install {installed_as}"
        if part in optimiser:
            return None
    return None


def computes_with_bitsandbytes(recipe: "TrainingFile") -> bool:
    """Whether a training file asks for weights of few bits, or for an optimiser of bitsandbytes."""
    optimiser = recipe.optim or ""
    package = next((names[0] for part, names in OPTIMISER_PACKAGES.items() if part in optimiser), None)
    return recipe.load_in_4bit or recipe.load_in_8bit or package == "bitsandbytes"


def _word_fault(
    key: str, word: Any, words: tuple[str, ...], written: Callable[[Any], Any] = lambda word: word
) -> Iterator[Fault]:
    if word is not None and written(word) not in words:
        way = nearest(word, words) or "write one of these, or leave the key out"
        yield Fault(key, f"expected one of {', '.join(words)}, got {said_again(word)}; {way}")


def _fsdp_faults(recipe: "TrainingFile") -> Iterator[Fault]:
    asked, settings = recipe.fsdp, recipe.fsdp_config
    if asked and recipe.deepspeed:
        yield Fault("fsdp", "expected one of fsdp and deepspeed, got both; leave one of them out", ("deepspeed",))
    words = asked.split() if isinstance(asked, str) else asked if isinstance(asked, list) else []
    known = enumerations()["FSDPOption"]
    version = settings.get("version", settings.get("fsdp_version", 2)) if isinstance(settings, dict) else None
    for word in words:
        yield from _word_fault("fsdp", word, known)
        if (version == 2 or settings is None) and word in FSDP1_ONLY:
            told = f"expected full_shard or shard_grad_op, which FSDP2 has, got {word}; write fsdp: true"
            yield Fault("fsdp", told, ("fsdp_config",))


def _optimiser_faults(recipe: "TrainingFile") -> Iterator[Fault]:
    """Keys that the optimiser does not read, and one that it cannot do without."""
    optimiser, beside = recipe.optim or USUAL_OPTIMISER, ("optim",)
    if recipe.optim_args and optimiser in WITHOUT_ARGS:
        told = f"expected an optimiser that reads it, got {optimiser}, which does not; leave the key out"
        yield Fault("optim_args", told, beside)
    low_rank = any(part in optimiser for part in LOW_RANK)
    if recipe.optim_target_modules and not low_rank:
        told = f"expected an optimiser of {' or '.join(LOW_RANK)}, which alone reads it, got {optimiser}"
        yield Fault("optim_target_modules", f"{told}; leave the key out", beside)
    elif low_rank and not recipe.optim_target_modules:
        told = f"expected optim_target_modules beside {optimiser}, got none; write it, such as all-linear"
        yield Fault("optim", told, ("optim_target_modules",))


def _metric_faults(recipe: "TrainingFile") -> Iterator[Fault]:
    metric, measured = recipe.metric_for_best_model, MEASURED[recipe.kind]
    if metric is None:
        if recipe.save_strategy == "best" and not recipe.load_best_model_at_end:
            told = "expected metric_for_best_model beside save_strategy: best, got none; write it, such as loss"
            yield Fault("save_strategy", told, ("metric_for_best_model",))
        return
    if recipe.load_best_model_at_end or recipe.save_strategy == "best":
        name = metric.removeprefix("eval_")
        if recipe.greater_is_better and name == "loss":
            told = "expected false beside metric_for_best_model: loss, got true, by which the worst weights are kept"
            yield Fault("greater_is_better", f"{told}; leave the key out", ("metric_for_best_model",))
        # With several evaluation sets, each has its own; there is one here.
        if name not in (*measured, *OF_TIME):
            way = nearest(name, measured) or "name one of these"
            told = f"expected a metric that an evaluation measures ({', '.join(measured)}), got "
            yield Fault("metric_for_best_model", f"{told}{said_again(metric)}; {way}", ("load_best_model_at_end",))


def _backends() -> tuple[str, ...]:
    """The backends of torch.compile that accelerate takes, in lower case, as transformers hands them on."""
    members = class_members("accelerate", "utils/dataclasses.py", "DynamoBackend")
    return tuple(str(word).lower() for word in members.values())


def _debug_words() -> tuple[str, ...]:
    words = class_members("transformers", "debug_utils.py", "DebugOption").values()
    return tuple(word for word in words if isinstance(word, str))
