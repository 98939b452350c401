"""Intervals and paired comparisons against figures worked by hand."""

from statistics import NormalDist

import numpy as np
import pytest

from apo_soup.statistics import (
    expanded_bootstrap_interval,
    mean_score,
    paired_difference,
    proportion_score,
    ratio_score,
    sign_flip_p_value,
)


def test_wilson_interval_worked_by_hand():
    """8 of 10: centre (0.8 + 1.9207/10) / 1.38415 = 0.7168, half-width 0.2266."""
    score = proportion_score([True] * 8 + [False] * 2)
    assert (score.value, score.n) == (0.8, 10)
    assert score.low == pytest.approx(0.4902, abs=1e-4)
    assert score.high == pytest.approx(0.9433, abs=1e-4)
    assert proportion_score([True] * 20).high == 1.0
    assert proportion_score([]).value is None


def test_mean_interval_worked_by_hand():
    """1, 2, 3: sample deviation 1, so the half-width is Student's 4.303 of two degrees over sqrt(3)."""
    score = mean_score([1.0, 2.0, 3.0])
    assert (score.value, score.n) == (2.0, 3)
    assert score.high - 2.0 == pytest.approx(4.302653 / 3**0.5)


def test_losses_of_rows_are_weighted_by_their_tokens():
    """Two rows of 1 and 3 tokens, 2.0 and 6.0 nats: 2 nats a token, and the shares have that mean."""
    score, shares = ratio_score([2.0, 6.0], [1, 3])
    assert (score.value, score.n, shares) == (2.0, 2, [1.0, 3.0])
    assert score.low == score.high == 2.0
    unequal, shares = ratio_score([1.0, 9.0], [1, 3])
    assert unequal.value == sum(shares) / 2 == 2.5
    assert unequal.low < 2.5 < unequal.high


@pytest.mark.parametrize(
    ("one", "two", "low", "high"),
    [
        ([0] * 120, [1] * 6 + [0] * 114, 0.0090, 0.1048),
        ([0] * 120, [0] * 120, -0.0310, 0.0310),
        ([0] * 30, [1] * 5 + [0] * 25, 0.0, 0.3356),
        ([-1] * 6 + [0] * 34, [0] * 40, 0.0318, 0.2914),
        ([-1] * 10, [1] * 10, 2.0, 2.0),
    ],
)
def test_paired_shares_have_newcombes_interval_unless_mcnemar_says_no(one, two, low, high):
    found = paired_difference(one, two)
    assert (found.low, found.high) == (pytest.approx(low, abs=2e-3), pytest.approx(high, abs=2e-3))
    assert found.beyond_noise == (low > 0)


def test_few_items_widen_an_interval_and_one_has_none():
    three = paired_difference([0.0, 0.0, 0.0], [0.5, 0.6, 0.7])
    assert not three.beyond_noise, "three of three: p = 0.25 by signs alone"
    many = paired_difference([0.0] * 30, [0.1 + 0.01 * n for n in range(30)])
    assert many.beyond_noise
    assert mean_score([5.0]).low is None


def test_a_paired_bootstrap_has_expanded_percentiles_worked_by_numpy():
    """Resamples drawn one by one; Student's 2.262 of nine degrees times sqrt(10 / 9) stands for the normal 1.960."""
    differences = np.random.default_rng(1).normal(0.4, 1.0, 10)
    generator = np.random.default_rng(0)
    means = [differences[generator.integers(0, 10, 10)].mean() for _ in range(2000)]
    outer = NormalDist().cdf(-2.262157 * (10 / 9) ** 0.5)
    low, high = expanded_bootstrap_interval(differences, 2000, np.random.default_rng(0))
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [outer, 1 - outer])), abs=1e-6)


def test_sign_flips_are_exact_where_all_items_move_alike_and_drawn_elsewhere():
    """Five of five one way: 2 / 32. One against seven: 2 x (1 + 8) / 256."""
    generator = np.random.default_rng(0)
    assert sign_flip_p_value(np.array([1.0] * 5 + [0.0] * 9), 0, generator) == pytest.approx(0.0625)
    assert sign_flip_p_value(np.array([0.5] * 7 + [-0.5]), 0, generator) == pytest.approx(18 / 256)
    assert sign_flip_p_value(np.zeros(3), 0, generator) == 1.0
    drawn = sign_flip_p_value(np.array([1.0, 2.0, 3.0]), 4000, generator)
    assert drawn == pytest.approx(0.25, abs=0.03), "all of one sign: two of eight flips are as large"


def test_a_paired_difference_sees_what_unpaired_intervals_would_not():
    """Ten of 100 items turn right and none wrong: 0.1 better, surely above 0; the interval is that of 100 coins."""
    one = [0] * 50 + [1] * 50
    two = [1] * 10 + [0] * 40 + [1] * 50
    found = paired_difference(one, two)
    assert found.value == pytest.approx(0.1)
    assert found.beyond_noise
    # Binomial standard error of a share of 0.1 of 100 items is 0.03.
    assert found.low == pytest.approx(0.1 - 1.96 * 0.03, abs=0.015)
    assert found.high == pytest.approx(0.1 + 1.96 * 0.03, abs=0.015)
    assert not paired_difference(one, [*one[:-1], 0]).beyond_noise
    assert paired_difference(one, two, seed=1) == paired_difference(one, two, seed=1)
    with pytest.raises(ValueError, match="got 100 and 1"):
        paired_difference(one, [1])
