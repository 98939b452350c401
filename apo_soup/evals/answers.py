"""Tasks that let the model write: problems with verifiers, and tool calls against their schemas."""

from collections import defaultdict
from typing import Any

from apo_soup.data.conversation import template_kwargs
from apo_soup.evals.calls import call_fault, first_call
from apo_soup.evals.checkpoint import Checkpoint
from apo_soup.evals.metrics import Metric, hit_metric
from apo_soup.evals.suite import Task
from apo_soup.models.completion import Completion, Sampling
from apo_soup.models.generation import generate
from apo_soup.statistics import mean
from apo_soup.verify.answers import END_OF_THINKING, answer_part, obeys, verifier

Row = dict[str, Any]
Outcome = tuple[dict[str, Metric], list[dict[str, Any]]]
LONGEST = 256


def asked(row: Row, field: str) -> list[dict[str, Any]]:
    """The conversation that a row asks, which may be written as one question."""
    question = row[field]
    return [{"role": "user", "content": question}] if isinstance(question, str) else question


def written(checkpoint: Checkpoint, task: Task, rows: list[Row], mode: str, extra: list[dict]) -> list[Completion]:
    """Greedy answers in one mode; `extra` are template arguments row by row."""
    prompts = [
        checkpoint.renderer.prompt(
            asked(row, task.question), {**template_kwargs(row, {}), **more, "enable_thinking": mode == "think"}
        )
        for row, more in zip(rows, extra, strict=True)
    ]
    sampling = Sampling(task.max_new_tokens or LONGEST)
    return generate(checkpoint.model, checkpoint.tokenizer, prompts, sampling, checkpoint.batch_size)


def by_group(rows: list[Row], hits: list[bool]) -> dict[str, list[bool]]:
    """Outcomes by the rows' group, names in order; rows without one are in none."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for row, hit in zip(rows, hits, strict=True):
        if "group" in row:
            groups[str(row["group"])].append(hit)
    return dict(sorted(groups.items()))


def answer(checkpoint: Checkpoint, task: Task, rows: list[Row]) -> Outcome:
    """Accuracy by mode, whether the mode is kept, whether reasoning was closed, and tokens written."""
    right = verifier(task.verifier, checkpoint.where)
    metrics: dict[str, Metric] = {}
    samples: list[dict[str, Any]] = []
    obedience: list[bool] = []
    for mode in task.modes:
        completions = written(checkpoint, task, rows, mode, [{}] * len(rows))
        hits = [
            c.finished and float(right(c.text, str(row[task.reference]))) >= 0.5
            for row, c in zip(rows, completions, strict=True)
        ]
        obedience += [c.finished and obeys(c.text, mode == "think") for c in completions]
        metrics[f"{task.name}/{mode}"] = hit_metric(hits, headline=True)
        for group, outcomes in by_group(rows, hits).items():
            metrics[f"{task.name}/{mode}/{group}"] = hit_metric(outcomes)
        if mode == "think":
            metrics[f"{task.name}/closed"] = hit_metric([END_OF_THINKING in c.text for c in completions])
        lengths = [float(c.tokens) for c in completions]
        metrics[f"{task.name}/{mode}/tokens"] = Metric(mean(lengths), lengths, better=None)
        samples += sampled(task, rows, completions, hits, mode, checkpoint.samples)
    metrics[f"{task.name}/obedience"] = hit_metric(obedience, headline=True)
    return metrics, samples


def tool(checkpoint: Checkpoint, task: Task, rows: list[Row]) -> Outcome:
    """Share of calls that their tool's schema allows, and of those that are the row's own call."""
    # Hub templates know `tools`, SmolLM3's knows `xml_tools` and `python_tools`.
    keys = ("tools", "xml_tools") if task.tool_format == "xml" else ("python_tools",)
    metrics: dict[str, Metric] = {}
    samples: list[dict[str, Any]] = []
    for mode in task.modes:
        extra = [dict.fromkeys(keys, row["tools"]) for row in rows]
        completions = written(checkpoint, task, rows, mode, extra)
        calls = [first_call(answer_part(c.text), task.tool_format, row["tools"])
                 for row, c in zip(rows, completions, strict=True)]  # fmt: skip
        valid = [
            c.finished and call_fault(call, row["tools"]) is None
            for row, c, call in zip(rows, completions, calls, strict=True)
        ]
        metrics[f"{task.name}/{mode}/valid"] = hit_metric(valid, headline=True)
        known = [n for n, row in enumerate(rows) if "call" in row]
        right = [valid[n] and calls[n] == rows[n]["call"] for n in known]
        if known:
            metrics[f"{task.name}/{mode}/right"] = hit_metric(right)
        samples += sampled(task, rows, completions, right if len(known) == len(rows) else valid, mode, 1)
    return metrics, samples


def sampled(
    task: Task, rows: list[Row], completions: list[Completion], hits: list[bool], mode: str, count: int
) -> list[dict[str, Any]]:
    """The first answers as people read them."""
    kept = []
    for row, completion, hit in list(zip(rows, completions, hits, strict=True))[:count]:
        question = asked(row, task.question)[-1]["content"]
        kept.append({"mode": mode, "question": question, "answer": completion.text, "right": bool(hit)})
    return kept
