"""Tasks of kind `answer` and `tool`: the model generates, and a verifier or the tools' schemas judge what it wrote."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from apo_soup.config.eval import AnswerTask, SafetyTask, ToolTask
from apo_soup.config.eval_keys import Mode, SampledKeys
from apo_soup.config.score_names import OWN_PARTS
from apo_soup.data.conversations.row_arguments import template_kwargs
from apo_soup.data.sources.rows import described
from apo_soup.errors import UserError
from apo_soup.evals.metrics import AnswerSample, ItemRow, Metric, TaskResult
from apo_soup.evals.repeats import mean_over_repeats, share_metrics
from apo_soup.evals.tool_calls import call_fault, first_call
from apo_soup.evals.tool_items import tool_item
from apo_soup.models.completion import Completion, Sampling, with_think_opening
from apo_soup.models.think_tags import END_OF_THINKING
from apo_soup.models.tokenizer import encode_ids
from apo_soup.statistics import mean_score
from apo_soup.verify.answers import VERIFIERS, verifier
from apo_soup.verify.modes import answer_part, obeys

if TYPE_CHECKING:
    from apo_soup.evals.checkpoint import Checkpoint  # which imports torch, and `check` reads items too

DEFAULT_MAX_NEW_TOKENS = 256


def answer_task(checkpoint: "Checkpoint", task: AnswerTask, rows: list[ItemRow]) -> TaskResult:
    """Accuracy by mode, whether the mode is kept, whether reasoning was closed, and tokens generated.

    Raises:
        RowError: a field is missing, the template refuses a row, or the verifier cannot read a reference.
        UserError: there is no such verifier.
    """
    verify = verifier(task.verifier, checkpoint.place(task, "verifier"))
    references = [reference_text(row, task.reference, task.verifier) for row in rows]
    metrics: dict[str, Metric] = {}
    samples: list[AnswerSample] = []
    obedience: list[list[bool]] = []
    for mode in task.modes:
        answers = generate_answers(checkpoint, task, rows, mode, [{}] * len(rows))
        hits = [
            [c.finished and float(verify(c.text, reference)) >= 0.5 for c in own]
            for reference, own in zip(references, answers, strict=True)
        ]
        obedience += [[c.finished and obeys(c.text, mode == "think") for c in own] for own in answers]
        name = f"{task.name}/{mode}"
        metrics |= share_metrics(name, hits, task.repeats, task.pass_at, headline=True)
        for group, group_hits in hits_by_group(rows, hits).items():
            metrics[f"{name}/{group}"] = mean_over_repeats(group_hits)
        if mode == "think":
            closed = [[END_OF_THINKING in c.text for c in own] for own in answers]
            metrics[f"{task.name}/closed"] = mean_over_repeats(closed)
        lengths = [sum(c.length for c in own) / len(own) for own in answers]
        metrics[f"{name}/tokens"] = Metric(mean_score(lengths), lengths, better=None)
        samples += first_samples(task, rows, answers, hits, mode, checkpoint.samples)
    metrics[f"{task.name}/obedience"] = mean_over_repeats(obedience, headline=True)
    return TaskResult(metrics, samples)


def tool_task(checkpoint: "Checkpoint", task: ToolTask, rows: list[ItemRow]) -> TaskResult:
    """Proportion of calls that their tool's schema allows, and of those that are the row's own call.

    Raises:
        RowError: a field is missing, or the template refuses a row.
        UserError: a prompt and its answer do not fit the model's window.
    """
    # Hub templates know `tools`, SmolLM3's knows `xml_tools` and `python_tools`.
    keys = ("tools", "xml_tools") if task.tool_format == "xml" else ("python_tools",)
    metrics: dict[str, Metric] = {}
    samples: list[AnswerSample] = []
    items = [tool_item(row) for row in rows]
    for mode in task.modes:
        tool_arguments = [dict.fromkeys(keys, item.tools) for item in items]
        answers = generate_answers(checkpoint, task, rows, mode, tool_arguments)
        calls = [
            [first_call(answer_part(c.text), task.tool_format, item.tools) for c in own]
            for item, own in zip(items, answers, strict=True)
        ]
        valid = [
            [c.finished and call_fault(call, item.tools) is None for c, call in zip(own, own_calls, strict=True)]
            for item, own, own_calls in zip(items, answers, calls, strict=True)
        ]
        name = f"{task.name}/{mode}"
        metrics |= share_metrics(f"{name}/valid", valid, task.repeats, task.pass_at, headline=True)
        with_call = [n for n, item in enumerate(items) if item.call is not None]
        right = [
            [fits and call == items[n].call for fits, call in zip(valid[n], calls[n], strict=True)] for n in with_call
        ]
        if with_call:
            metrics |= share_metrics(f"{name}/right", right, task.repeats, task.pass_at)
        hits = right if len(with_call) == len(rows) else valid
        samples += first_samples(task, rows, answers, hits, mode, 1)
    return TaskResult(metrics, samples)


def reference_text(row: ItemRow, field: str, judge: str) -> str:
    """The right answer of a row, for the verifier of that name; one of one's own is given whatever stands there.

    Raises:
        RowError: it is neither text nor a number, which other values would be compared as.
    """
    told = row.under("reference", field)
    if judge in VERIFIERS and (isinstance(told, bool) or not isinstance(told, str | int | float)):
        raise row.refusal(f"field {field}: expected text or a number, got {described(told)}; correct the row")
    return str(told)


def question_messages(row: ItemRow, field: str) -> list[dict[str, Any]]:
    """The conversation that a row asks, which may be written as one question, below the row's `system` text where it
    has one. Answers at its end are left out, for rows of training have them.

    Raises:
        RowError: it ends with no message that has content.
    """
    question = row.under("question", field)
    messages = [{"role": "user", "content": question}] if isinstance(question, str) else question
    while isinstance(messages, list) and messages and _role(messages[-1]) == "assistant":
        messages = messages[:-1]
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or "content" not in last:
        expected = "text, or messages of which the last has content"
        raise row.refusal(f"field {field}: expected {expected}, got {described(question)}; correct the row")
    system = row.get("system")
    if isinstance(system, str) and system.strip() and _role(messages[0]) != "system":
        return [{"role": "system", "content": system}, *messages]
    return messages


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def generate_answers(
    checkpoint: "Checkpoint",
    task: SampledKeys,
    rows: list[ItemRow],
    mode: Mode,
    template_arguments: Sequence[Mapping[str, Any]],
) -> list[list[Completion]]:
    """Answers in one mode, `task.repeats` a row, in the rows' order.

    Args:
        template_arguments: those of each row, beside its own.

    Raises:
        RowError: an argument of the row's is not what templates read.
        UserError: a prompt and its answer do not fit the model's window.
    """
    field = task.question if isinstance(task, AnswerTask | SafetyTask | ToolTask) else "messages"
    prompts = [
        checkpoint.renderer.prompt(
            question_messages(row, field),
            {**template_kwargs(row, {}), **arguments, "enable_thinking": mode == "think"},
        )
        for row, arguments in zip(rows, template_arguments, strict=True)
    ]
    return answers_to_prompts(checkpoint, task, prompts)


def answers_to_prompts(checkpoint: "Checkpoint", task: SampledKeys, prompts: list[str]) -> list[list[Completion]]:
    """Answers to rendered prompts, `task.repeats` each, drawn as the task's keys and the suite's seed say. Where the
    template opens the think block in the prompt, the answers have that opening.

    Raises:
        UserError: a prompt and its answer do not fit the model's window.
    """
    asked = [prompt for prompt in prompts for _ in range(task.repeats)]
    drawn = drawn_answers(checkpoint, task, asked)
    answers = [with_think_opening(answer, prompt) for answer, prompt in zip(drawn, asked, strict=True)]
    return [answers[n : n + task.repeats] for n in range(0, len(asked), task.repeats)]


def drawn_answers(checkpoint: "Checkpoint", task: SampledKeys, prompts: list[str], turn: int = 0) -> list[Completion]:
    """An answer to each rendered prompt; `turn` gives those of a later turn draws of their own.

    Raises:
        UserError: a prompt and its answer do not fit the model's window.
    """
    sampling = Sampling(
        task.max_new_tokens or DEFAULT_MAX_NEW_TOKENS,
        task.temperature,
        task.top_p,
        task.top_k,
        task.min_p,
        checkpoint.seed + turn,
    )
    check_window(checkpoint, task, prompts, sampling.max_new_tokens)
    return checkpoint.engine.answers(prompts, sampling)


def check_window(checkpoint: "Checkpoint", task: SampledKeys, prompts: list[str], answer: int) -> None:
    """Refuse prompts that the model's window has no room for beside an answer of `answer` tokens: what a model writes
    behind the last place that it was made for is noise. A server tells its own.

    Raises:
        UserError: at the longest that does not fit.
    """
    config = checkpoint.model.config.get_text_config() if checkpoint.model is not None else None
    window = getattr(config, "max_position_embeddings", None)
    if window is None:
        return
    # No text has more tokens than bytes, but for a mark at its beginning.
    doubtful = [p for p in set(prompts) if len(p.encode("utf-8", "replace")) + 1 + answer > window]
    lengths = [len(e.ids) for e in encode_ids(checkpoint.tokenizer, doubtful)]
    require_window(checkpoint.place(task, "max_new_tokens"), lengths, answer, window)


def require_window(place: str, lengths: list[int], answer: int, window: int | None) -> None:
    """Refuse prompts of these lengths in tokens where a window, which may not be known, has no room for the longest and
    an answer.

    Raises:
        UserError: at `place`.
    """
    longest = max(lengths, default=0)
    if window is not None and longest + answer > window:
        raise UserError(
            f"{place}: expected prompts of at most {max(0, window - answer):,} tokens, for which the model's window of "
            f"{window:,} has room beside an answer of {answer:,}, got {longest:,}; give a smaller max_new_tokens, or "
            "shorter items"
        )


def hits_by_group(rows: list[ItemRow], hits: list[list[bool]]) -> dict[str, list[list[bool]]]:
    """Hits by the rows' group, names in order; rows without one are in none. Raises RowError at the name of a score."""
    groups: dict[str, list[list[bool]]] = defaultdict(list)
    for row, hit in zip(rows, hits, strict=True):
        if "group" in row:
            if OWN_PARTS.fullmatch(str(row["group"])):
                told = f"expected another name than {row['group']}, which is that of a score, got it"
                raise row.refusal(f"field group: {told}; rename the group")
            groups[str(row["group"])].append(hit)
    return dict(sorted(groups.items()))


def first_samples(
    task: AnswerTask | ToolTask,
    rows: list[ItemRow],
    answers: list[list[Completion]],
    hits: list[list[bool]],
    mode: Mode,
    count: int,
) -> list[AnswerSample]:
    """The first answers of the first `count` rows, as people read them."""
    first = list(zip(rows, answers, hits, strict=True))[:count]
    return [
        AnswerSample(mode, question_messages(row, task.question)[-1]["content"], own[0].text, bool(hit[0]))
        for row, own, hit in first
    ]
