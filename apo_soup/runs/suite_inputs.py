"""What the results of an eval file depend on beside its text and the model: rows, tasks, template, verifiers."""

import importlib.util
import subprocess
from pathlib import Path
from typing import Any

from apo_soup.config.eval import (
    AnswerTask,
    ConsistencyTask,
    ContextLossTask,
    EvalFile,
    HarnessTask,
    LossTask,
    PreferenceTask,
    SafetyTask,
    ToolTask,
    TurnsTask,
)
from apo_soup.config.eval_keys import MadeOrRead
from apo_soup.config.eval_programs import BfclTask, LiveCodeBenchTask
from apo_soup.config.load import load
from apo_soup.config.mixture import EvalPromptsKeys, is_suite
from apo_soup.config.places import places_looked_at
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.hashing import hash_file, hash_tree, hash_value
from apo_soup.runs.chat_template import template_text
from apo_soup.runs.known_hashes import content_hash
from apo_soup.runs.sources import rows_hash, tokenizer_hash

# Kinds of task that can read rows from a file.
TaskWithRows = (
    MadeOrRead | ConsistencyTask | SafetyTask | PreferenceTask | LossTask | ContextLossTask | LiveCodeBenchTask
)


def tasks_with_rows(suite: EvalFile) -> list[tuple[TaskWithRows, str]]:
    """The tasks of an eval file that read rows, with their files; the others make items, or are the harness's."""
    return [(task, task.data) for task in suite.tasks if isinstance(task, TaskWithRows) and task.data is not None]


def suite_inputs(suite: EvalFile) -> dict[str, str]:
    """Content hashes by label of all that decides a suite's results beside its own text, the model and the code.

    Raises:
        UserError: a file or folder that it names is not there.
    """
    inputs = {}
    for number, task in enumerate(suite.tasks):
        if isinstance(task, TaskWithRows) and task.data:
            inputs[f"rows {task.written('data')}"] = rows_hash(
                task.data, suite.place(f"tasks.{number}.data"), None, suite.path.parent
            )
        if isinstance(task, HarnessTask) and task.include:
            if not Path(task.include).is_dir():
                raise UserError(
                    f"{suite.place(f'tasks.{number}.include')}: expected a folder of lm-evaluation-harness tasks, got "
                    f"{task.include}; correct the path ({places_looked_at(task.include, suite.path.parent)})"
                )
            inputs[f"tasks in {task.written('include')}"] = hash_tree(Path(task.include), "*")
        source = verifier_source(task.verifier) if isinstance(task, AnswerTask | ConsistencyTask) else None
        if isinstance(task, AnswerTask | ConsistencyTask) and source:
            inputs[f"verifier {task.verifier}"] = hash_file(Path(source))
        if isinstance(task, BfclTask):
            inputs[f"bfcl-eval of {task.written('python')}"] = package_version(Path(task.python), "bfcl-eval")
        if isinstance(task, LiveCodeBenchTask) and task.program:
            inputs[f"program in {task.written('program')}"] = hash_tree(Path(task.program) / "lcb_runner")
        for file in data_files(task.given_values()):
            inputs[f"file {file}"] = content_hash(Path(file))
    template = template_text(suite.chat_template, suite.place("chat_template"), suite.path.parent)
    inputs["template"] = hash_value(template)
    if suite.endpoint is not None and suite.endpoint.tokenizer:
        inputs["tokenizer"] = tokenizer_hash(suite.endpoint.tokenizer, suite.place("endpoint.tokenizer"))
    return inputs


def package_version(python: Path, package: str) -> str:
    """The version of a package in another environment, by its Python; why there is none where it cannot say one."""
    words = [str(python.absolute()), "-I", "-c", f"from importlib.metadata import version; print(version({package!r}))"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"none: {type(error).__name__}"  # what runs the task tells it in a sentence
    return said.stdout.strip() if said.returncode == 0 else "none"


def data_files(node: Any, inside: bool = False) -> list[str]:
    """The existing files among those named below a key `data_files`, as harness tasks name their rows."""
    if isinstance(node, dict):
        return [f for key, value in node.items() for f in data_files(value, inside or key == "data_files")]
    if isinstance(node, list):
        return [f for value in node for f in data_files(value, inside)]
    return [node] if inside and isinstance(node, str) and Path(node).is_file() else []


def verifier_source(name: str) -> str | None:
    """The source file of a verifier named as `package.module:function`, whose content decides the verdicts."""
    module, colon, _ = name.partition(":")
    try:
        spec = importlib.util.find_spec(module) if colon else None
    except Exception:  # finding a module imports its package, which may do anything; `verifier` tells what it did
        return None
    return spec.origin if spec and spec.has_location else None


def eval_rows_hash(recipe: TrainingFile) -> str | None:
    """Hash of the evaluation prompts that `dataset_mixture.decontaminate` names; None where nothing is named.

    Raises:
        UserError: a file that it names is not there.
    """
    folder = recipe.path.parent
    hashes: list[Any] = []
    for number, entry in enumerate(recipe.dataset_mixture.decontaminate or []):
        where = recipe.place(f"dataset_mixture.decontaminate.{number}")
        if isinstance(entry, EvalPromptsKeys):
            hashes.append({**entry.given_values(), "id": rows_hash(entry.id, f"{where}.id", entry.revision, folder)})
        elif is_suite(entry):
            hashes.append(
                [
                    [rows_hash(data, f"{where} ({entry})", None, Path(entry).parent), question_field(task)]
                    for task, data in tasks_with_rows(named_suite(recipe, number))
                ]
            )
        else:
            hashes.append(rows_hash(entry, where, None, folder))
    return hash_value(hashes) if hashes else None


def named_suite(recipe: TrainingFile, number: int) -> EvalFile:
    """The eval file that an entry of `dataset_mixture.decontaminate` names.

    Raises:
        UserError: it is not there, or with everything that is wrong with it.
    """
    key = f"dataset_mixture.decontaminate.{number}"
    file = str((recipe.dataset_mixture.decontaminate or [])[number])
    if not Path(file).is_file():
        raise UserError(
            f"{recipe.place(key)}: expected an eval file, got {file}, which is not there; correct the path "
            f"({places_looked_at(file, recipe.path.parent)})"
        )
    return load(file, "eval")


def question_field(task: TaskWithRows) -> str | None:
    """The field of a task's prompts where the suite names one. A default would make finished stages stale."""
    if isinstance(task, ConsistencyTask):
        return task.question
    if isinstance(task, AnswerTask | ToolTask | TurnsTask | SafetyTask) and task.gives("question"):
        return task.question
    return None
