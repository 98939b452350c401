"""Which values are far off those before them."""

import random

from apo_soup.training.far_off import FEWEST, WINDOW, is_far_off


def told(values, factor=20):
    return [n for n, value in enumerate(values) if is_far_off(value, values[max(0, n - WINDOW) : n], factor)]


def test_noise_and_falling_losses_are_usual():
    draw = random.Random(0)
    assert told([2.0 + draw.gauss(0, 0.1) for _ in range(500)]) == []
    assert told([12 * 0.97**n + draw.gauss(0, 0.05) for n in range(200)]) == []
    assert told([2.0 + 1e-7 * draw.random() for _ in range(100)]) == [], "values that hardly differ"
    assert told([0.0] * 40) == []


def test_a_spike_is_told_and_so_is_one_after_it_that_is_higher():
    values = [2.0, 2.2, 1.8, 2.1] * 10
    assert told([*values, 9.0, *values, 8.9, 9.5]) == [40, 82]
    assert told([2.0] * (FEWEST - 1) + [9.0]) == [], "too few to know what is usual"


def test_a_mixture_of_easy_and_hard_rows_tells_of_no_size_that_came_before():
    assert told(([0.1] * 9 + [3.0]) * 20) == []


def test_losses_below_zero_have_a_spread_too():
    assert told([*[-2.0, -2.2, -1.8, -2.1] * 10, -0.2]) == []
    assert told([*[-2.0, -2.2, -1.8, -2.1] * 10, 1.0]) == [40]
