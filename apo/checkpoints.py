"""Intermediate steps of a member kept as soup members of their own, in folders such as `apo/1-at-50`."""

import time
from typing import Any

from accelerate import PartialState
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from apo_soup.config.apo import ApoFile
from apo_soup.config.places import run_folder_of
from apo_soup.errors import UserError, told_while_at_work
from apo_soup.progress import is_main
from apo_soup.runs.members import Kept
from apo_soup.runs.ranks import ended_together
from apo_soup.training.saving import save_model


class KeepCheckpoints(TrainerCallback):
    """Puts the model of each kept step into place as a whole folder, before the Trainer saves that step itself.

    A run that is killed later therefore finds it there, and one killed earlier comes to the step again.
    """

    def __init__(self, trainer: Trainer, recipe: ApoFile, kept: list[Kept]):
        self.trainer, self.recipe, self.kept = trainer, recipe, kept
        self.at: dict[int, Kept] = {}  # by step, once the number of steps is known

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Find the steps to keep.

        Raises:
            UserError: this run does not come to one of them.
        """
        where = self.recipe.place("checkpoints")
        for kept in self.kept:
            step = kept.step(state.max_steps)
            if step >= state.max_steps:
                raise UserError(
                    f"{where}: expected steps before the last one, {state.max_steps}, got {kept.at}; leave it out, the "
                    "end is a member anyway"
                )
            if step in self.at:
                raise UserError(
                    f"{where}: expected different steps, got {self.at[step].at} and {kept.at}, which are both step "
                    f"{step} of {state.max_steps}; keep one of them"
                )
            if step <= state.global_step and kept.stage.stale():
                raise UserError(
                    f"{where}: expected steps after {state.global_step}, where the member goes on, got {kept.at}, "
                    f"which is step {step}; remove {args.output_dir} to train it anew"
                )
            self.at[step] = kept
            kept.stage.started = time.monotonic()  # planned long before, when other members were still to be trained

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Put the model's folder into place where this step is one to keep.

        Raises:
            UserError: the disk refuses it.
        """
        if state.global_step not in self.at:
            return
        stage = self.at[state.global_step].stage
        folder = stage.partial / "final"
        refusals_told = told_while_at_work(self.recipe.path, run_folder_of(self.recipe))
        with ended_together(f"{stage.name} is put into its place"), refusals_told:
            into = save_model(self.trainer, folder, self.recipe)
            if is_main():
                stage.finish(folder, {"steps": state.global_step} | ({"merged_into": into} if into else {}))
            PartialState().wait_for_everyone()
