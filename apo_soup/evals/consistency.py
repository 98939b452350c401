"""Tasks of kind `consistency`: one question in several wordings, languages and modes, and how far its answers agree.

Of the answers to a question all pairs are looked at. `agree` is the share of pairs that give one and the same answer,
as all right ones do, `agree_right` the share of pairs in which both are right too, so a model that is always wrong in
one way scores in the first alone. An answer that never ended, or gives nothing, agrees with none.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from apo_soup.config.eval import ConsistencyTask
from apo_soup.data.sources.rows import described
from apo_soup.evals.answers import generate_answers, reference_text
from apo_soup.evals.metrics import AnswerSample, ItemRow, Metric, TaskResult, mean_metric
from apo_soup.models.completion import Completion
from apo_soup.verify.answers import verifier
from apo_soup.verify.modes import answer_part
from apo_soup.verify.numbers import numbers_in

if TYPE_CHECKING:
    from apo_soup.evals.checkpoint import Checkpoint  # which imports torch, and `check` reads items too

# What all right answers say, however they are written; no answer is that.
RIGHT = "\0right"


def consistency_task(checkpoint: "Checkpoint", task: ConsistencyTask, rows: list[ItemRow]) -> TaskResult:
    """Shares of agreeing and of agreeing right answers over all modes, and within each.

    Raises:
        RowError: a field is missing, a row has one wording, or the verifier cannot read a reference.
        UserError: there is no such verifier.
    """
    verify = verifier(task.verifier, checkpoint.place(task, "verifier"))
    asked = [wordings(row, task.question) for row in rows]
    references = [reference_text(row, task.reference, task.verifier) for row in rows]
    flat = [wording for own in asked for wording in own]
    said: list[list[tuple[str, bool]]] = [[] for _ in rows]
    metrics: dict[str, Metric] = {}
    samples: list[AnswerSample] = []
    for mode in task.modes:
        answers = iter(generate_answers(checkpoint, task, flat, mode, [{}] * len(flat)))
        of_mode: list[list[tuple[str, bool]]] = []
        for reference, own in zip(references, asked, strict=True):
            several = [(wording, answer) for wording in own for answer in next(answers)]
            fits = [answer.finished and float(verify(answer.text, reference)) >= 0.5 for _, answer in several]
            judged = [
                (RIGHT if right else final_answer(answer, task.verifier), right)
                for (_, answer), right in zip(several, fits, strict=True)
            ]
            if len(samples) < checkpoint.samples:
                text = "\n".join(f"[{wording['messages'][-1]['content']}]\n{a.text}" for wording, a in several)
                samples.append(AnswerSample(mode, own[0]["messages"][-1]["content"], text, all(r for _, r in judged)))
            of_mode.append(judged)
        metrics |= agreement_metrics(f"{task.name}/{mode}", of_mode, headline=False)
        said = [before + more for before, more in zip(said, of_mode, strict=True)]
    return TaskResult(agreement_metrics(task.name, said, headline=True) | metrics, samples)


def wordings(row: ItemRow, field: str) -> list[ItemRow]:
    """A row for each wording of a question, which is a text or messages.

    Raises:
        RowError: there are not two or more.
    """
    told = row.under("question", field)
    if not isinstance(told, list) or len(told) < 2:
        raise row.refusal(f"field {field}: expected a list of two or more wordings, got {described(told)}; add some")
    kept = {k: v for k, v in row.items() if k != field}
    return [
        ItemRow({**kept, "messages": [{"role": "user", "content": one}] if isinstance(one, str) else one}, row.place)
        for one in told
    ]


def final_answer(answer: Completion, judge: str) -> str:
    """What an answer says in the end: its last number where numbers are compared, else its words; nothing where it
    never ended.
    """
    if not answer.finished:
        return ""
    said = answer_part(answer.text)
    numbers = numbers_in(said) if judge == "number" else []
    return str(numbers[-1][0]) if numbers else " ".join(said.lower().split())


def agreement_metrics(name: str, said: Sequence[Sequence[tuple[str, bool]]], headline: bool) -> dict[str, Metric]:
    """The means over questions of `agreement`, and of it among right answers.

    Args:
        said: for each question its answers, and whether each is right.
    """
    agree = [agreement([one for one, _ in own], len(own)) for own in said]
    right = [agreement(["right"] * sum(fits for _, fits in own), len(own)) for own in said]
    return {
        f"{name}/agree": mean_metric(agree, headline=headline),
        f"{name}/agree_right": mean_metric(right, headline=headline),
    }


def agreement(answers: Sequence[str], count: int) -> float:
    """The share of the pairs of `count` answers that say the same; nothing is never the same.

    >>> agreement(["7", "7", "8", ""], 4)
    0.16666666666666666
    """
    same = sum(n * (n - 1) for answer, n in Counter(answers).items() if answer)
    return same / (count * (count - 1))
