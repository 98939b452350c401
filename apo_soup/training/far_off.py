"""When a value of a step, its loss or the norm of its gradient, is far above those before it."""

from collections.abc import Sequence
from statistics import median

# Steps that the running median is of, and those without which nothing is said.
WINDOW, FEWEST = 64, 16
# Of the median: values that hardly differ from each other have no spread to measure a distance by.
LEAST_SPREAD = 0.02


def is_far_off(value: float, before: Sequence[float], factor: float) -> bool:
    """Whether a value is above all of those before it, and further above their median than `factor` times their spread.

    The spread is the median distance from the median, which one earlier spike does not widen. A mixture of easy and
    hard rows has values of two sizes; those that came before are not far off.

    >>> usual = [2.0, 2.1, 1.9, 2.05] * 4
    >>> is_far_off(2.8, usual, 20), is_far_off(4.0, usual, 20), is_far_off(4.0, [*usual, 5.0], 20)
    (False, True, False)
    >>> is_far_off(100.0, usual[:15], 20)
    False
    """
    if len(before) < FEWEST or value <= max(before):
        return False
    middle = median(before)
    spread = median(abs(each - middle) for each in before)
    return value - middle > factor * max(spread, LEAST_SPREAD * abs(middle))
