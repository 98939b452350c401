"""Run a suite on one model: tasks to scores, with the items' outcomes and a few samples kept.

    apo-soup eval --config recipes/tiny/eval.yaml
    apo-soup eval --config recipes/tiny/eval.yaml --model runs/tiny/merged

Generation is greedy, so the same model, suite and versions give the same answers again.
"""

import importlib
import importlib.util
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from apo_soup.config.recipe import Recipe
from apo_soup.data.rows import RowError, read_all
from apo_soup.errors import UserError
from apo_soup.evals import answers, likelihood
from apo_soup.evals.checkpoint import Checkpoint, load_checkpoint
from apo_soup.evals.harness import Engine, harness
from apo_soup.evals.items.calls import call_rows
from apo_soup.evals.items.needles import needle_rows
from apo_soup.evals.items.problems import problem_rows
from apo_soup.evals.metrics import Metric
from apo_soup.evals.suite import Task, read_tasks
from apo_soup.hashing import hash_value

Row = dict[str, Any]
Kind = Callable[[Checkpoint, Task, list[Row]], tuple[dict[str, Metric], list[dict[str, Any]]]]
KINDS: dict[str, Kind] = {
    "answer": answers.answer,
    "tool": answers.tool,
    "recall": likelihood.recall,
    "preference": likelihood.preference,
    "loss": likelihood.loss,
    "context_loss": likelihood.context_loss,
}
SCHEMA = 2


def evaluate(recipe: Recipe, folder: Path, model: PreTrainedModel | None = None) -> dict[str, Any]:
    """All tasks on one model, as docs/evals.md describes results.json.

    Args:
        folder: the model's folder, whose tokenizer is taken; with `model`, only the tokenizer is.
    """
    checkpoint = load_checkpoint(recipe, folder, model)
    dtype = str(checkpoint.model.dtype).removeprefix("torch.")
    about = {"transformers": transformers.__version__, "device": checkpoint.model.device.type, "dtype": dtype}
    engine = Engine(checkpoint, engine_of(recipe, model is not None), dtype)
    done = {}
    suite = read_tasks(recipe)
    # Ours first: the harness may hand the accelerator over to vLLM.
    for task in sorted(suite, key=lambda task: task.kind == "harness"):
        started = time.monotonic()
        found, said, rows = run(checkpoint, task, engine)
        seconds = round(time.monotonic() - started, 2)
        done[task.name] = (found, said, {"kind": task.kind, "rows": rows, "seconds": seconds, "metrics": list(found)})
    tasks, metrics, samples = {}, {}, []
    for task in suite:
        found, said, tasks[task.name] = done[task.name]
        metrics |= {name: metric.as_json() for name, metric in found.items()}
        samples += [{"task": task.name, **s} for s in said]
    if any(task.kind == "harness" for task in suite):
        about |= {"harness": engine.name, "lm_eval": version("lm_eval")}
        about |= {"vllm": engine_version()} if engine.name == "vllm" else {}
    return {
        "schema": SCHEMA,
        "engine": about,
        "seed": checkpoint.seed,
        "tasks": tasks,
        "metrics": metrics,
        "samples": samples,
    }


def engine_version() -> str:
    """The version of vLLM, whose builds have several names."""
    return importlib.import_module("vllm").__version__


def run(checkpoint: Checkpoint, task: Task, engine: Engine) -> tuple[dict[str, Metric], list[dict[str, Any]], str]:
    """One task's metrics by name, samples, and the hash of its items.

    Raises:
        UserError: the rows do not fit the kind.
    """
    if task.kind == "harness":
        return harness(checkpoint, task, engine)
    rows = items(checkpoint, task)
    try:
        return *KINDS[task.kind](checkpoint, task, rows), hash_value(rows)
    except (RowError, KeyError, ValueError) as error:
        source = task.data or "the generated rows"
        told = f"no field {error}" if isinstance(error, KeyError) else error
        raise UserError(
            f"{checkpoint.where}: task {task.name}: {source} does not fit kind {task.kind}: {told}"
        ) from error


def items(checkpoint: Checkpoint, task: Task) -> list[Row]:
    """The rows of a task: read from its file, or generated from the suite's seed."""
    if task.data:
        return [row.fields for row in read_all(task.data, checkpoint.where)][: task.limit]
    seed, settings = checkpoint.seed, dict(task.generate or {})
    where = f"{checkpoint.where}: task {task.name}"
    try:
        if task.kind == "answer":
            rows = problem_rows(where, seed, **settings)
        elif task.kind == "tool":
            rows = call_rows(seed, **settings)
        else:
            rows = needle_rows(checkpoint.tokenizer, seed, **settings)
    except TypeError as error:
        raise UserError(f"{where}: generate: {error}") from error
    return rows[: task.limit]


def engine_of(recipe: Recipe, mixed: bool) -> str:
    """`vllm` where the harness may use it: asked for, or installed beside a GPU. A mix in memory is transformers' only.

    Raises:
        UserError: vLLM is asked for and not installed.
    """
    asked, installed = recipe.values.get("harness_engine", "auto"), importlib.util.find_spec("vllm") is not None
    if asked == "vllm" and not installed:
        raise UserError(f"{recipe.where('harness_engine')}: vLLM is not installed; pip install 'apo-soup[vllm]'")
    wanted = asked == "vllm" or (asked == "auto" and installed and torch.cuda.is_available())
    return "vllm" if wanted and not mixed else "transformers"
