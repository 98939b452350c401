"""Intermediate steps of a member kept as soup members of their own, in folders such as `apo/1-at-50`."""

import time
from typing import Any

from accelerate import PartialState
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from apo_soup.config.recipe import Recipe
from apo_soup.errors import UserError
from apo_soup.progress import is_main
from apo_soup.runs.members import Kept
from apo_soup.training.saving import save_model


class KeepCheckpoints(TrainerCallback):
    """Puts the model of each kept step into place as a whole folder, before the Trainer saves that step itself.

    A run that is killed later therefore finds it there, and one killed earlier comes to the step again.
    """

    def __init__(self, trainer: Trainer, recipe: Recipe, kept: list[Kept]):
        self.trainer, self.recipe, self.kept = trainer, recipe, kept
        self.at: dict[int, Kept] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        for kept in self.kept:
            step = kept.step(state.max_steps)
            if step >= state.max_steps:
                raise UserError(
                    f"{self.recipe.where('checkpoints')}: checkpoint {kept.at} is not before the end; the member has "
                    f"{state.max_steps} steps and its end is a member anyway"
                )
            if step in self.at:
                raise UserError(
                    f"{self.recipe.where('checkpoints')}: checkpoints {self.at[step].at} and {kept.at} are both step "
                    f"{step} of {state.max_steps}; keep one of them"
                )
            if step <= state.global_step and kept.stage.stale():
                raise UserError(
                    f"{self.recipe.where('checkpoints')}: checkpoint {kept.at} is step {step}, and the member goes on "
                    f"from step {state.global_step}; remove {args.output_dir} to train it anew"
                )
            self.at[step] = kept
            kept.stage.started = time.monotonic()  # planned long before, when other members were still to be trained

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step not in self.at:
            return
        stage = self.at[state.global_step].stage
        folder = stage.partial / "final"
        save_model(self.trainer, folder, self.recipe)
        if is_main():
            stage.finish(folder, {"steps": state.global_step})
        PartialState().wait_for_everyone()
