"""What the harness is asked for: names of its tasks, or files that lay a suite's keys over them."""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from apo_soup.config.eval import HarnessEntry, HarnessTask
from apo_soup.errors import UserError
from apo_soup.evals.checkpoint import Checkpoint

Entry = str | HarnessEntry

# RULER's variable tracking puts an example of at most 500 tokens before its question, and leaves 30 for the answer.
# Where the smallest example or the smallest question behind it does not fit, the harness searches for ever.
RULER_EXAMPLE, RULER_ANSWER, RULER_MARGIN = 500, 30, 40
# The harness's key of each split, and the name that the split goes by.
USUAL_SPLITS = (("training_split", "train"), ("validation_split", "validation"), ("fewshot_split", "train"))


@cache
def task_manager(include: str | None) -> Any:
    """The harness's index of tasks, its own and those of a folder. It reads thousands of files, so it is made once."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=include)


def named_entries(task: HarnessTask, manager: Any, where: str) -> list[Entry]:
    """The entries of a task; with lengths, a group such as `ruler` as the tasks in it, which are told their lengths.

    Raises:
        UserError: an entry is a name that the harness does not know.
    """
    entries: list[Entry] = []
    for entry in task.tasks:
        if task.lengths and isinstance(entry, str) and entry in manager.all_groups:
            group = yaml.safe_load(Path(manager.task_index[entry].yaml_path).read_text(encoding="utf-8"))
            entries += (HarnessEntry.model_validate(e) if isinstance(e, dict) else e for e in group["task"])
        else:
            entries.append(entry)
    for entry in entries:
        if isinstance(entry, str) and not manager.match_tasks([entry]):
            raise UserError(f"{where}: expected a task, group or tag of lm-eval, got {entry}; see `lm-eval ls tasks`")
    return entries


def entry_name(entry: Entry) -> str:
    """The name of a task."""
    return entry if isinstance(entry, str) else entry.task


def task_file(entry: Entry, task: HarnessTask, manager: Any, folder: Path) -> str | dict[str, Any]:
    """A task as the harness takes it: a name, or a file in `folder` that includes a known task and lays keys over it.

    So `{task: gsm8k, dataset_path: json, dataset_kwargs: {...}}` is GSM8K on other data, and a task that generates its
    own items is told their lengths, and the tokenizer in `folder` to count them by.
    """
    name = entry_name(entry)
    overlay: dict[str, Any] = {"task": name} if isinstance(entry, str) else entry.given_values()
    files = None if isinstance(entry, str) else (entry.dataset_kwargs or {}).get("data_files")
    if isinstance(files, dict):
        # Splits of the task's own data that the local files do not have would be asked for and not found.
        for key, usual in USUAL_SPLITS:
            if usual not in files:
                overlay.setdefault(key, None)
    if task.lengths:
        generator = {"tokenizer": str(folder), "max_seq_lengths": list(task.lengths)}
        overlay["metadata"] = generator | ((None if isinstance(entry, str) else entry.metadata) or {})
    known = manager.task_index.get(name)
    if overlay == {"task": entry} or known is None or known.yaml_path is None:
        return entry if isinstance(entry, str) else overlay
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump({"include": str(known.yaml_path), **overlay}), encoding="utf-8")
    return str(file)


def check_ruler(checkpoint: Checkpoint, task: HarnessTask) -> None:
    """Refuse a tokenizer or a length for which RULER's variable tracking would search for ever.

    Raises:
        UserError: the smallest example, or the smallest question behind it, does not fit.
    """
    from lm_eval.tasks.ruler.vt_utils import generate_input_output

    example = len(checkpoint.ids(generate_input_output(5, 1, 4, is_icl=True)[0])) + RULER_MARGIN
    question = len(checkpoint.ids(generate_input_output(10, 1, 4)[0])) + RULER_MARGIN
    if example + RULER_ANSWER > RULER_EXAMPLE:
        raise UserError(
            f"{checkpoint.place(task, 'tasks')}: ruler_vt: expected an example of at most {RULER_EXAMPLE} tokens, "
            f"got {example + RULER_ANSWER} with this tokenizer; leave ruler_vt out"
        )
    needed = RULER_EXAMPLE + question + RULER_ANSWER
    shortest = min(task.lengths, default=4096)
    if shortest < needed:
        raise UserError(
            f"{checkpoint.place(task, 'lengths')}: expected {needed} or more for ruler_vt with this "
            f"tokenizer, got {shortest}; give longer ones or leave ruler_vt out"
        )


def restart_word_lists() -> None:
    """Let RULER's word generator begin anew: it belongs to a module and goes on from one checkpoint to the next, which
    would ask each of them other items. The harness loads the module again where it is not there.
    """
    sys.modules.pop("lm_eval.tasks.ruler.cwe_utils", None)
