"""`eval_suite` of a training file: a few tasks of a suite that score the model while it trains."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from annotated_types import MinLen
from pydantic import BeforeValidator

from apo_soup.config.in_words import as_written
from apo_soup.config.keys import AboveZero, Positive, Text, in_list, key
from apo_soup.config.stage_file import Fault, Keys

if TYPE_CHECKING:
    from apo_soup.config.training import TrainingFile

# How its scores begin in a training's log, which trackers show as `eval/suite/...`; and the seconds of a scoring there.
LOGGED_SCORES = "eval_suite/"
LOGGED_SECONDS = f"{LOGGED_SCORES}seconds"
# How checkpoints may be written where the best of them is kept.
SAVING = ("steps", "epoch")
# Keys by which no process holds the model whole.
DIVIDING = ("fsdp", "deepspeed")


class EvalSuiteKeys(Keys):
    """Scores of tasks while a model trains, and the checkpoint that they choose."""

    file: Text | None = key(None, "eval file; by default `eval.yaml` beside this file", path=True)
    tasks: Annotated[list[Text], BeforeValidator(in_list, json_schema_input_type=Text | list[Text]), MinLen(1)] = key(
        meaning="tasks of it, by name; none of the harness or of another project's program"
    )
    items: Positive = key(50, "items of each task that are asked, the first ones")
    steps: AboveZero = key(
        0.1, "steps from one scoring to the next, or their share of all; the first step and the last are scored too"
    )
    keep_best: Text | None = key(
        None, "score, such as `problems/think`, whose best checkpoint is what the training ends with"
    )

    def faults(self) -> Iterator[Fault]:
        if self.steps > 1 and self.steps != int(self.steps):
            told = f"expected a number of steps, or a share of them below 1, got {as_written(self.steps)}; correct it"
            yield Fault("steps", told)
        for number, task in enumerate(self.tasks or []):
            if task in self.tasks[:number]:
                yield Fault(f"tasks.{number}", f"expected every task once, got {task} again; list it once")
        best = self.keep_best
        if best is not None and not any(f"{best}/".startswith(f"{task}/") for task in self.tasks or []):
            told = f"expected a score of one of the tasks ({', '.join(self.tasks or [])}), got {as_written(best)}"
            yield Fault("keep_best", f"{told}; add its task, or correct the name", ("tasks",))

    def every(self, steps: int) -> int:
        """Steps from one scoring to the next in a training of so many.

        >>> [EvalSuiteKeys(tasks=["problems"], steps=asked).every(30) for asked in (0.25, 1, 50)]
        [8, 1, 50]
        """
        return int(self.steps) if self.steps >= 1 else math.ceil(self.steps * steps)


def eval_suite_faults(recipe: "TrainingFile") -> Iterator[Fault]:
    """What is wrong with `eval_suite` beside the other keys of a training file."""
    keys = recipe.eval_suite
    if keys is None:
        return
    if any((recipe.fsdp, recipe.deepspeed)):
        dividing = next(name for name, value in zip(DIVIDING, (recipe.fsdp, recipe.deepspeed), strict=True) if value)
        told = f"expected a training whose processes hold the model whole, got {dividing}, which divides it or, as "
        told += "ZeRO-1 and 2, has not been tried with scores; leave one out"
        yield Fault("eval_suite", told, DIVIDING)
    if keys.keep_best is None:
        return
    if recipe.load_best_model_at_end:
        told = "expected none beside load_best_model_at_end, which keeps the best by held-out rows, got "
        told += f"{as_written(keys.keep_best)}; leave one of them out"
        yield Fault("eval_suite.keep_best", told, ("load_best_model_at_end",))
    elif recipe.save_strategy not in SAVING:
        told = f"expected save_strategy {' or '.join(SAVING)} beside it, got {as_written(recipe.save_strategy)}"
        yield Fault("eval_suite.keep_best", f"{told}; change it, or leave keep_best out", ("save_strategy",))
