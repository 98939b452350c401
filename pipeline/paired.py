"""Two models on the same items: the difference of their means with its noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Difference:
    """Mean of the items' differences with a 95 % interval; `n` items."""

    value: float
    low: float
    high: float
    n: int

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def paired_gain(before: dict[str, Any], after: dict[str, Any]) -> Difference | None:
    """How much better one metric of results.json became, item by item; None where single items were not kept.

    For a metric that is better when lower the sign is turned, so that plus is always better.
    """
    one, two = before.get("items"), after.get("items")
    if not one or not two or len(one) != len(two):
        return None
    sign = -1.0 if before["better"] == "lower" else 1.0
    return paired_bootstrap([sign * i for i in one], [sign * i for i in two])


def paired_bootstrap(one: Sequence[float], two: Sequence[float], draws: int = 2000, seed: int = 0) -> Difference:
    """Mean of `two` - `one` over the same items, with the percentile interval of a paired bootstrap (Efron 1979).

    Items are drawn with replacement, each with both models' outcomes, so what makes an item hard for both cancels.

    >>> paired_bootstrap([0, 0, 1, 1], [0, 0, 1, 1])
    Difference(value=0.0, low=0.0, high=0.0, n=4)

    Raises:
        ValueError: the two have different numbers of items, or none.
    """
    if len(one) != len(two) or not len(one):
        raise ValueError(f"paired comparison of {len(one)} and {len(two)} items")
    differences = np.asarray(two, dtype=float) - np.asarray(one, dtype=float)
    generator = np.random.default_rng(seed)
    means = np.array(
        [differences[generator.integers(0, len(differences), len(differences))].mean() for _ in range(draws)]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(float(differences.mean()), float(low), float(high), len(differences))
