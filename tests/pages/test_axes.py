"""Axes: round ticks, and zero where it belongs."""

import pytest

from apo_soup.pages.axes import axis_just_over, axis_over


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.05, 7.6], ["0", "2", "4", "6", "8"]),
        ([0.0, 2e-5], ["0", "5e-6", "1e-5", "1.5e-5", "2e-5"]),
        ([2.1, 2.32], ["2.1", "2.2", "2.3", "2.4"]),
        ([-0.02, -0.3], ["-0.3", "-0.2", "-0.1", "0"]),
        ([0.0, 131_072.0], ["0", "50k", "100k", "150k"]),
        ([3.0], ["1", "2", "3", "4", "5"]),
        ([1.0, 1.0], ["0.50", "0.75", "1.00", "1.25", "1.50"]),
    ],
)
def test_ticks_are_round_and_hold_the_values(values, ticks):
    axis = axis_over(values, 0, 100)
    assert [axis.text(tick) for tick in axis.ticks] == ticks
    assert axis.low <= min(values)
    assert axis.high >= max(values)
    assert 0 <= axis.at(values[0]) <= 100


def test_shares_stand_between_0_and_1_whatever_they_are():
    axis = axis_over([0.4, 0.5], 0, 100, within=(0.0, 1.0))
    assert (axis.low, axis.high) == (0.0, 1.0)


def test_steps_end_where_the_training_does():
    axis = axis_just_over([10.0, 352.0], 0, 100)
    assert (axis.low, axis.high) == (10.0, 352.0)
    assert axis.ticks == [100, 200, 300]
    assert axis_just_over([5.0], 0, 100).at(5.0) == 50
