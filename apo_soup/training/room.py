"""What a training writes: checkpoints with the optimiser, and the finished model."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from apo_soup.config.training import TrainingFile
from apo_soup.models.earlier_adapter import base_model
from apo_soup.models.quantised import quantisation
from apo_soup.progress import say
from apo_soup.runs.ranks import main_decides
from apo_soup.runs.room import Room, require_room
from apo_soup.runs.stage import Stage
from apo_soup.tables import size_text
from apo_soup.training.precision import Precision
from apo_soup.weights import weight_files

# Bytes that an optimiser keeps of a trained weight, as a multiple of the weight's own, by how its name begins; those of
# other names are between nothing and what Adam keeps.
_ADAM = 2.0
_KEPT = {"adamw_torch": _ADAM, "adamw_apex": _ADAM, "sgd": 0.0, "adafactor": 0.0, "rmsprop": 1.0, "adagrad": 1.0}


@dataclass(frozen=True)
class Sizes:
    """Bytes of the weights that are trained, of those that a checkpoint holds, and of those that are there when the
    finished folder is written.
    """

    trained: float
    saved: float
    final: float


def sizes_of(model: torch.nn.Module, recipe: TrainingFile, types: Precision) -> Sizes:
    """The sizes of a model, before it is sharded or wrapped.

    Raises:
        UserError: an adapter does not say what its base is.
    """
    trained = sum(count * size for count, size, learns in _weights(model) if learns)
    if isinstance(model, PeftModel):
        return Sizes(trained, trained, trained + _base_bytes(model, recipe, types))
    whole = sum(count * size for count, size, _ in _weights(model))
    wider = getattr(torch, types.saved).itemsize / getattr(torch, types.trained).itemsize
    return Sizes(trained, whole, whole * max(1.0, wider))


def chosen_every(recipe: TrainingFile, steps: int) -> int:
    """Steps between the scorings that choose the checkpoint that a training of so many ends with; 0: none does."""
    suite = recipe.eval_suite
    return suite.every(steps) if suite is not None and suite.keep_best is not None else 0


def optimizer_states(name: str) -> float | None:
    """Bytes that an optimiser of this name keeps for a byte of trained weights; None where that is not known."""
    if "8bit" in name:
        return _ADAM / 4
    return next((times for start, times in _KEPT.items() if name.startswith(start)), None)


def training_room(
    sizes: Sizes, arguments: TrainingArguments, steps: int, there: int = 0, chosen_every: int = 0
) -> Room:
    """The room that a training needs beside what is there.

    Args:
        steps: of the whole run.
        there: checkpoints that an earlier start left.
        chosen_every: steps between the scorings of a suite that choose the checkpoint that is kept; 0: none does.
    """
    kept = optimizer_states(arguments.optim)
    low, high = (0.0, _ADAM) if kept is None else (kept, kept)
    if arguments.save_only_model:
        low = high = 0.0
    fewest, most = (
        tuple(max(0, count - there) for count in checkpoints_at_once(arguments, steps, chosen_every, few))
        for few in (True, False)
    )
    smaller, larger = (sizes.saved + times * sizes.trained for times in (low, high))
    peak = most[0]
    beside = f"{peak} checkpoints of {size_text(larger)}, and " if peak else ""
    return Room(
        max(fewest[0] * smaller, fewest[1] * smaller + sizes.final),
        max(peak * larger, most[1] * larger + sizes.final),
        f"{beside}the model of {size_text(sizes.final)}",
        "lower save_total_limit, or name an output_dir on another disk",
    )


def checkpoints_at_once(
    arguments: TrainingArguments, steps: int, chosen_every: int = 0, fewest: bool = False
) -> tuple[int, int]:
    """How many checkpoints lie beside each other at most, as a new one is written before an old one goes; and at the
    end.

    Args:
        steps: of the whole run.
        chosen_every: as `training_room` takes it; a scoring that is the best so far writes a checkpoint.
        fewest: what metrics decide is taken to come out with the fewest instead of the most: which evaluations are the
            best so far, and whether the best checkpoint is the newest too.
    """
    strategy, of_best = arguments.save_strategy, arguments.save_strategy == "best"
    saves = _times(arguments.eval_strategy if of_best else strategy, arguments, steps, of_best)
    if of_best and fewest:
        saves = min(1, saves)
    if chosen_every and not fewest:
        saves = _with_choices(saves, arguments, steps, chosen_every)
    limit = arguments.save_total_limit
    if not limit or limit < 1:
        return saves, saves
    # transformers' `rotate_checkpoints` keeps the newest and the best one, whatever the limit.
    by_rows = arguments.metric_for_best_model is not None and arguments.eval_strategy != "no" and not of_best
    kept = max(limit, 2) if (by_rows or chosen_every) and not fewest else limit
    return min(saves, kept + 1), min(saves, kept)


def _times(strategy: str, arguments: TrainingArguments, steps: int, of_best: bool) -> int:
    """How often a strategy of saving, or of the evaluations that the best is saved by, comes up in a run."""
    if strategy == "no":
        return 0
    if strategy == "steps":
        whole = _whole((arguments.eval_steps or arguments.logging_steps) if of_best else arguments.save_steps, steps)
        # The last step is saved whatever its number, but not evaluated.
        return int(steps // whole) if of_best else math.ceil(steps / whole)
    return max(1, math.ceil(arguments.num_train_epochs)) if arguments.max_steps <= 0 else 1


def _whole(every: float, steps: int) -> int:
    """Steps between two of what comes every so many, or every such share of all."""
    return int(every) if every >= 1 else max(1, math.ceil(every * steps))


def _with_choices(saves: int, arguments: TrainingArguments, steps: int, every: int) -> int:
    """Saves, and what a suite that is asked every so many steps has written beside them; the last step is both."""
    chosen = set(range(every, steps, every))
    if arguments.save_strategy == "steps":
        whole = _whole(arguments.save_steps, steps)
        chosen -= set(range(whole, steps, whole))
    return saves + len(chosen)


class LookForRoom(TrainerCallback):
    """Tells before the first step where the disk is too small for what the training writes, or may be."""

    def __init__(self, sizes: Sizes, stage: Stage, recipe: TrainingFile):
        self.sizes, self.stage, self.recipe = sizes, stage, recipe

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Raise UserError where it surely is too small."""
        partial = self.stage.partial

        def look() -> str | None:
            there = len(list(partial.glob("checkpoint-*")))
            room = training_room(self.sizes, args, state.max_steps, there, chosen_every(self.recipe, state.max_steps))
            return require_room(room, partial, self.recipe.place("output_dir"))

        told = main_decides(f"room of {self.stage.name}", look)
        if told:
            say(told)


def _weights(model: torch.nn.Module) -> Iterator[tuple[int, int, bool]]:
    """Of every tensor of weights its count, the bytes of one, and whether it is trained."""
    for tensor in model.parameters():
        # DeepSpeed leaves a rank with an empty tensor in the place of what other ranks hold.
        yield int(getattr(tensor, "ds_numel", tensor.numel())), tensor.element_size(), tensor.requires_grad


def _base_bytes(model: torch.nn.Module, recipe: TrainingFile, types: Precision) -> float:
    """The whole model that an adapter is merged into, as it is written."""
    base: Any = model
    if not quantisation(base):
        bytes_a_weight: int = getattr(torch, types.saved).itemsize
        return sum(count * bytes_a_weight for count, _, learns in _weights(model) if not learns)
    folder = Path(base_model(recipe))
    return sum(file.stat().st_size for file in weight_files(folder)) if folder.is_dir() else 0
