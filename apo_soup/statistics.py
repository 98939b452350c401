"""Scores with their noise: a mean or a share with its interval, and two models on the same items."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

Z = NormalDist().inv_cdf(0.975)
SURE = 0.05


@dataclass(frozen=True)
class Difference:
    """Mean of the items' differences with a 95 % interval; `n` items. One item that is no share has no interval."""

    value: float
    low: float | None
    high: float | None
    n: int

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and (self.low > 0 or self.high < 0)

    def interval(self, digits: int) -> str:
        """The interval in words."""
        return "unknown" if self.low is None else f"{self.low:+.{digits}f} to {self.high:+.{digits}f}"


def paired_gain(before: dict[str, Any], after: dict[str, Any]) -> Difference | None:
    """How much better one metric of results.json became, item by item; None where single items were not kept.

    For a metric that is better when lower the sign is turned, so that plus is always better.
    """
    one, two = before.get("items"), after.get("items")
    if not one or not two or len(one) != len(two) or not all(map(math.isfinite, (*one, *two))):
        return None
    sign = -1.0 if before["better"] == "lower" else 1.0
    return paired_difference([sign * i for i in one], [sign * i for i in two])


def paired_difference(one: Sequence[float], two: Sequence[float], draws: int = 2000, seed: int = 0) -> Difference:
    """Mean of `two` - `one` over the same items, with a 95 % interval.

    Where every item is right or wrong the interval is Newcombe's for paired proportions (1998, method 10), elsewhere
    that of a paired bootstrap. An interval without 0 is widened to hold it unless the sign-flip test (Fisher 1935)
    finds a difference too, because both are too narrow where only few items differ; for right and wrong items that
    test is McNemar's exact one, elsewhere it draws flips. Both models' outcomes of an item are taken together, so what
    makes it hard for both cancels.

    >>> paired_difference([0] * 10, [1] * 5 + [0] * 5).low  # five items changed, all one way: p = 0.0625
    0.0
    >>> paired_difference([0] * 10, [1] * 6 + [0] * 4).beyond_noise
    True

    Raises:
        ValueError: the two have different numbers of items, or none.
    """
    if len(one) != len(two) or not len(one):
        raise ValueError(f"paired comparison of {len(one)} and {len(two)} items")
    before, after = np.asarray(one, dtype=float), np.asarray(two, dtype=float)
    differences = after - before
    generator = np.random.default_rng(seed)
    sides = np.stack([before, after])
    if np.isin(sides, (0.0, 1.0)).all():
        low, high = newcombe(*sides.astype(bool))
    elif np.isin(sides, (0.0, -1.0)).all():  # a share that is better when lower
        high, low = (-bound for bound in newcombe(*sides.astype(bool)))
    elif len(differences) == 1:
        return Difference(float(differences[0]), None, None, 1)
    else:
        low, high = expanded_bootstrap(differences, draws, generator)
    if sign_flip(differences, draws, generator) >= SURE:
        low, high = min(low, 0.0), max(high, 0.0)
    return Difference(float(differences.mean()), float(low), float(high), len(differences))


def sign_flip(differences: np.ndarray, draws: int, generator: np.random.Generator) -> float:
    """Two-sided p of a mean difference this large if each item's sign were a coin: exact where all that differ do so
    by the same amount (McNemar), by `draws` random flips elsewhere.

    >>> sign_flip(np.array([1, 1, 1, 1, 1, 0, 0]), 0, np.random.default_rng(0))
    0.0625
    """
    moved = differences[differences != 0]
    count = len(moved)
    if count == 0:
        return 1.0
    if np.ptp(np.abs(moved)) == 0:
        fewer = min(int((moved > 0).sum()), int((moved < 0).sum()))
        return min(1.0, 2 * sum(math.comb(count, k) for k in range(fewer + 1)) / 2**count)
    signs = generator.choice((-1.0, 1.0), size=(draws, count))
    as_large = np.abs(signs @ moved) >= abs(moved.sum()) * (1 - 1e-9)
    return float((as_large.sum() + 1) / (draws + 1))


def expanded_bootstrap(differences: np.ndarray, draws: int, generator: np.random.Generator) -> tuple[float, float]:
    """The percentile interval of a paired bootstrap (Efron 1979), with its percentiles moved out as far as a t interval
    is wider than a normal one (Hesterberg 2015), which matters for few items.
    """
    n = len(differences)
    means = np.array([differences[generator.integers(0, n, n)].mean() for _ in range(draws)])
    outer = NormalDist().cdf(-math.sqrt(n / (n - 1)) * student(n - 1))
    low, high = np.quantile(means, [outer, 1 - outer])
    return float(low), float(high)


def student(degrees: int) -> float:
    """The 97.5 % point of Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.975, degrees))


def newcombe(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Newcombe's interval for the difference of two paired shares (Statistics in Medicine 17, 1998, method 10).

    Wilson's intervals of the two shares, put together with the correlation of the pairs, with a continuity correction.
    """
    n = len(before)
    both, neither = int((before & after).sum()), int((~before & ~after).sum())
    gained, lost = int((~before & after).sum()), int((before & ~after).sum())
    one, two = (both + lost) / n, (both + gained) / n
    (low1, high1), (low2, high2) = wilson(both + lost, n), wilson(both + gained, n)
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    cross = both * neither - gained * lost
    if cross > 0:
        cross = max(0.0, cross - n / 2)
    correlation = cross / math.sqrt(margins) if margins else 0.0
    down = (two - low2) ** 2 - 2 * correlation * (two - low2) * (high1 - one) + (high1 - one) ** 2
    up = (high2 - two) ** 2 - 2 * correlation * (high2 - two) * (one - low1) + (one - low1) ** 2
    return two - one - math.sqrt(max(0.0, down)), two - one + math.sqrt(max(0.0, up))


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927), which is right near 0 and 1 too."""
    p = hits / n
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Score:
    """A mean over `n` items with a 95 % interval; `value` is None where nothing was measured."""

    value: float | None
    low: float | None
    high: float | None
    n: int


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
