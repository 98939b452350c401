"""Tasks of lm-evaluation-harness on a checkpoint: its task files, our template, modes and record of single items.

    - {name: ruler, kind: harness, tasks: [niah_single_1, ruler_vt], lengths: [4096, 8192], limit: 50}
    - {name: gsm8k, kind: harness, tasks: [gsm8k_cot_zeroshot], modes: [think, no_think], include: my/tasks}

What the harness does by itself it does: prompts, stop words, filters, scores. Two things it does not, and they change
scores of reasoning models, are done here: in think mode stop words such as a blank line do not end the reasoning, and
an answer whose reasoning never closed scores as empty, not as the trace's last number.
"""

import io
import logging
import os
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
import yaml

from apo_soup.errors import UserError, first_line
from apo_soup.evals.checkpoint import Checkpoint
from apo_soup.evals.metrics import Metric, item_metric
from apo_soup.evals.suite import Task
from apo_soup.hashing import hash_value
from apo_soup.statistics import Score, Z
from apo_soup.verify.answers import END_OF_THINKING

THINK = "<think>"
# RULER's variable tracking puts an example of at most 500 tokens before its question, and leaves 30 for the answer.
# Where the smallest example or the smallest question behind it does not fit, the harness searches for ever.
RULER_EXAMPLE, RULER_ANSWER, RULER_MARGIN = 500, 30, 40


# vLLM makes its own batches. "auto" would do, but draws a bar, and divides by its time where bars are switched off.
ALL_AT_ONCE = 2**20


class Engine:
    """What runs the harness's requests for one checkpoint: our transformers model, or vLLM, which is started once."""

    def __init__(self, checkpoint: Checkpoint, name: str, dtype: str):
        self.checkpoint, self.name, self.dtype = checkpoint, name, dtype
        self._vllm: Any = None

    def model(self, think: bool, tokenizer: str) -> Any:
        """The harness's view of the checkpoint in one mode."""
        settings = {"enable_thinking": think, "think_end_token": END_OF_THINKING}
        if self.name != "vllm":
            own = {"tokenizer": self.checkpoint.tokenizer, "batch_size": self.checkpoint.batch_size}
            return reasoning_model()(pretrained=self.checkpoint.model, **own, **settings)
        if self._vllm is None:
            self.checkpoint.model.to("cpu")  # vLLM loads the weights itself, and takes what memory is left
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            own = {"pretrained": str(self.checkpoint.folder), "tokenizer": tokenizer, "dtype": self.dtype}
            self._vllm = reasoning_vllm()(**own, **settings, seed=self.checkpoint.seed, batch_size=ALL_AT_ONCE)
        self._vllm.enable_thinking = think
        return self._vllm


def harness(checkpoint: Checkpoint, task: Task, engine: Engine) -> tuple[dict[str, Metric], list[dict[str, Any]], str]:
    """Metrics by name, samples, and the hash of the items that were asked.

    With `lengths` (RULER), `NAME/LENGTH` is the mean over all tasks at that length; otherwise the first metric of each
    entry of `tasks` is its headline. Items are kept where the harness's own figure is their mean.

    Raises:
        UserError: the harness is not installed, knows no such task, cannot reach a task's data, or refuses a setting.
    """
    try:
        import lm_eval  # noqa: F401  (asked for here, so that its absence is one sentence)
    except ImportError as error:
        raise UserError(f"{checkpoint.where}: task {task.name} needs lm-eval; pip install 'apo-soup[eval]'") from error
    metrics: dict[str, Metric] = {}
    samples: list[dict[str, Any]] = []
    hashes = []
    with tempfile.TemporaryDirectory() as scratch, quiet():
        checkpoint.tokenizer.save_pretrained(scratch)
        # A length at a time: the harness makes the items of all lengths in one row, of which `limit` takes the first.
        parts = [replace(task, lengths=(n,)) for n in task.lengths] or [task]
        for mode, part in product(task.modes, parts):
            results = evaluated(checkpoint, part, mode == "think", scratch, engine)
            prefix = f"{task.name}/{mode}" if len(task.modes) > 1 else task.name
            found = scored(prefix, results, bool(task.lengths))
            metrics |= found
            if part.lengths and f"{prefix}/{part.lengths[0]}" not in found:
                raise UserError(
                    f"{checkpoint.where}: task {task.name}: {', '.join(map(str, task.tasks))} have no score at "
                    f"{part.lengths[0]} tokens; lengths are for tasks that make their items, such as RULER's"
                )
            hashes.append([[s["doc_hash"] for s in kept] for _, kept in sorted(results["samples"].items())])
            samples += [
                {
                    "mode": mode,
                    "question": str(s["arguments"][0][0]),
                    "answer": str(s["filtered_resps"][0]),
                    "right": None,
                }
                for kept in results["samples"].values()
                for s in kept[:1]
            ]
    return metrics, samples, hash_value(hashes)


