"""The suite that scores a model while it trains, as `eval_suite` of a training file asks for it."""

from pathlib import Path

from apo_soup.config.eval import EvalFile, HarnessTask, SafetyTask, Task
from apo_soup.config.eval_programs import BfclTask, LiveCodeBenchTask
from apo_soup.config.load import load
from apo_soup.config.places import places_looked_at
from apo_soup.config.score_names import score_fault
from apo_soup.config.suite_keys import EvalSuiteKeys
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.hashing import hash_value
from apo_soup.runs.suite_inputs import suite_inputs


def training_suite(recipe: TrainingFile, keys: EvalSuiteKeys) -> EvalFile:
    """The eval file with the asked tasks alone, and of each so many items.

    Raises:
        UserError: it is not there or wrong, has no such task, or one that the process which trains cannot run; or no
            task has the score of `keep_best`.
    """
    file = Path(keys.file) if keys.file is not None else recipe.path.parent / "eval.yaml"
    if not file.is_file():
        key = "eval_suite" if keys.file is None else "eval_suite.file"
        looked = places_looked_at(keys.file, recipe.path.parent) if keys.file else "none lies beside this file"
        raise UserError(
            f"{recipe.place(key)}: expected an eval file, got {file}, which is not there; name one ({looked})"
        )
    suite = load(file, "eval")
    if suite.endpoint is not None:
        raise UserError(
            f"{recipe.place('eval_suite')}: expected a suite of models that lie here, got {file} with an endpoint, "
            "which serves another model than the one that trains; name a suite without"
        )
    known = [task.name for task in suite.tasks]
    for number, name in enumerate(keys.tasks):
        place = recipe.place(f"eval_suite.tasks.{number}")
        if name not in known:
            raise UserError(f"{place}: expected a task of {file} ({', '.join(known)}), got {name}; correct the name")
        reason = why_outside(suite.tasks[known.index(name)])
        if reason:
            raise UserError(
                f"{place}: expected a task that the process which trains can run, got {name}, which {reason}; leave it "
                "to the evaluation behind the training"
            )
    asked = suite.with_tasks(keys.tasks)
    fault = score_fault(keys.keep_best, asked.tasks) if keys.keep_best is not None else None
    if fault:
        raise UserError(f"{recipe.place('eval_suite.keep_best')}: {fault}")
    asked.tasks = [task.model_copy(update={"limit": min(keys.items, task.limit or keys.items)}) for task in asked.tasks]
    return asked


def why_outside(task: Task) -> str | None:
    """Why a task is not for a model in the midst of its training, behind "which"; None where it is."""
    if isinstance(task, HarnessTask):
        return "is lm-evaluation-harness's"
    if isinstance(task, LiveCodeBenchTask | BfclTask):
        return "another project's program scores"
    if isinstance(task, SafetyTask) and task.judge is not None:
        return "a served model judges"
    return None


def training_suite_hash(recipe: TrainingFile, keys: EvalSuiteKeys) -> str:
    """Hash of what the asked tasks ask, where their scores choose the checkpoint that is kept.

    Raises:
        UserError: as `training_suite`, or a file of rows is not there.
    """
    suite = training_suite(recipe, keys)
    return hash_value([suite.deciding_values(), suite_inputs(suite)])
