"""Shares with their noise."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """A mean over `n` items with a 95 % interval; `value` is None where nothing was measured."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def share(hits: list[bool]) -> Score:
    """Share of hits with its Wilson score interval (Wilson 1927), which is right near 0 and 1 too.

    >>> score = share([True] * 8 + [False] * 2)
    >>> round(score.low, 3), round(score.high, 3)
    (0.49, 0.943)
    """
    n = len(hits)
    if n == 0:
        return Score(None, None, None, 0)
    z, p = 1.959964, sum(hits) / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Score(p, max(0.0, middle - half), min(1.0, middle + half), n)


def mean(values: list[float]) -> Score:
    """Mean with its normal 95 % interval."""
    n = len(values)
    if n == 0:
        return Score(None, None, None, 0)
    average = sum(values) / n
    spread = math.sqrt(sum((v - average) ** 2 for v in values) / max(1, n - 1) / n)
    return Score(average, average - 1.959964 * spread, average + 1.959964 * spread, n)