class Nowhere(io.TextIOBase):
    """A stream that keeps nothing. It is never closed: the harness's log handlers hold on to the one they first saw."""

    def write(self, text: str) -> int:
        return len(text)


@contextmanager
def quiet() -> Iterator[None]:
    """Leave the terminal to the suite: the harness logs every setting, and its generators print as they go."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    nowhere = Nowhere()
    with redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            yield
        finally:
            logger.setLevel(level)


def restart_word_lists() -> None:
    """Let RULER's word generator begin anew: it belongs to a module and goes on from one checkpoint to the next, which
    would ask each of them other items. The harness loads the module again where it is not there.
    """
    sys.modules.pop("lm_eval.tasks.ruler.cwe_utils", None)


def evaluated(checkpoint: Checkpoint, task: Task, think: bool, tokenizer: str, engine: Engine) -> dict[str, Any]:
    """The harness's results with its samples, in one mode."""
    from datasets.exceptions import DatasetNotFoundError, DatasetsError
    from huggingface_hub.errors import HTTPError
    from jinja2 import UndefinedError
    from lm_eval import simple_evaluate

    manager = task_manager(task.include)
    entries = expanded(task, manager)
    names = [entry if isinstance(entry, str) else entry.get("task") for entry in entries]
    for name in names:
        if name is None or (isinstance(entries[names.index(name)], str) and not manager.match_tasks([name])):
            raise UserError(f"{checkpoint.where}: lm-eval has no task, group or tag called {name} (task {task.name})")
    if "ruler_vt" in names:
        check_ruler(checkpoint, task)
    if any(str(name).startswith("ruler") for name in names):
        restart_word_lists()
    settings = dict(task.gen_kwargs)
    if task.max_new_tokens:
        settings["max_gen_toks"] = task.max_new_tokens
    if task.unsafe_code:
        os.environ["HF_ALLOW_CODE_EVAL"] = "1"
    try:
        return simple_evaluate(
            engine.model(think, tokenizer),
            tasks=[spec(entry, task, manager, Path(tokenizer)) for entry in entries],
            task_manager=manager,
            num_fewshot=task.num_fewshot,
            limit=task.limit,
            apply_chat_template=True,
            gen_kwargs=settings or None,
            confirm_run_unsafe_code=task.unsafe_code,
            bootstrap_iters=0,
            log_samples=True,
            random_seed=checkpoint.seed,
            numpy_random_seed=checkpoint.seed,
            torch_random_seed=checkpoint.seed,
            fewshot_random_seed=checkpoint.seed,
        )
    except (ConnectionError, FileNotFoundError, DatasetNotFoundError, HTTPError) as error:
        raise UserError(
            f"{checkpoint.where}: task {task.name}: the data of {', '.join(names)} cannot be reached: "
            f"{first_line(error)}; name local files in the task (dataset_path: json, dataset_kwargs)"
        ) from error
    except (ValueError, AssertionError, ImportError, KeyError, TypeError, UndefinedError, DatasetsError) as error:
        told = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{checkpoint.where}: task {task.name}: lm-eval refuses it: {told}") from error


