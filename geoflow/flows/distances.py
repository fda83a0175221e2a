"""How far samples are from data: Wasserstein-2 and maximum mean discrepancy, both with the geodesic cost.

wasserstein(space, samples, data), mmd(space, samples, data); the floor of either is data against other data.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geoflow.flows.transport import transport_cost
from geoflow.manifolds import Manifold


def wasserstein(space: Manifold, x: Tensor, y: Tensor) -> float:
    """W_2 = min over pairings of sqrt(mean d(x_i, y_p(i))^2), in the unit of ``space.distance``.

    Exact between the two finite sets, by assignment (1000 points take a tenth of a second). Between samples
    of one distribution it is not 0 but falls as n^(-1/dim): compare with data against other data.

    Args:
        space: The manifold.
        x: Samples (n, ..., point_dim); d^2 is the mean over inner axes (chunk steps).
        y: As many data.

    Raises:
        ValueError: counts that differ.
    """
    from scipy.optimize import linear_sum_assignment  # late: geoflow without it starts faster

    cost = transport_cost(space, x, y).detach().double().cpu().numpy()
    return float(cost[linear_sum_assignment(cost)].mean() ** 0.5)


def mmd(space: Manifold, x: Tensor, y: Tensor, bandwidth: float = 0.5) -> float:
    """MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y), k = exp(-d / bandwidth): 0 on average for one distribution.

    The unbiased estimate (Gretton et al. 2012, eq. (3)), which may be slightly negative. The kernel is positive
    definite on R^n; on SO(3) it is but for a cusp of height exp(-pi / bandwidth) at the half turn, so that the
    bandwidth should stay well below pi.

    Args:
        space: The manifold.
        x: Samples (n, ..., point_dim), n >= 2.
        y: As many data.
        bandwidth: Length over which two points count as alike, in the unit of ``space.distance``.

    Raises:
        ValueError: counts that differ, fewer than two points, a bandwidth that is not positive.
    """
    if not bandwidth > 0:
        raise ValueError(f"bandwidth={bandwidth}; expected a length > 0 such as 0.5.")
    if len(x) < 2:
        raise ValueError(f"expected at least two points a side; got {len(x)}.")

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-transport_cost(space, a, b).double().sqrt() / bandwidth)

    return float(_among(kernel(x, x)) + _among(kernel(y, y)) - 2 * kernel(x, y).mean())


def _among(k: Tensor) -> Tensor:
    """The mean over pairs of two different points."""
    n = len(k)
    return (k.sum() - k.diagonal().sum()) / (n * (n - 1))
