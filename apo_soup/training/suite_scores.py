"""Scores of a suite while a model trains: into the log and its trackers, and, where a recipe asks, the choice of the
checkpoint that is kept. The weights, their random numbers and the other logs are those of a training without.
"""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from apo_soup.config.suite_keys import LOGGED_SCORES, LOGGED_SECONDS, EvalSuiteKeys
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.progress import clock, say, warn
from apo_soup.runs.ranks import main_decides
from apo_soup.stops import STOPS
from apo_soup.training.asked_aside import asked_aside
from apo_soup.training.trainer import StageTrainer


@dataclass(frozen=True)
class SuiteScore:
    """A score of a suite; `better` is `higher`, `lower`, or None for what is neither."""

    value: float | None
    better: str | None

    @property
    def finite(self) -> bool:
        """Whether it is a number."""
        return self.value is not None and math.isfinite(self.value)


class ScoringStopped(Exception):
    """A signal asked for the end in the midst of a scoring."""


# Gives a model's scores by name; the second argument says whether nobody waits for them any more, and what calls it
# raises `ScoringStopped` then.
SuiteScorer = Callable[[PreTrainedModel, Callable[[], bool]], dict[str, SuiteScore]]


def require_whole_model(trainer: StageTrainer, recipe: TrainingFile) -> None:
    """Refuse to score a model that no process holds whole. ZeRO-1 and 2 leave it whole; that they take a scoring in the
    midst of their steps has not been tried.

    Raises:
        UserError: it is divided, or DeepSpeed's.
    """
    parts = (p for p in trainer.trained_model.parameters() if p.is_meta or hasattr(p, "full_tensor"))
    kind = "FSDP" if trainer.is_fsdp_enabled else "DeepSpeed" if trainer.is_deepspeed_enabled else None
    kind = kind or ("one in parts" if any(True for _ in parts) else None)
    if kind:
        raise UserError(
            f"{recipe.place('eval_suite')}: expected a model that each process holds whole, got {kind}; leave the key "
            "out, and evaluate the finished folder"
        )


class ScoreSuite(TrainerCallback):
    """Scores the model before the first step, every so many steps, and behind the last one. The main process does; the
    others wait.

    Stands before what ends a training at a signal: a scoring that a signal ends is made up for by the run that goes on.

    Args:
        name: the stage's.
        scorer: what asks the model.
    """

    def __init__(self, trainer: StageTrainer, recipe: TrainingFile, name: str, scorer: SuiteScorer):
        assert recipe.eval_suite is not None  # who has a scorer has asked for one
        self.trainer, self.recipe, self.name, self.scorer = trainer, recipe, name, scorer
        self.keys: EvalSuiteKeys = recipe.eval_suite
        if self.keys.keep_best is not None:
            # Behind TRL's own arguments, which would want held-out rows to choose by.
            trainer.args.load_best_model_at_end = True

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Score the model that training begins with, or goes on with where its checkpoint has no scores yet.

        Raises:
            UserError: a row does not fit its task, or `keep_best` names no score.
        """
        self._score_if_due(state, control)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Score the model where it is time.

        Raises:
            UserError: as above.
        """
        self._score_if_due(state, control)

    def _score_if_due(self, state: TrainerState, control: TrainerControl) -> None:
        step = state.global_step
        due = step % self.keys.every(state.max_steps) == 0 or step == state.max_steps
        if not due or any(entry["step"] == step and LOGGED_SECONDS in entry for entry in state.log_history):
            return
        with self.trainer.off_the_clock():
            found = main_decides(f"scores of {self.name} at step {step}", self._found)
        if found is None:
            return
        scores = {name: SuiteScore(*parts) for name, parts in found["scores"].items()}
        strange = [name for name, score in scores.items() if not score.finite]
        if strange:
            warn(f"{self.name}: step {step}: {', '.join(strange)} is no finite number; it is left out")
        finite = {name: score.value for name, score in scores.items() if score.finite}
        asked_to_log = control.should_log  # which any log answers, and the step's own comes behind this one
        logged = {f"{LOGGED_SCORES}{name}": value for name, value in finite.items()}
        self.trainer.log_beside(logged | {LOGGED_SECONDS: found["seconds"]})
        control.should_log = asked_to_log
        told = "  ".join(f"{name} {value:.3f}" for name, value in finite.items())
        say(f"{self.name}: step {step}/{state.max_steps}: {told or 'no score'}  ({clock(found['seconds'])})")
        if self.keys.keep_best is not None:
            self._choose(scores, state, control)

    def _found(self) -> dict[str, Any] | None:
        """Scores and seconds, as plain JSON; None where a signal came."""
        begun, trainer = time.monotonic(), self.trainer
        mixed = trainer.accelerator.mixed_precision != "no"
        computing = trainer.accelerator.autocast if mixed else nullcontext
        try:
            with asked_aside(trainer.trained_model, computing) as model:
                scores = self.scorer(model, lambda: STOPS.number is not None)
        except ScoringStopped:
            return None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # the next step's activations are of other shapes than what was generated
        plain = {name: [score.value, score.better] for name, score in scores.items()}
        return {"scores": plain, "seconds": round(time.monotonic() - begun, 2)}

    def _choose(self, scores: dict[str, SuiteScore], state: TrainerState, control: TrainerControl) -> None:
        """Have a checkpoint of the best step kept, which the training ends with."""
        name = str(self.keys.keep_best)
        score, place = scores.get(name), self.recipe.place("eval_suite.keep_best")
        if score is None or score.better is None:
            known = ", ".join(other for other, of_other in scores.items() if of_other.better is not None)
            raise UserError(
                f"{place}: expected a score that is better when higher or lower ({known}), got {name}; name another"
            )
        if not state.global_step or not score.finite:
            return
        value = float(score.value or 0.0)
        best = state.best_metric
        if best is not None and (value <= best if score.better == "higher" else value >= best):
            return
        state.best_metric, state.best_global_step = value, state.global_step
        written = self.trainer.folder / f"checkpoint-{state.global_step}"
        if written.is_dir():
            state.best_model_checkpoint = str(written)
        else:
            control.should_save = True


def suite_facts(state: TrainerState, chosen: bool) -> dict[str, Any]:
    """What a manifest keeps of the scores: those of the step that the folder is of, that step, and the seconds of all.

    Args:
        chosen: whether they chose the step.
    """
    entries = [entry for entry in state.log_history if LOGGED_SECONDS in entry]
    step = state.best_global_step if chosen and state.best_global_step is not None else state.global_step
    own = next((entry for entry in reversed(entries) if entry["step"] == step), {})
    scores = {
        name.removeprefix(LOGGED_SCORES): v
        for name, v in own.items()
        if name.startswith(LOGGED_SCORES) and name != LOGGED_SECONDS
    }
    seconds = round(sum(entry[LOGGED_SECONDS] for entry in entries), 2)
    return {"eval_suite": {"step": step, "scores": scores, "seconds": seconds}}