@cache
def task_manager(include: str | None) -> Any:
    """The harness's index of tasks, its own and those of a folder. It reads thousands of files, so it is made once."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=include)


def expanded(task: Task, manager: Any) -> list[str | dict[str, Any]]:
    """The entries of a task; with lengths, a group such as `ruler` as the tasks in it, which are told their lengths."""
    entries: list[str | dict[str, Any]] = []
    for entry in task.tasks:
        if task.lengths and entry in manager.all_groups:
            group = yaml.safe_load(Path(manager.task_index[entry].yaml_path).read_text(encoding="utf-8"))
            entries += group["task"]
        else:
            entries.append(entry)
    return entries


def spec(entry: str | dict[str, Any], task: Task, manager: Any, scratch: Path) -> str | dict[str, Any]:
    """A task as the harness takes it: a name, or a file that includes a known task and lays keys over it.

    So `{task: gsm8k, dataset_path: json, dataset_kwargs: {...}}` is GSM8K on other data, and a task that makes its own
    items is told their lengths and the tokenizer to count them by.
    """
    changes = {"task": entry} if isinstance(entry, str) else dict(entry)
    files = (changes.get("dataset_kwargs") or {}).get("data_files")
    if isinstance(files, dict):
        # Splits of the task's own data that the local files do not have would be asked for and not found.
        for key, usual in (("training_split", "train"), ("validation_split", "validation"), ("fewshot_split", "train")):
            if usual not in files:
                changes.setdefault(key, None)
    if task.lengths:
        told = {"tokenizer": str(scratch), "max_seq_lengths": list(task.lengths)}
        changes["metadata"] = told | (changes.get("metadata") or {})
    known = manager.task_index.get(changes["task"])
    if changes == {"task": entry} or known is None or known.yaml_path is None:
        return entry if isinstance(entry, str) else changes
    file = scratch / f"{changes['task']}.yaml"
    file.write_text(yaml.safe_dump({"include": str(known.yaml_path), **changes}))
    return str(file)


def check_ruler(checkpoint: Checkpoint, task: Task) -> None:
    """Refuse a tokenizer or a length for which RULER's variable tracking would search for ever."""
    from lm_eval.tasks.ruler.vt_utils import generate_input_output

    example = len(checkpoint.ids(generate_input_output(5, 1, 4, is_icl=True)[0])) + RULER_MARGIN
    question = len(checkpoint.ids(generate_input_output(10, 1, 4)[0])) + RULER_MARGIN
    if example + RULER_ANSWER > RULER_EXAMPLE:
        raise UserError(
            f"{checkpoint.where}: task {task.name}: ruler_vt cannot fit its example of {RULER_EXAMPLE} tokens with "
            f"this tokenizer, which needs {example + RULER_ANSWER}; leave ruler_vt out"
        )
    needed = RULER_EXAMPLE + question + RULER_ANSWER
    if min(task.lengths, default=4096) < needed:
        raise UserError(
            f"{checkpoint.where}: task {task.name}: ruler_vt needs lengths of {needed} tokens or more with this "
            f"tokenizer, found {min(task.lengths)}"
        )


def check_window(lm: Any, requests: list[Any]) -> None:
    """Refuse prompts that do not fit the model's window with their answer: the harness would cut them from the left."""
    for request in requests:
        prompt, settings = request.args
        room = lm.max_length - int(settings.get("max_gen_toks", lm.max_gen_toks))
        length = len(lm.tok_encode(prompt))
        if length > room:
            raise ValueError(
                f"a prompt has {length:,} tokens, and the model's window of {lm.max_length:,} has room for {room:,} "
                "beside the answer; ask for shorter lengths, or for fewer max_new_tokens"
            )


def check_scored(lm: Any, requests: list[tuple[Any, list[int], list[int]]]) -> None:
    """As `check_window`, for requests whose continuation is scored."""
    for _, context, continuation in requests:
        if len(context) + len(continuation) > lm.max_length + 1:
            raise ValueError(
                f"a text has {len(context) + len(continuation):,} tokens, and the model's window {lm.max_length:,}"
            )


class Windowed:
    """One of the harness's models that refuses what does not fit its window."""

    def generate_until(self, requests: list[Any], *args: Any, **kwargs: Any) -> list[str]:
        check_window(self, requests)
        return super().generate_until(requests, *args, **kwargs)

    def _loglikelihood_tokens(self, requests: list[Any], *args: Any, **kwargs: Any) -> Any:
        check_scored(self, requests)
        return super()._loglikelihood_tokens(requests, *args, **kwargs)


def reasoning_model() -> type:
    """The harness's transformers model with reasoning taken off before it scores. Made late: its import is long."""
    from lm_eval.models.huggingface import HFLM

    class ReasoningLM(Windowed, HFLM):
        """`HFLM` whose stop words do not end a reasoning, and whose unclosed reasoning is no answer."""

        def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
            # The think tags may be special tokens; the harness must see them to take the reasoning off.
            text = self.tokenizer.decode(tokens, skip_special_tokens=False)
            return without_specials(text, self.tokenizer) if skip_special_tokens else text

        def _model_generate(self, context: Any, max_length: int, stop: list[str], **kwargs: Any) -> torch.Tensor:
            thinking = self.chat_template_args.get("enable_thinking", False)
            end = self.tokenizer.eos_token
            output = super()._model_generate(context, max_length, [end] if thinking else stop, **kwargs)
            if thinking:
                for row, prompt in zip(output, context, strict=True):
                    if open_reasoning(self.tokenizer.decode(row[len(prompt) :]), self.tokenizer.decode(prompt[-4:])):
                        row[len(prompt) :] = self.tokenizer.pad_token_id
            return output

    return ReasoningLM


