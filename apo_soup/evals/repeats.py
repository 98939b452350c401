"""Scores of items that were asked several times: avg@n, and pass@k by the unbiased estimator of Chen et al. (2021).

An item is one question, however often it was asked: its answers are alike, so intervals and comparisons count
questions. `outcomes` are `[N][n]`, the n outcomes of each of N questions.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from apo_soup.evals.metrics import Metric, mean_metric, proportion_metric
from apo_soup.statistics import wilson_interval

Outcomes = Sequence[Sequence[float]]


def pass_probability(n: int, right: int, k: int) -> float:
    """The unbiased estimate, from n answers of which `right` are, of whether one of k is (Chen et al. 2021, eq. 1).

    >>> [round(pass_probability(4, right, 2), 4) for right in range(4)]
    [0.0, 0.5, 0.8333, 1.0]

    Raises:
        ValueError: k is larger than n.
    """
    if k > n:
        raise ValueError(f"expected k of at most {n}, the answers to a question, got {k}")
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def mean_over_repeats(outcomes: Outcomes, better: str | None = "higher", headline: bool = False) -> Metric:
    """The mean over questions of each question's mean, its interval over questions.

    An interval over questions is never expected to be narrower than one that takes all answers for independent, so
    where few questions make it narrower by chance, Wilson's over all answers is taken in.
    """
    if all(len(answers) == 1 for answers in outcomes):
        return mean_metric([answers[0] for answers in outcomes], better, headline)
    metric = mean_metric([sum(answers) / len(answers) for answers in outcomes], better, headline)
    score = metric.score
    flat = [value for answers in outcomes for value in answers]
    if score.low is None or score.high is None or not set(flat) <= {0, 1}:
        return metric
    low, high = wilson_interval(int(sum(flat)), len(flat))
    return replace(metric, score=replace(score, low=min(score.low, low), high=max(score.high, high)))


def share_metrics(
    name: str, outcomes: Outcomes, repeats: int, pass_at: Sequence[int] = (), better: str = "higher",
    headline: bool = False,
) -> dict[str, Metric]:  # fmt: skip
    """The metrics of right and wrong answers: `name` where each question was asked once, otherwise `name/avg@n` and
    `name/pass@k` for every k of `pass_at`, without any for n alone.
    """
    if repeats == 1:
        return {name: proportion_metric([bool(answers[0]) for answers in outcomes], better, headline)}
    metrics = {f"{name}/avg@{repeats}": mean_over_repeats(outcomes, better, headline)}
    for k in sorted(set(pass_at or (repeats,))):
        parts = [pass_probability(len(answers), sum(map(bool, answers)), k) for answers in outcomes]
        metrics[f"{name}/pass@{k}"] = mean_metric(parts, better, headline)
    return metrics
