"""Scores with their noise: a mean or a proportion with its interval, and two models on the same items.

Wilson's, Student's and percentile intervals and the exact test are scipy's. Three things are ours. Newcombe's interval
for paired proportions is not in scipy. The percentiles of the bootstrap are expanded, so scipy is told which level to
take. The sign-flip test draws its own flips, because scipy's permutation test draws others, which gives another p, and
takes five times as long. scipy is imported late: it takes half a second.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

CONFIDENCE = 0.95
Z = NormalDist().inv_cdf(0.975)
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Difference:
    """Mean of the differences of `n` items with a 95 % interval; a single item that is no proportion has none."""

    value: float
    low: float | None
    high: float | None
    n: int

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

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

    Args:
        draws: resamples of the bootstrap, and random flips of the sign-flip test.

    Raises:
        ValueError: the two have different numbers of items, or none.
    """
    if len(one) != len(two) or not len(one):
        raise ValueError(f"expected as many items on both sides and at least one, got {len(one)} and {len(two)}")
    before, after = np.asarray(one, dtype=float), np.asarray(two, dtype=float)
    differences = after - before
    generator = np.random.default_rng(seed)
    sides = np.stack([before, after])
    if np.isin(sides, (0.0, 1.0)).all():
        low, high = newcombe_interval(*sides.astype(bool))
    elif np.isin(sides, (0.0, -1.0)).all():  # a proportion that is better when lower
        high, low = (-bound for bound in newcombe_interval(*sides.astype(bool)))
    elif len(differences) == 1:
        return Difference(float(differences[0]), None, None, 1)
    else:
        low, high = expanded_bootstrap_interval(differences, draws, generator)
    if sign_flip_p_value(differences, draws, generator) >= SIGNIFICANCE:
        low, high = min(low, 0.0), max(high, 0.0)
    return Difference(float(differences.mean()), float(low), float(high), len(differences))


def sign_flip_p_value(differences: np.ndarray, draws: int, generator: np.random.Generator) -> float:
    """Two-sided p of a mean difference this large if each item's sign were a coin: exact where all that differ do so
    by the same amount (McNemar), by `draws` random flips elsewhere.

    >>> round(sign_flip_p_value(np.array([1, 1, 1, 1, 1, 0, 0]), 0, np.random.default_rng(0)), 4)
    0.0625

    Args:
        differences: `[N]`, one an item.
    """
    moved = differences[differences != 0]
    count = len(moved)
    if count == 0:
        return 1.0
    if np.ptp(np.abs(moved)) == 0:
        from scipy.stats import binomtest

        return float(binomtest(int((moved > 0).sum()), count).pvalue)
    signs = generator.choice((-1.0, 1.0), size=(draws, count))
    as_large = np.abs(signs @ moved) >= abs(moved.sum()) * (1 - 1e-9)
    return float((as_large.sum() + 1) / (draws + 1))


def expanded_bootstrap_interval(
    differences: np.ndarray, draws: int, generator: np.random.Generator
) -> tuple[float, float]:
    """The percentile interval of a paired bootstrap (Efron 1979), with its percentiles moved out as far as a t interval
    is wider than a normal one (Hesterberg 2015), which matters for few items.

    Args:
        differences: `[N]`, one an item, at least two.
    """
    from scipy.stats import bootstrap, t

    n = len(differences)
    outer = NormalDist().cdf(-math.sqrt(n / (n - 1)) * float(t.ppf(0.5 + CONFIDENCE / 2, n - 1)))
    found = bootstrap(
        (differences,), np.mean, n_resamples=draws, batch=max(1, 2**22 // n), confidence_level=1 - 2 * outer,
        method="percentile", rng=generator,
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def newcombe_interval(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Newcombe's interval for the difference of two paired proportions (Statistics in Medicine 17, 1998, method 10).

    Wilson's intervals of the two proportions, put together with the correlation of the pairs, with a continuity
    correction.

    Args:
        before, after: `[N]` of bool, an item's outcome on both sides.
    """
    n = len(before)
    both, neither = int((before & after).sum()), int((~before & ~after).sum())
    gained, lost = int((~before & after).sum()), int((before & ~after).sum())
    one, two = (both + lost) / n, (both + gained) / n
    (low1, high1), (low2, high2) = wilson_interval(both + lost, n), wilson_interval(both + gained, n)
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    cross: float = both * neither - gained * lost
    if cross > 0:
        cross = max(0.0, cross - n / 2)
    correlation = cross / math.sqrt(margins) if margins else 0.0
    down = (two - low2) ** 2 - 2 * correlation * (two - low2) * (high1 - one) + (high1 - one) ** 2
    up = (high2 - two) ** 2 - 2 * correlation * (high2 - two) * (one - low1) + (one - low1) ** 2
    return two - one - math.sqrt(max(0.0, down)), two - one + math.sqrt(max(0.0, up))


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927), which is right near 0 and 1 too."""
    from scipy.stats import binomtest

    found = binomtest(hits, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


@dataclass(frozen=True)
class Score:
    """A mean over `n` items with a 95 % interval; `value` is None where nothing was measured."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def proportion_score(hits: Sequence[bool]) -> Score:
    """Proportion of hits with its Wilson score interval.

    >>> score = proportion_score([True] * 8 + [False] * 2)
    >>> round(score.low, 3), round(score.high, 3)
    (0.49, 0.943)
    """
    n = len(hits)
    if n == 0:
        return Score(None, None, None, 0)
    return Score(sum(hits) / n, *wilson_interval(sum(hits), n), n)


def mean_score(values: Sequence[float]) -> Score:
    """Mean with Student's 95 % interval; one value says nothing of its noise.

    >>> score = mean_score([1.0, 2.0, 3.0])
    >>> score.value, round(score.low, 2), round(score.high, 2)
    (2.0, -0.48, 4.48)
    """
    n = len(values)
    if n == 0:
        return Score(None, None, None, 0)
    average = sum(values) / n
    return score_from_residuals(average, [v - average for v in values])


def score_from_residuals(value: float, residuals: Sequence[float]) -> Score:
    """A score that is a mean, with Student's 95 % interval, from what each item differs from it by."""
    from scipy.stats import t

    n = len(residuals)
    if n < 2:
        return Score(value, None, None, n)
    half = float(t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * math.sqrt(sum(r * r for r in residuals) / (n - 1) / n)
    return Score(value, value - half, value + half, n)


def ratio_score(sums: Sequence[float], counts: Sequence[int]) -> tuple[Score, list[float]]:
    """Mean of all parts of several items, such as the loss of all tokens of several rows, and each item's share in it.

    The interval treats items, not their parts, as independent: tokens of one row are alike. It is the linearised
    variance of a ratio (Cochran 1977, section 2.11). The shares' mean is the ratio.

    >>> score, shares = ratio_score([2.0, 6.0], [1, 3])
    >>> score.value, score.n, shares
    (2.0, 2, [1.0, 3.0])
    """
    n, total = len(sums), sum(counts)
    if n == 0 or total == 0:
        return Score(None, None, None, 0), []
    value, size = sum(sums) / total, total / n
    residuals = [(s - value * c) / size for s, c in zip(sums, counts, strict=True)]
    return score_from_residuals(value, residuals), [s / size for s in sums]
