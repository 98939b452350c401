"""Run a suite on one model: tasks to scores, with the items' outcomes and a few samples kept.

    apo-soup eval --config recipes/tiny/eval.yaml
    apo-soup eval --config recipes/tiny/eval.yaml --model runs/tiny/merged

Generation is greedy, so the same model, suite and versions give the same answers again.
"""

import importlib
import time
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, assert_never

import transformers
from transformers import PreTrainedModel

from apo_soup.config.endpoint import endpoint_address
from apo_soup.config.eval import (
    AnswerTask,
    ConsistencyTask,
    ContextLossTask,
    EvalFile,
    HarnessTask,
    LossTask,
    PreferenceTask,
    RecallTask,
    RowTask,
    SafetyTask,
    ScoredTask,
    ToolTask,
    TurnsTask,
)
from apo_soup.config.eval_keys import MadeOrRead, SampledKeys
from apo_soup.config.eval_programs import BfclTask, LiveCodeBenchTask
from apo_soup.data.sources.read import read_all_rows
from apo_soup.data.sources.rows import RowError
from apo_soup.errors import UserError
from apo_soup.evals.answers import answer_task, tool_task
from apo_soup.evals.as_trained import told_of_task
from apo_soup.evals.checkpoint import Checkpoint, load_checkpoint, served_checkpoint
from apo_soup.evals.consistency import consistency_task
from apo_soup.evals.engines import TransformersAnswers, VllmAnswers
from apo_soup.evals.harness.engine import HarnessEngine
from apo_soup.evals.harness.task import check_served_tasks, harness_task
from apo_soup.evals.items.needles import generated_needles
from apo_soup.evals.items.problems import generated_problems
from apo_soup.evals.items.tool_requests import generated_tool_requests
from apo_soup.evals.kept_tasks import KeptTasks, TaskPart, task_part
from apo_soup.evals.likelihood import context_loss_task, loss_task, preference_task, recall_task
from apo_soup.evals.metrics import ItemRow, PlacedRowError, TaskResult
from apo_soup.evals.outside.bfcl import bfcl_rows, bfcl_task
from apo_soup.evals.outside.livecodebench import livecodebench_rows, livecodebench_task
from apo_soup.evals.safety import safety_task
from apo_soup.evals.scorers import ServedScorer
from apo_soup.evals.task_progress import TaskProgress
from apo_soup.evals.turns import turns_task
from apo_soup.hashing import hash_value
from apo_soup.runs.manifest import write_json

RESULTS_SCHEMA = 2


def evaluate_model(
    suite: EvalFile, folder: Path, model: PreTrainedModel | None = None, output: Path | None = None, name: str = ""
) -> dict[str, Any]:
    """All tasks on one model, as docs/evals.md describes results.json.

    Args:
        folder: the model's folder, whose tokenizer is taken; with `model`, only the tokenizer is.
        name: what progress is told of; without one none is.
        output: where tasks leave files beside the results; finished tasks are kept next to it until all are.

    Raises:
        UserError: the model cannot be loaded, or rows do not fit their task.
    """
    if suite.endpoint is not None:
        checkpoint = served_checkpoint(suite)
        about, dtype = {"answers": "openai", "server": endpoint_address(suite.endpoint).url}, "auto"
    else:
        checkpoint = load_checkpoint(suite, folder, model)
        dtype = str(checkpoint.model.dtype).removeprefix("torch.")
        about = {"transformers": transformers.__version__, "device": checkpoint.model.device.type, "dtype": dtype}
        about |= {"answers": "vllm", "vllm": vllm_version()} if checkpoint.engine.name == "vllm" else {}
    progress = TaskProgress(name)
    checkpoint = replace(checkpoint, progress=progress)
    if isinstance(checkpoint.engine, TransformersAnswers):
        checkpoint.engine.progress = progress
    engine = HarnessEngine(checkpoint, checkpoint.engine.name, dtype)
    # Beside the folder of the results, which are whole or not there.
    kept = KeptTasks(output.parent / "tasks" if output else None, about | harness_release(suite))
    parts: dict[str, TaskPart] = {}
    parts |= {task.name: part for task in suite.tasks if (part := kept.found(task.name)) is not None}
    asked = [task for task in suite.tasks if task.name not in parts]
    if suite.endpoint is not None:
        check_served_tasks(checkpoint, [task for task in asked if isinstance(task, HarnessTask)], engine)
        if isinstance(checkpoint.scorer, ServedScorer) and any(isinstance(task, ScoredTask) for task in asked):
            checkpoint.scorer.tokens.check_scores()
    # Those that read probabilities first: vLLM takes the accelerator, for our kinds and then for the harness.
    for number, task in enumerate(sorted(asked, key=turn_of), 1):
        progress.begin(task.name, number, len(asked))
        if isinstance(task, HarnessTask) and isinstance(checkpoint.engine, VllmAnswers):
            checkpoint.engine.close()
        started = time.monotonic()
        if isinstance(task, HarnessTask):
            result, rows_hash = harness_task(checkpoint, task, engine)
        else:
            result, rows_hash = row_task(checkpoint, task)
        seconds = round(time.monotonic() - started, 2)
        record = {"kind": task.kind, "rows": rows_hash, "seconds": seconds, "metrics": list(result.metrics)}
        progress.end(result)
        parts[task.name] = task_part(task.name, record, result)
        kept.keep(task.name, parts[task.name])
    if isinstance(checkpoint.engine, VllmAnswers):
        checkpoint.engine.close()  # the next model needs the accelerator
    engine.close()
    names = [task.name for task in suite.tasks]
    if output is not None:
        for path, content in [file for name in names for file in parts[name]["files"].items()]:
            (output / path).parent.mkdir(exist_ok=True)
            write_json(output / path, content)
    if any(task.kind == "harness" for task in suite.tasks):
        about |= {"harness": engine.name} | harness_release(suite)
        about |= {"vllm": vllm_version()} if engine.name == "vllm" else {}
    return {
        "schema": RESULTS_SCHEMA,
        "engine": about,
        "seed": checkpoint.seed,
        "tasks": {name: parts[name]["record"] for name in names},
        "metrics": {key: metric for name in names for key, metric in parts[name]["metrics"].items()},
        "samples": [sample for name in names for sample in parts[name]["samples"]],
    }


