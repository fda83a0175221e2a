"""Intervals of rates against scipy's, and the sizes that field reports quote."""

import numpy as np
import pytest
import scipy.stats
from scipy.stats import binom, binomtest

from geoflow.experiments.proportions import detectable_difference, sign_test, welch_test, wilson_interval


@pytest.mark.parametrize("trials", [1, 7, 100, 300])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.83, 1.0])
def test_wilson_interval_is_scipys(trials, share):
    successes = round(share * trials)
    low, high = wilson_interval(successes, trials)
    expected = binomtest(successes, trials).proportion_ci(0.95, "wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= successes / trials <= high <= 1


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_wilson_interval_covers_as_it_says(rate):
    """Over all outcomes of 100 trials, weighted by their probability, about 95 % of intervals hold the rate."""
    covered = sum(
        binom.pmf(k, 100, rate)
        for k in range(101)
        if wilson_interval(k, 100)[0] <= rate <= wilson_interval(k, 100)[1]
    )
    assert 0.92 < covered < 0.98


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(ValueError, match="0 <= successes <= trials"):
        wilson_interval(successes, trials)


def test_detectable_difference_at_known_sizes():
    """About 1250 episodes an arm show 5 points at 70 %, about 290 show 10 (normal approximation)."""
    assert detectable_difference(0.70, 1316) == pytest.approx(0.05, abs=0.001)
    assert detectable_difference(0.70, 330) == pytest.approx(0.10, abs=0.002)
    assert 0 < detectable_difference(0.0, 100) < 0.1


@pytest.mark.parametrize(("a", "b"), [(0, 0), (5, 5), (9, 3), (0, 8), (40, 11)])
def test_sign_test_is_scipys(a, b):
    expected = binomtest(a, a + b, 0.5).pvalue if a + b else 1.0
    assert sign_test(a, b) == pytest.approx(expected, abs=1e-12)
    assert sign_test(a, b) == sign_test(b, a)


def test_welch_test_from_its_formula():
    """t = d / sqrt(s), s = v_a + v_b, and s^2 / (v_a^2 + v_b^2) times n - 1 degrees of freedom, of as many each."""
    a, b = [0.93, 0.94, 0.94], [0.87, 0.89, 0.87]
    v_a, v_b = (np.var(x, ddof=1) / 3 for x in (a, b))
    s, d = v_a + v_b, np.mean(a) - np.mean(b)
    expected = 2 * scipy.stats.t.sf(d / np.sqrt(s), 2 * s**2 / (v_a**2 + v_b**2))
    assert welch_test(a, b) == pytest.approx(expected, rel=1e-6)
    assert welch_test(a, [0.9]) is None
    assert welch_test([0.9, 0.9], [0.8, 0.8]) is None
