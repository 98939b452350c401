"""Tasks of kind `answer` and `tool`: the model generates, and a verifier or the tools' schemas judge what it wrote."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from apo_soup.config.eval import AnswerTask, Mode, ToolTask
from apo_soup.data.conversations.row_arguments import template_kwargs
from apo_soup.data.sources.rows import RowError
from apo_soup.evals.checkpoint import Checkpoint
from apo_soup.evals.metrics import AnswerSample, ItemRow, Metric, TaskResult, proportion_metric
from apo_soup.evals.tool_calls import call_fault, first_call
from apo_soup.models.completion import Completion, Sampling
from apo_soup.models.think_tags import END_OF_THINKING
from apo_soup.statistics import mean_score
from apo_soup.verify.answers import verifier
from apo_soup.verify.modes import answer_part, obeys

DEFAULT_MAX_NEW_TOKENS = 256


def answer_task(checkpoint: Checkpoint, task: AnswerTask, rows: list[ItemRow]) -> TaskResult:
    """Accuracy by mode, whether the mode is kept, whether reasoning was closed, and tokens generated.

    Raises:
        RowError: a field is missing, the template refuses a row, or the verifier cannot read a reference.
        UserError: there is no such verifier.
    """
    verify = verifier(task.verifier, checkpoint.place(task, "verifier"))
    metrics: dict[str, Metric] = {}
    samples: list[AnswerSample] = []
    obedience: list[bool] = []
    for mode in task.modes:
        completions = generate_answers(checkpoint, task, rows, mode, [{}] * len(rows))
        hits = [
            c.finished and float(verify(c.text, str(row[task.reference]))) >= 0.5
            for row, c in zip(rows, completions, strict=True)
        ]
        obedience += [c.finished and obeys(c.text, mode == "think") for c in completions]
        metrics[f"{task.name}/{mode}"] = proportion_metric(hits, headline=True)
        for group, group_hits in hits_by_group(rows, hits).items():
            metrics[f"{task.name}/{mode}/{group}"] = proportion_metric(group_hits)
        if mode == "think":
            metrics[f"{task.name}/closed"] = proportion_metric([END_OF_THINKING in c.text for c in completions])
        lengths = [c.length for c in completions]
        metrics[f"{task.name}/{mode}/tokens"] = Metric(mean_score(lengths), lengths, better=None)
        samples += first_samples(task, rows, completions, hits, mode, checkpoint.samples)
    metrics[f"{task.name}/obedience"] = proportion_metric(obedience, headline=True)
    return TaskResult(metrics, samples)


def tool_task(checkpoint: Checkpoint, task: ToolTask, rows: list[ItemRow]) -> TaskResult:
    """Proportion of calls that their tool's schema allows, and of those that are the row's own call.

    Raises:
        RowError: a field is missing, or the template refuses a row.
    """
    # Hub templates know `tools`, SmolLM3's knows `xml_tools` and `python_tools`.
    keys = ("tools", "xml_tools") if task.tool_format == "xml" else ("python_tools",)
    metrics: dict[str, Metric] = {}
    samples: list[AnswerSample] = []
    for mode in task.modes:
        tool_arguments = [dict.fromkeys(keys, row["tools"]) for row in rows]
        completions = generate_answers(checkpoint, task, rows, mode, tool_arguments)
        calls = [
            first_call(answer_part(c.text), task.tool_format, row["tools"])
            for row, c in zip(rows, completions, strict=True)
        ]
        valid = [
            c.finished and call_fault(call, row["tools"]) is None
            for row, c, call in zip(rows, completions, calls, strict=True)
        ]
        metrics[f"{task.name}/{mode}/valid"] = proportion_metric(valid, headline=True)
        with_call = [n for n, row in enumerate(rows) if "call" in row]
        right = [valid[n] and calls[n] == rows[n]["call"] for n in with_call]
        if with_call:
            metrics[f"{task.name}/{mode}/right"] = proportion_metric(right)
        hits = right if len(with_call) == len(rows) else valid
        samples += first_samples(task, rows, completions, hits, mode, 1)
    return TaskResult(metrics, samples)


def question_messages(row: ItemRow, field: str) -> list[dict[str, Any]]:
    """The conversation that a row asks, which may be written as one question.

    Raises:
        RowError: it ends with no message that has content.
    """
    question = row[field]
    messages = [{"role": "user", "content": question}] if isinstance(question, str) else question
    if not messages or "content" not in messages[-1]:
        raise RowError(f"field {field}: expected text, or messages of which the last has content, got {question!r}")
    return messages


def generate_answers(
    checkpoint: Checkpoint,
    task: AnswerTask | ToolTask,
    rows: list[ItemRow],
    mode: Mode,
    template_arguments: Sequence[Mapping[str, Any]],
) -> list[Completion]:
    """Greedy answers in one mode, in the rows' order; `template_arguments` are a row's, beside its own."""
    prompts = [
        checkpoint.renderer.prompt(
            question_messages(row, task.question),
            {**template_kwargs(row, {}), **arguments, "enable_thinking": mode == "think"},
        )
        for row, arguments in zip(rows, template_arguments, strict=True)
    ]
    sampling = Sampling(task.max_new_tokens or DEFAULT_MAX_NEW_TOKENS)
    return checkpoint.engine.answers(prompts, sampling)


def hits_by_group(rows: list[ItemRow], hits: list[bool]) -> dict[str, list[bool]]:
    """Hits by the rows' group, names in order; rows without one are in none."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for row, hit in zip(rows, hits, strict=True):
        if "group" in row:
            groups[str(row["group"])].append(hit)
    return dict(sorted(groups.items()))


def first_samples(
    task: AnswerTask | ToolTask,
    rows: list[ItemRow],
    completions: list[Completion],
    hits: list[bool],
    mode: Mode,
    count: int,
) -> list[AnswerSample]:
    """The first `count` answers, as people read them."""
    first = list(zip(rows, completions, hits, strict=True))[:count]
    return [
        AnswerSample(mode, question_messages(row, task.question)[-1]["content"], completion.text, bool(hit))
        for row, completion, hit in first
    ]
