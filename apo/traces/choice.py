"""Which of a prompt's answers make rows."""

from dataclasses import dataclass

from apo.pairs.choice import best_score, comparable_text, most_common_failure
from apo.pairs.judge import JudgedCompletion
from apo_soup.config.traces import TracesFile


@dataclass(frozen=True)
class TraceChoice:
    """How traces are chosen among the candidates that pass the filters.

    `keep` is right, best or any; `threshold` is the least score of a judge that makes an answer right; `tie_break`
    orders answers of one score: first, shortest or longest.
    """

    keep: str
    threshold: float | None = None
    tie_break: str = "first"


def trace_choice(recipe: TracesFile) -> TraceChoice:
    """How the recipe chooses traces; the right ones where it says how to know them, unless it says otherwise."""
    known = recipe.verifier or recipe.threshold is not None
    return TraceChoice(recipe.keep or ("right" if known else "any"), recipe.threshold, recipe.tie_break)


def kept_traces(candidates: list[JudgedCompletion], choice: TraceChoice) -> list[JudgedCompletion] | str:
    """The answers of one prompt that make rows, each once, or the reason there is none."""
    passed = [one for one in candidates if one.failed_filter is None]
    if not passed:
        return most_common_failure(candidates)
    if choice.keep != "any":
        right = [one for one in passed if is_right(one, choice)]
        if not right:
            if any(one.right is False for one in passed):
                return "wrong"
            return "below the threshold" if any(one.judge_score is not None for one in passed) else "not verified"
        passed = right
    distinct = list({comparable_text(one): one for one in reversed(passed)}.values())[::-1]
    if choice.keep != "best":
        return distinct
    sign = {"first": 0, "shortest": 1, "longest": -1}[choice.tie_break]
    return [min(distinct, key=lambda one: (-best_score(one), sign * one.completion.length))]


def is_right(one: JudgedCompletion, choice: TraceChoice) -> bool:
    """Whether a verifier calls an answer right, or a judge, who needs a threshold unless the best is taken."""
    if one.judge_score is None:
        return bool(one.right)
    return choice.keep == "best" if choice.threshold is None else one.judge_score >= choice.threshold
