"""Tasks of kind `bfcl`: tool calls for the single-turn problems of the Berkeley Function Calling Leaderboard.

Problems and verdicts are those of the package bfcl-eval, which pins an older numpy than ours and so has an environment
of its own. It runs no call: it compares them with the right ones.
"""

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from apo_soup.config.eval_programs import BfclTask
from apo_soup.evals.answers import answers_to_prompts
from apo_soup.evals.checkpoint import Checkpoint
from apo_soup.evals.metrics import AnswerSample, ItemRow, Metric, TaskResult
from apo_soup.evals.outside import bfcl_worker
from apo_soup.evals.outside.programs import run_outside
from apo_soup.evals.repeats import mean_over_repeats, share_metrics
from apo_soup.evals.tool_calls import every_call
from apo_soup.verify.modes import answer_part

WORKER = Path(bfcl_worker.__file__)
NEEDED = "a Python with bfcl-eval"


def bfcl_rows(task: BfclTask, where: str) -> list[ItemRow]:
    """The problems of the categories, the first `limit` of each; raises UserError where the package does not run."""
    rows = asked_of_package(task, where, "problems", *task.categories)
    by_category: dict[str, list[ItemRow]] = defaultdict(list)
    for row in rows:
        by_category[row["category"]].append(ItemRow(row))
    return [row for own in by_category.values() for row in own[: task.limit]]


def bfcl_task(checkpoint: Checkpoint, task: BfclTask, rows: list[ItemRow]) -> TaskResult:
    """The share of problems whose calls are right, over all and by category.

    Raises:
        RowError: the template refuses a problem.
        UserError: the package does not run.
    """
    metrics: dict[str, Metric] = {}
    samples: list[AnswerSample] = []
    for mode in task.modes:
        prompts = [
            checkpoint.renderer.prompt(
                row["messages"], {"tools": row["tools"], "xml_tools": row["tools"], "enable_thinking": mode == "think"}
            )
            for row in rows
        ]
        drawn = answers_to_prompts(checkpoint, task, prompts)
        calls = [
            {"id": row["id"], "category": row["category"], "calls": calls_by_name(answer_part(c.text))}
            for row, own in zip(rows, drawn, strict=True)
            for c in own
        ]
        verdicts = bfcl_verdicts(task, checkpoint.place(task, "python"), calls)
        # An answer that was cut off or never came says nothing of calls, though it has none.
        ended = [c.finished for own in drawn for c in own]
        flat = [hit and (whole or bool(one["calls"])) for hit, whole, one in zip(verdicts, ended, calls, strict=True)]
        hits = [flat[n : n + task.repeats] for n in range(0, len(flat), task.repeats)]
        name = f"{task.name}/{mode}"
        metrics |= share_metrics(name, hits, task.repeats, task.pass_at, headline=True)
        by_category: dict[str, list[list[bool]]] = defaultdict(list)
        for row, own_hits in zip(rows, hits, strict=True):
            by_category[row["category"]].append(own_hits)
        for category, outcomes in by_category.items():
            metrics[f"{name}/{category}"] = mean_over_repeats(outcomes)
        samples += [
            AnswerSample(mode, str(row["messages"][-1]["content"]), own[0].text, hit[0])
            for row, own, hit in list(zip(rows, drawn, hits, strict=True))[: checkpoint.samples]
        ]
    return TaskResult(metrics, samples)


def calls_by_name(answer: str) -> list[dict[str, Any]] | None:
    """An answer's calls as the package has them, `{name: arguments}`; None where one cannot be read."""
    calls = every_call(answer)
    return None if calls is None else [{call["name"]: call["arguments"]} for call in calls]


def bfcl_verdicts(task: BfclTask, where: str, calls: list[dict[str, Any]]) -> list[bool]:
    """The package's verdict on each answer; raises UserError where it does not run."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "calls.json"
        file.write_text(json.dumps(calls), encoding="utf-8")
        return [bool(one) for one in asked_of_package(task, where, "verdicts", file)]


def asked_of_package(task: BfclTask, where: str, *words: str | Path) -> list[Any]:
    """What the package says to the words of `bfcl_worker.py`; raises UserError where it does not run."""
    what, *rest = words
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "output.json"
        run_outside([Path(task.python).absolute(), WORKER, what, output, *rest], Path(scratch), where, NEEDED)
        found: list[Any] = json.loads(output.read_text(encoding="utf-8"))
    return found
