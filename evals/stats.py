"""Scores with their noise, and what is kept of a metric for comparing it item by item."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Z = 1.959964


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
    p = sum(hits) / n
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return Score(p, max(0.0, middle - half), min(1.0, middle + half), n)


def mean(values: Sequence[float]) -> Score:
    """Mean with its normal 95 % interval."""
    n = len(values)
    if n == 0:
        return Score(None, None, None, 0)
    average = sum(values) / n
    spread = math.sqrt(sum((v - average) ** 2 for v in values) / max(1, n - 1) / n)
    return Score(average, average - Z * spread, average + Z * spread, n)


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
    spread = math.sqrt(sum(r * r for r in residuals) / max(1, n - 1) / n)
    return Score(value, value - Z * spread, value + Z * spread, n), [s / size for s in sums]


def hit_metric(hits: Sequence[bool], headline: bool = False) -> Metric:
    return Metric(share(hits), list(hits), headline=headline)
