"""Axes of charts: which values they hold, where their ticks stand, and how these are written."""

import math
from dataclasses import dataclass

# A range that begins near enough to zero, as a share of its end, is drawn from zero on.
_NEAR_ZERO = 0.7


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` over the pixels from `start` to `end`, a tick at every multiple of `step`."""

    low: float
    high: float
    step: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The pixel at which a value stands."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """The values at ticks, lowest first."""
        first, last = math.ceil(self.low / self.step - 1e-6), math.floor(self.high / self.step + 1e-6)
        return [n * self.step for n in range(first, last + 1)]

    def text(self, tick: float) -> str:
        """A tick as it is written: the digits that its step needs.

        >>> axis = Axis(0, 1, 0.25, 0, 100)
        >>> [axis.text(t) for t in axis.ticks], Axis(0, 2e-5, 5e-6, 0, 1).text(1.5e-5)
        (['0', '0.25', '0.50', '0.75', '1.00'], '1.5e-5')
        """
        if abs(tick) < self.step / 2:
            return "0"
        if self.high >= 10_000 and self.step >= 100:
            return f"{tick / 1000:g}k"
        if self.step < 0.001 or self.high >= 1e6:
            mantissa, _, power = f"{tick:.1e}".partition("e")
            return f"{mantissa.removesuffix('.0')}e{int(power)}"
        digits = next(n for n in range(5) if math.isclose(round(self.step, n), self.step, rel_tol=1e-6))
        return f"{tick:.{digits}f}"


def round_step(length: float, ticks: int) -> float:
    """The least of 1, 2, 2.5 and 5 times a power of ten that has at most so many steps in a length.

    >>> round_step(1, 4), round_step(350, 4), round_step(0.37, 4)
    (0.25, 100.0, 0.1)
    """
    power = 10.0 ** math.floor(math.log10(length / ticks))
    step = next(power * times for times in (1, 2, 2.5, 5, 10) if power * times * ticks >= length * (1 - 1e-9))
    return float(f"{step:.3g}")  # without what is left of the power of ten


def axis_over(
    values: list[float], start: float, end: float, ticks: int = 4, within: tuple[float, float] | None = None
) -> Axis:
    """The axis that holds the values and begins and ends at a tick: from zero on, where they begin near it.

    Args:
        within: what the axis holds whatever the values, such as 0 and 1 for shares.
    """
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if within:
        low, high = min(low, within[0]), max(high, within[1])
    elif 0 <= low <= _NEAR_ZERO * high:
        low = 0.0
    elif low <= high <= 0 and high >= _NEAR_ZERO * low:
        high = 0.0
    if high <= low:
        low, high = low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5)
    step = round_step(high - low, ticks)
    return Axis(math.floor(low / step + 1e-6) * step, math.ceil(high / step - 1e-6) * step, step, start, end)


def axis_just_over(values: list[float], start: float, end: float, ticks: int = 4) -> Axis:
    """The axis that ends where the values do, with ticks inside: there are no steps or weights beyond."""
    low, high = min(values), max(values)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return Axis(low, high, round_step(high - low, ticks), start, end)
