"""Run one task of kind `harness`: every mode and length through lm-eval's `simple_evaluate`."""

import io
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from itertools import product
from pathlib import Path
from typing import Any

from torch.utils import collect_env

from apo_soup.config.eval import HarnessTask
from apo_soup.errors import UserError, first_line, raised_by_us
from apo_soup.evals.checkpoint import Checkpoint
from apo_soup.evals.harness.engine import HarnessEngine
from apo_soup.evals.harness.models import AnswersInTurn, WindowError
from apo_soup.evals.harness.scores import metrics_of_results
from apo_soup.evals.harness.task_files import (
    check_ruler,
    entry_name,
    named_entries,
    restart_word_lists,
    task_file,
    task_manager,
)
from apo_soup.evals.installed import require_harness
from apo_soup.evals.metrics import AnswerSample, Metric, TaskResult
from apo_soup.hashing import hash_value


def harness_task(checkpoint: Checkpoint, task: HarnessTask, engine: HarnessEngine) -> tuple[TaskResult, str]:
    """Metrics and samples, and the hash of the items that were asked.

    With `lengths` (RULER), `NAME/LENGTH` is the mean over all tasks at that length; otherwise the first metric of each
    entry of `tasks` is its headline. Items are kept where the harness's own figure is their mean.

    Raises:
        UserError: the harness is not installed, knows no such task, cannot reach a task's data, or refuses a setting.
    """
    require_harness(checkpoint.suite, task)
    metrics: dict[str, Metric] = {}
    samples: list[AnswerSample] = []
    hashes = []
    with tempfile.TemporaryDirectory() as scratch, quiet_harness():
        if checkpoint.tokenizer is not None:  # of a served model there may be none
            checkpoint.tokenizer.save_pretrained(scratch)
        # A length at a time: the harness makes the items of all lengths in one row, of which `limit` takes the first.
        parts = [task.model_copy(update={"lengths": [n]}) for n in task.lengths] or [task]
        for mode, part in product(task.modes, parts):
            passes = lm_eval_passes(checkpoint, part, mode == "think", Path(scratch), engine)
            results = passes[0]
            prefix = f"{task.name}/{mode}" if len(task.modes) > 1 else task.name
            part_metrics = metrics_of_results(prefix, passes, bool(task.lengths), task.pass_at)
            metrics |= part_metrics
            if part.lengths and f"{prefix}/{part.lengths[0]}" not in part_metrics:
                names = ", ".join(map(entry_name, task.tasks))
                raise UserError(
                    f"{checkpoint.place(task, 'lengths')}: expected tasks that generate their items, such as "
                    f"RULER's, got {names}, which have no score at {part.lengths[0]} tokens; leave lengths out"
                )
            hashes.append([[s["doc_hash"] for s in kept] for _, kept in sorted(results["samples"].items())])
            samples += [
                AnswerSample(mode, str(s["arguments"][0][0]), str(s["filtered_resps"][0]), None)
                for kept in results["samples"].values()
                for s in kept[:1]
            ]
    engine.tell(checkpoint.place(task, "tasks"))
    return TaskResult(metrics, samples), hash_value(hashes)


def check_served_tasks(checkpoint: Checkpoint, tasks: Sequence[HarnessTask], engine: HarnessEngine) -> None:
    """Ask whether the server can do what the tasks need, before a question costs anything.

    Raises:
        UserError: with what it, or the file, lacks, or as `harness_task` does.
    """
    for task in tasks:
        require_harness(checkpoint.suite, task)
        if task.lengths and checkpoint.tokenizer is None:
            raise UserError(
                f"{checkpoint.place(task, 'lengths')}: expected endpoint.tokenizer beside lengths in tokens, got none; "
                "name the folder or Hub id of the served model's tokenizer, or leave the task out"
            )
        engine.served.check(task, needs_of_server(checkpoint, task))


def needs_of_server(checkpoint: Checkpoint, task: HarnessTask) -> dict[str, bool]:
    """The harness's tasks that need more of a server than chats, by name: whether its answers are scored, or begun.

    Raises:
        UserError: as `harness_task` does.
    """
    where, names = checkpoint.place(task, "tasks"), [entry_name(entry) for entry in task.tasks]
    if task.lengths:
        return dict.fromkeys(names, False)  # they would make their items now, and then again; RULER's are begun
    manager = task_manager(task.include)
    with quiet_harness(), lm_eval_refusals(where, names), tempfile.TemporaryDirectory() as scratch:
        files = [task_file(entry, task, manager, Path(scratch)) for entry in named_entries(task, manager, where)]
        loaded = manager.load(files)["tasks"]
    scored = {name: one.OUTPUT_TYPE != "generate_until" for name, one in loaded.items()}
    return {name: scored[name] for name, one in loaded.items() if scored[name] or one.config.gen_prefix}


