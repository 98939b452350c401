"""A suite's tasks on a model in the midst of its training: what `eval_suite` of a training file asks for.

`sft` and `apo` call this, and nothing else of evaluation: a model that is trained lies on no disk, where they would
meet otherwise. How the model is left as it was is training's (`apo_soup/training/asked_aside.py`).
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from apo_soup.config.eval import EvalFile, RowTask
from apo_soup.config.training import TrainingFile
from apo_soup.data.rendering.loaded_model import LoadedModel, answer_ends
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.evals.checkpoint import Checkpoint
from apo_soup.evals.engines import TransformersAnswers
from apo_soup.evals.program import check_tasks
from apo_soup.evals.run import row_task, turn_of
from apo_soup.evals.scorers import ModelScorer
from apo_soup.evals.task_progress import TaskProgress
from apo_soup.models.tokenizer import TokenizerKeys, lay_template
from apo_soup.training.suite_scores import ScoringStopped, SuiteScore, SuiteScorer


@dataclass
class StoppableProgress(TaskProgress):
    """Says nothing, and ends what it is told of where nobody waits for it any more."""

    stopped: Callable[[], bool] = field(default=lambda: False)

    def count(self, total: int, unit: str) -> None:
        """See `TaskProgress.count`.

        Raises:
            ScoringStopped: nobody waits.
        """
        self.at(0)

    def at(self, done: int) -> None:
        """See `TaskProgress.at`.

        Raises:
            ScoringStopped: nobody waits.
        """
        if self.stopped():
            raise ScoringStopped


def suite_scorer(suite: EvalFile, recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase) -> SuiteScorer:
    """What gives the headline scores of a suite's tasks, and the one that a recipe keeps the best checkpoint by.

    Args:
        suite: of tasks that `training_suite` let through.
        tokenizer: the one that the finished folder will have.

    Raises:
        UserError: a file of rows is not there, or a template is not.
    """
    check_tasks(suite)
    own = copy.deepcopy(tokenizer)  # generation pads it on the left, rows of training on the right
    lay_template(own, recipe.model_name_or_path, suite.place("chat_template"), TokenizerKeys(suite.chat_template))
    renderer = Renderer(own)
    kept = recipe.eval_suite.keep_best if recipe.eval_suite else None
    tasks: list[RowTask] = sorted(suite.tasks, key=turn_of)  # type: ignore[arg-type]  # none is the harness's

    def scores(model: PreTrainedModel, stopped: Callable[[], bool]) -> dict[str, SuiteScore]:
        progress = StoppableProgress(stopped=stopped)
        asked = LoadedModel(model, own, renderer, answer_ends(renderer, model))
        engine = TransformersAnswers(asked, suite.batch_size)
        engine.progress = progress
        checkpoint = Checkpoint(
            suite=suite,
            folder=Path(recipe.model_name_or_path),
            model=model,
            tokenizer=own,
            renderer=renderer,
            template=renderer,
            batch_size=suite.batch_size,
            samples=0,
            seed=suite.seed,
            engine=engine,
            scorer=ModelScorer(model, suite.max_context_tokens_per_batch),
            progress=progress,
        )
        found: dict[str, SuiteScore] = {}
        for task in tasks:
            progress.at(0)
            result, _ = row_task(checkpoint, task)
            found |= {
                name: SuiteScore(metric.score.value, metric.better)
                for name, metric in result.metrics.items()
                if metric.headline or name == kept
            }
        return found

    return scores