def turn_of(task: RowTask | HarnessTask) -> int:
    """When a task is run: first those that read probabilities, then those that are answered, then the harness's."""
    return 2 if isinstance(task, HarnessTask) else int(isinstance(task, SampledKeys))


def harness_release(suite: EvalFile) -> dict[str, str]:
    """The harness's version, where a suite has tasks of it and it is installed."""
    asked = any(task.kind == "harness" for task in suite.tasks) and find_spec("lm_eval") is not None
    return {"lm_eval": version("lm_eval")} if asked else {}


def vllm_version() -> str:
    """The version of vLLM, whose builds have several names."""
    return str(importlib.import_module("vllm").__version__)


def row_task(checkpoint: Checkpoint, task: RowTask) -> tuple[TaskResult, str]:
    """The result of a task whose items lie in rows, and the hash of these rows.

    Raises:
        UserError: the rows do not fit the kind.
    """
    data = None if isinstance(task, BfclTask) else task.data
    key = "data" if data else "generate" if isinstance(task, MadeOrRead) else "name"
    try:
        rows = task_rows(checkpoint, task)
        return result_of_rows(checkpoint, task, rows), hash_value(rows)
    except RowError as error:
        of = "" if isinstance(error, PlacedRowError) else f"{data or 'a row that was made'}: "
        raise UserError(f"{checkpoint.place(task, key)}: {of}{told_of_task(error)}") from error


def result_of_rows(checkpoint: Checkpoint, task: RowTask, rows: list[ItemRow]) -> TaskResult:
    """What a task of any kind but the harness's gives on its rows.

    Raises:
        RowError: a row does not fit the kind.
        UserError: a verifier or another project's program is not there, or fails; or an answer does not fit the
            model's window.
    """
    match task:
        case AnswerTask():
            return answer_task(checkpoint, task, rows)
        case ToolTask():
            return tool_task(checkpoint, task, rows)
        case LiveCodeBenchTask():
            return livecodebench_task(checkpoint, task, rows)
        case BfclTask():
            return bfcl_task(checkpoint, task, rows)
        case TurnsTask():
            return turns_task(checkpoint, task, rows)
        case ConsistencyTask():
            return consistency_task(checkpoint, task, rows)
        case SafetyTask():
            return safety_task(checkpoint, task, rows)
        case RecallTask():
            return recall_task(checkpoint, task, rows)
        case PreferenceTask():
            return preference_task(checkpoint, task, rows)
        case LossTask():
            return loss_task(checkpoint, task, rows)
        case ContextLossTask():
            return context_loss_task(checkpoint, task, rows)
        case _:
            assert_never(task)


def task_rows(checkpoint: Checkpoint, task: RowTask) -> list[ItemRow]:
    """The rows of a task, the first `limit`: read from its file, or generated from the suite's seed.

    Raises:
        UserError: a row of the file is broken, or the file has none.
    """
    if isinstance(task, LiveCodeBenchTask):
        return livecodebench_rows(task, checkpoint.place(task, "data" if task.data else "release"))
    if isinstance(task, BfclTask):
        return bfcl_rows(task, checkpoint.place(task, "python"))
    match task:
        case AnswerTask(generate=items) if items:
            rows = list(map(ItemRow, generated_problems(checkpoint.seed, items)))
        case TurnsTask(generate=items) if items:
            whole = items.model_copy(update={"count": items.count * task.turns})
            rows = list(map(ItemRow, generated_problems(checkpoint.seed, whole)))
        case ToolTask(generate=items) if items:
            rows = list(map(ItemRow, generated_tool_requests(checkpoint.seed, items)))
        case RecallTask(generate=items) if items:
            rows = list(map(ItemRow, generated_needles(checkpoint.tokenizer, checkpoint.seed, items)))
        case _:
            read = read_all_rows(str(task.data), checkpoint.place(task, "data"))
            rows = [ItemRow(row.fields, row.place) for row in read]
    # Of a task over turns the items are conversations, which several rows may make.
    return rows if isinstance(task, TurnsTask) else rows[: task.limit]
