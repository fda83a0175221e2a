"""What s successes in n trials say: Wilson's interval, and the difference that n trials can show."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import ttest_ind

Z_95 = 1.959963984540054
Z_80_POWER = 0.8416212335729143


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """The 95 % score interval of a rate; stays in [0, 1] and is not empty at 0 and at 1.

    Wilson 1927, with centre (p + z^2 / 2n) / (1 + z^2 / n).

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials; give 0 <= successes <= trials >= 1.")
    p, spread = successes / trials, z * z / trials
    centre = (p + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(p * (1 - p) / trials + spread / (4 * trials))
    # At 0 and at n the interval ends in 0 and in 1 exactly; rounding would leave 1e-17.
    low = centre - half if successes else 0.0
    high = centre + half if successes < trials else 1.0
    return low, high


def detectable_difference(rate: float, trials: int) -> float:
    """The difference between two rates that `trials` episodes each show with 80 % power at the 5 % level.

    Normal approximation, (z_0.975 + z_0.8) sqrt(2 p (1 - p) / n); p is kept off 0 and 1 by one episode.
    """
    p = min(max(rate, 1 / (trials + 2)), 1 - 1 / (trials + 2))
    return (Z_95 + Z_80_POWER) * math.sqrt(2 * p * (1 - p) / trials)


def welch_test(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Two-sided p-value that two sets of trainings have one mean rate; None of fewer than two each, or all alike.

    Welch 1947: t with unequal variances, here those among trainings, whatever the number of episodes.
    """
    if min(len(a), len(b)) < 2 or len({*a}) == len({*b}) == 1:
        return None
    return float(np.asarray(ttest_ind(a, b, equal_var=False))[1])


def sign_test(only_a: int, only_b: int) -> float:
    """Two-sided exact p-value that discordant pairs fall evenly: scenes only a solved, scenes only b solved.

    McNemar's exact test: only_a is Binomial(only_a + only_b, 1/2) when neither is better.
    """
    n, k = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    return min(1.0, 2 * tail)