def reasoning_vllm() -> type:
    """The harness's vLLM model, as `reasoning_model` is its transformers one. It leaves stop words out by itself."""
    from lm_eval.models.vllm_causallms import VLLM

    class ReasoningVLLM(Windowed, VLLM):
        """`VLLM` whose unclosed reasoning is no answer."""

        def _model_generate(self, requests: Any = None, generate: bool = False, sampling_params: Any = None) -> Any:
            if not generate:
                return super()._model_generate(requests, generate, sampling_params)
            for settings in sampling_params:
                settings.skip_special_tokens = False  # the think tags may be special tokens
            found = super()._model_generate(requests, generate, sampling_params)
            for prompt, output in zip(requests, found, strict=True):
                (answer,) = output.outputs
                before = self.tokenizer.decode(prompt[-4:])
                unclosed = self.enable_thinking and open_reasoning(answer.text, before)
                answer.text = "" if unclosed else without_specials(answer.text, self.tokenizer)
            return found

    return ReasoningVLLM


def open_reasoning(written: str, before: str) -> bool:
    """Whether what was written is reasoning that never closed; `before` is the end of the prompt, which may open it."""
    if END_OF_THINKING in written:
        return False
    return THINK in written or before.rstrip().endswith(THINK)


def without_specials(text: str, tokenizer: Any) -> str:
    """Text without its special tokens but the think tags."""
    special = [t for t in tokenizer.all_special_tokens if t not in (THINK, END_OF_THINKING)]
    return re.sub("|".join(map(re.escape, special)), "", text) if special else text


def scored(prefix: str, results: dict[str, Any], by_length: bool) -> dict[str, Metric]:
    """Our metrics of the harness's results and samples; a group's headline is the mean over its tasks' items."""
    metrics: dict[str, Metric] = {}
    lengths: dict[str, list[float]] = defaultdict(list)
    groups = {name: members for name, members in results.get("group_subtasks", {}).items() if members}
    outer = [name for name in groups if not any(name in members for members in groups.values())]
    grouped = {task: name for name in outer for task in leaves(name, groups)}
    together: dict[str, list[float]] = defaultdict(list)
    directions: dict[str, set[str | None]] = defaultdict(set)
    for name, kept in sorted(results["samples"].items()):
        values = item_values(kept)
        first = True
        for (metric, chosen), items in values.items():
            label = f"{prefix}/{name}/{metric}" + ("" if chosen == "none" else f"/{chosen}")
            told = results["results"].get(name, {})
            higher = results.get("higher_is_better", {}).get(name, {}).get(metric, True)
            metrics[label] = one_metric(items, told.get(f"{metric},{chosen}"), told.get(f"{metric}_stderr,{chosen}"),
                                        better="higher" if higher else "lower",
                                        headline=first and not by_length and name not in grouped)  # fmt: skip
            if first and name in grouped:
                together[grouped[name]] += items
                directions[grouped[name]].add(metrics[label].better)
            first = False
            if by_length and metric.isdigit():
                lengths[metric] += items
    for name, items in together.items():
        better = directions[name].pop() if len(directions[name]) == 1 else None
        metrics[f"{prefix}/{name}"] = item_metric(items, better, headline=not by_length)
    for length, items in sorted(lengths.items(), key=lambda entry: int(entry[0])):
        metrics[f"{prefix}/{length}"] = item_metric(items, headline=True)
    return metrics


def leaves(name: str, groups: dict[str, list[str]]) -> list[str]:
    """The tasks in a group, those of groups within it too.

    >>> leaves("a", {"a": ["b", "x"], "b": ["y"]})
    ['y', 'x']
    """
    return [leaf for member in groups.get(name, []) for leaf in (leaves(member, groups) or [member])]


def item_values(samples: list[dict[str, Any]]) -> dict[tuple[str, str], list[float]]:
    """Numbers of every (metric, filter), item by item; the harness writes -1 for a length that is not an item's own.

    The filter that reads an answer most freely comes first, since chat models seldom keep a harness's strict form.
    """
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for sample in sorted(samples, key=lambda s: (s["filter"] != "flexible-extract", s["filter"])):
        for metric in sample["metrics"]:
            value = sample[metric]
            if isinstance(value, (bool, int, float)) and not (metric.isdigit() and value == -1):
                found[metric, sample["filter"]].append(float(value))
    return found


def one_metric(items: list[float], told: Any, spread: Any, better: str = "higher", headline: bool = False) -> Metric:
    """A metric whose items are kept when the harness's own figure is their mean."""
    if not isinstance(told, (int, float)) or told == -1 or abs(told - sum(items) / len(items)) < 1e-6:
        return item_metric(items, better, headline)
    half = Z * spread if isinstance(spread, (int, float)) else None
    low, high = (told - half, told + half) if half is not None else (None, None)
    return Metric(Score(told, low, high, len(items)), better=better, headline=headline)
