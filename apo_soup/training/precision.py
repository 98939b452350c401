"""In which types weights are trained, computed with and saved.

At the learning rates of preference training a step is smaller than what bfloat16 can add to most weights, so that they
stay where they are. Weights that are trained, and with them the optimiser, are float32 unless `master_dtype` asks
otherwise; products are taken in what `bf16` or `fp16` say (autocast, or the mixed precision of FSDP and DeepSpeed), and
the finished folder is written in `dtype`.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from apo_soup.config.training import TrainingFile
from apo_soup.models.earlier_adapter import base_model
from apo_soup.models.window import config_of
from apo_soup.progress import warn
from apo_soup.training.finite import local_shard

LOW = (torch.bfloat16, torch.float16)
# Where a launcher says what products are taken in.
LAUNCHER_PRECISION = "ACCELERATE_MIXED_PRECISION"
# Weights of a parameter that are compared before and after a training.
SAMPLED_WEIGHTS = 4096


@dataclass(frozen=True)
class Precision:
    """Types by their names in torch: `loaded` is what the model is loaded in, `trained` that of trained weights and
    their optimiser, `computed` that of matrix products, `saved` that of the finished folder.
    """

    loaded: str
    trained: str
    computed: str
    saved: str

    def told(self) -> str:
        """A line for the beginning of a training."""
        base = "" if self.loaded == self.trained else f", the frozen ones in {self.loaded}"
        return (
            f"trained weights and optimiser in {self.trained}{base}, products in {self.computed}, saved in {self.saved}"
        )


def precision(recipe: TrainingFile, arguments: TrainingArguments, adapted: bool) -> Precision:
    """The types of a stage's weights, from its recipe and TRL's arguments; `adapted` is whether an adapter is trained
    on a frozen base, which stays in the type that it is saved in.

    Raises:
        UserError: an adapter does not say what its base is.
    """
    asked = recipe.given_dtype
    saved = stored_dtype(recipe) if asked == "auto" or (asked is None and adapted) else asked or "float32"
    master = recipe.master_dtype
    mixed = "bfloat16" if arguments.bf16 else "float16" if arguments.fp16 else None
    if not adapted:
        return Precision(master, master, mixed or master, saved)
    base = stored_dtype(recipe) if asked == "auto" else asked or "float32"
    return Precision(base, "float32", mixed or base, saved)  # PEFT makes an adapter in float32 on any base


def launcher_note(recipe: TrainingFile) -> str | None:
    """A line on a launcher's mixed precision that is not the recipe's. The recipe decides: a file whose products were
    taken in what its launcher says would be one stage by its fingerprint and another by its weights.
    """
    launched = os.environ.get(LAUNCHER_PRECISION, "no")
    # Where the file says nothing, TRL takes bfloat16.
    asked = "fp16" if recipe.fp16 else "no" if recipe.bf16 is False else "bf16"
    if launched in ("no", asked):
        return None
    if launched == "fp8" and asked == "no":
        return "the launcher's mixed precision fp8 is taken, which no key names: a folder made without it is up to date"
    ask = f"; write {launched}: true to have it" if launched in ("bf16", "fp16") else ""
    return f"the launcher's mixed precision {launched} is not taken, for the recipe asks for {asked}{ask}"


def decide_by_recipe(recipe: TrainingFile) -> None:
    """Set a launcher's mixed precision aside where the file asks for none; another type that it asks for is taken by
    transformers itself.
    """
    if recipe.bf16 is False and not recipe.fp16 and os.environ.get(LAUNCHER_PRECISION) in ("bf16", "fp16"):
        os.environ[LAUNCHER_PRECISION] = "no"


def stored_dtype(recipe: TrainingFile) -> str:
    """The type that a model's weights are stored in, as its configuration says.

    Raises:
        UserError: an adapter does not say what its base is; the configuration cannot be read.
    """
    config = config_of(recipe, base_model(recipe))
    return str(config.dtype or torch.float32).removeprefix("torch.")


def raise_masters(model: torch.nn.Module, dtype: str) -> None:
    """Bring trained weights of a lower type to the one they are trained in; PEFT leaves whole layers that it trains
    (`modules_to_save`) in the base's.
    """
    master = getattr(torch, dtype)
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in LOW and parameter.dtype != master:
            parameter.data = parameter.data.to(master)


def trained_low(model: torch.nn.Module) -> bool:
    """Whether weights that are trained have a type of few bits."""
    return any(parameter.requires_grad and parameter.dtype in LOW for parameter in model.parameters())


def cast_folder(folder: Path, dtype: str) -> None:
    """Write a model folder's float weights again in another type, a file after the other, where they have another."""
    wanted = getattr(torch, dtype)
    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata()
        tensors = load_file(file)
        cast_tensors = {n: t.to(wanted) if t.is_floating_point() else t for n, t in tensors.items()}
        total += sum(tensor.nbytes for tensor in cast_tensors.values())
        if any(tensors[name].dtype != tensor.dtype for name, tensor in cast_tensors.items()):
            partial = file.with_name(f".{file.name}.partial")
            save_file(cast_tensors, partial, metadata)
            partial.replace(file)
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        listed = json.loads(index.read_text(encoding="utf-8"))
        listed["metadata"]["total_size"] = total
        index.write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("torch_dtype", None)
    if config.get("dtype") != dtype:
        (folder / "config.json").write_text(json.dumps(config | {"dtype": dtype}, indent=2) + "\n", encoding="utf-8")


class MovedShare(TrainerCallback):
    """Says at the end which share of the weights has moved, where they are trained in a type of few bits."""

    def __init__(self, name: str, cure: str):
        """`name` is the stage's, `cure` the key and value that a recipe would have all weights in float32 by."""
        self.name, self.cure = name, cure
        self.before: list[torch.Tensor] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Keep some weights of every trained parameter."""
        self.before = _some_weights(model)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Compare them."""
        after = _some_weights(model)
        count = sum(len(values) for values in after)
        pairs = zip(self.before, after, strict=True)
        moved = sum(int((one != other).sum()) for one, other in pairs)
        if state.is_world_process_zero and count:
            warn(
                f"{self.name}: {moved / count:.2%} of the weights have moved, for some are trained in "
                f"bfloat16 or float16, to which small steps add nothing; {self.cure} moves all of them"
            )


def _some_weights(model: torch.nn.Module) -> list[torch.Tensor]:
    """A sample `[N]` of each trained parameter's weights, on the CPU."""
    kept = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            values = local_shard(parameter.detach()).flatten()
            kept.append(values[:: max(1, len(values) // SAMPLED_WEIGHTS)].to("cpu", copy=True))
    return kept