def lm_eval_passes(
    checkpoint: Checkpoint, task: HarnessTask, think: bool, tokenizer: Path, engine: HarnessEngine
) -> list[dict[str, Any]]:
    """The harness's results with its samples, in one mode, a pass for each answer to an item; `tokenizer` is a folder
    that also takes task files.

    Raises:
        UserError: as `harness_task` does, and where the items of a task with repeats are not answered in writing.
    """
    model = engine.model(think, tokenizer)
    model.in_turn = in_turn = AnswersInTurn(task.repeats)
    passes = []
    for in_turn.turn in range(task.repeats):
        passes.append(lm_eval_results(checkpoint, task, model, tokenizer))
        scored = [name for name, c in passes[0]["configs"].items() if c["output_type"] != "generate_until"]
        if scored and task.repeats > 1:
            raise UserError(
                f"{checkpoint.place(task, 'repeats')}: expected tasks whose answers the model writes, got "
                f"{', '.join(scored)}, whose answers are given and scored, the same each time; leave repeats out"
            )
    return passes


def drawing_settings(task: HarnessTask) -> dict[str, Any]:
    """What a task's answers are drawn by. The harness's own files say `do_sample: false`, under which it takes a given
    temperature for 0.
    """
    settings = dict(task.gen_kwargs)
    if settings.get("temperature"):
        settings.setdefault("do_sample", True)
    if task.max_new_tokens:
        settings["max_gen_toks"] = task.max_new_tokens
    return settings


def lm_eval_results(checkpoint: Checkpoint, task: HarnessTask, model: Any, tokenizer: Path) -> dict[str, Any]:
    """The harness's results of one pass.

    Raises:
        UserError: as `harness_task` does.
    """
    from lm_eval import simple_evaluate

    manager = task_manager(task.include)
    entries = named_entries(task, manager, checkpoint.place(task, "tasks"))
    names = [entry_name(entry) for entry in entries]
    if "ruler_vt" in names:
        check_ruler(checkpoint, task)
    if any(name.startswith("ruler") for name in names):
        restart_word_lists()
    files = [task_file(entry, task, manager, tokenizer) for entry in entries]
    if task.unsafe_code:
        os.environ["HF_ALLOW_CODE_EVAL"] = "1"
    with lm_eval_refusals(checkpoint.place(task, "tasks"), names):
        found: dict[str, Any] = simple_evaluate(
            model,
            tasks=files,
            task_manager=manager,
            num_fewshot=task.num_fewshot,
            limit=task.limit,
            apply_chat_template=True,
            gen_kwargs=drawing_settings(task) or None,
            confirm_run_unsafe_code=task.unsafe_code,
            bootstrap_iters=0,
            log_samples=True,
            random_seed=checkpoint.seed,
            numpy_random_seed=checkpoint.seed,
            torch_random_seed=checkpoint.seed,
            fewshot_random_seed=checkpoint.seed,
        )
    return found


@contextmanager
def lm_eval_refusals(where: str, names: list[str]) -> Iterator[None]:
    """Turn what the harness refuses into a UserError; what our own classes raise inside it stays what it is."""
    from datasets.exceptions import DatasetNotFoundError, DatasetsError
    from huggingface_hub.errors import HTTPError
    from jinja2 import UndefinedError

    unreachable = (OSError, DatasetNotFoundError, HTTPError)  # what goes wrong with a request is an OSError too
    refusals = (ValueError, AssertionError, ImportError, KeyError, TypeError, UndefinedError, DatasetsError)
    try:
        yield
    except WindowError as error:
        raise UserError(f"{where}: {error}") from error
    except (*unreachable, *refusals) as error:
        if raised_by_us(error, "lm_eval"):
            raise
        if isinstance(error, unreachable):
            raise UserError(
                f"{where}: expected the data of {', '.join(names)}, got none that can be reached: {first_line(error)}; "
                "name local files in the task (dataset_path: json, dataset_kwargs)"
            ) from error
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(
            f"{where}: expected tasks that lm-eval takes, got a refusal of {', '.join(names)}: {reason}; correct what "
            "it names"
        ) from error


class NullStream(io.TextIOBase):
    """A stream that keeps nothing. It is never closed: the harness's log handlers hold on to the one they first saw."""

    def write(self, text: str) -> int:
        """Drop `text`; returns its length, as a stream does."""
        return len(text)


@contextmanager
def quiet_harness() -> Iterator[None]:
    """Leave the terminal to the suite: the harness logs every setting, and its generators print as they go. And leave
    out its report of the machine, for which it lists all packages behind every pass, by a program of seconds.
    """
    report = collect_env.get_pretty_env_info
    collect_env.get_pretty_env_info = lambda: "left out"
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    stream = NullStream()
    with redirect_stdout(stream), redirect_stderr(stream):
        try:
            yield
        finally:
            logger.setLevel(level)
            collect_env.get_pretty_env_info = report
