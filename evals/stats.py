"""Scores with their noise, and what is kept of a metric for comparing it item by item."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.paired import student, wilson


@dataclass(frozen=True)
class Score:
    """A mean over `n` items with a 95 % interval; `value` is None where nothing was measured."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Metric:
    """One score of a task.

    Args:
        items: each item's share in the score, so that their mean is `score.value`; None where they are not kept.
        better: `higher`, `lower`, or None for what is neither, such as a length.
        headline: whether the score is worth a column of the stage table.
    """

    score: Score
    items: Sequence[float] | None = None
    better: str | None = "higher"
    headline: bool = False

    def as_json(self) -> dict[str, Any]:
        """As it stands in results.json."""
        kept = {"value": self.score.value, "low": self.score.low, "high": self.score.high, "n": self.score.n}
        kept |= {"better": self.better, "headline": self.headline}
        if self.items is not None:
            kept["items"] = [int(i) if isinstance(i, bool) else round(i, 6) for i in self.items]
        return kept


def share(hits: Sequence[bool]) -> Score:
    """Share of hits with its Wilson score interval (Wilson 1927), which is right near 0 and 1 too.

    >>> score = share([True] * 8 + [False] * 2)
    >>> round(score.low, 3), round(score.high, 3)
    (0.49, 0.943)
    """
    n = len(hits)
    if n == 0:
        return Score(None, None, None, 0)
    return Score(sum(hits) / n, *wilson(sum(hits), n), n)


def mean(values: Sequence[float]) -> Score:
    """Mean with Student's 95 % interval; one value says nothing of its noise.

    >>> score = mean([1.0, 2.0, 3.0])
    >>> score.value, round(score.low, 2), round(score.high, 2)
    (2.0, -0.48, 4.48)
    """
    n = len(values)
    if n == 0:
        return Score(None, None, None, 0)
    average = sum(values) / n
    return around(average, [v - average for v in values])


def around(value: float, residuals: Sequence[float]) -> Score:
    """A score that is a mean, from what each item differs from it by."""
    n = len(residuals)
    if n < 2:
        return Score(value, None, None, n)
    half = student(n - 1) * math.sqrt(sum(r * r for r in residuals) / (n - 1) / n)
    return Score(value, value - half, value + half, n)


def ratio(sums: Sequence[float], counts: Sequence[int]) -> tuple[Score, list[float]]:
    """Mean of all parts of several items, such as the loss of all tokens of several rows, and each item's share in it.

    The interval treats items, not their parts, as independent: tokens of one row are alike. It is the linearised
    variance of a ratio (Cochran 1977, section 2.11). The shares' mean is the ratio.

    >>> score, shares = ratio([2.0, 6.0], [1, 3])
    >>> score.value, score.n, shares
    (2.0, 2, [1.0, 3.0])
    """
    n, total = len(sums), sum(counts)
    if n == 0 or total == 0:
        return Score(None, None, None, 0), []
    value, size = sum(sums) / total, total / n
    residuals = [(s - value * c) / size for s, c in zip(sums, counts, strict=True)]
    return around(value, residuals), [s / size for s in sums]


def item_metric(items: Sequence[float], better: str | None = "higher", headline: bool = False) -> Metric:
    """The mean of items: a share where each is 0 or 1, which a normal interval would put at no noise near the ends."""
    if items and set(items) <= {0.0, 1.0}:
        return Metric(share([bool(i) for i in items]), [bool(i) for i in items], better, headline)
    score = mean(items)
    if score.low is not None and min(items) >= 0 and max(items) <= 1:  # a mean of shares is one
        score = replace(score, low=max(0.0, score.low), high=min(1.0, score.high))
    return Metric(score, items, better, headline)


def hit_metric(hits: Sequence[bool], headline: bool = False) -> Metric:
    return Metric(share(hits), list(hits), headline=headline)
