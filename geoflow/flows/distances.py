"""How far samples are from data: Wasserstein and maximum mean discrepancy, both with the geodesic cost.

wasserstein(space, samples, data), mmd(space, samples, data); the floor of either is data against other data.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geoflow.flows.transport import transport_cost
from geoflow.manifolds import Manifold


def wasserstein(space: Manifold, x: Tensor, y: Tensor, order: float = 2.0) -> float:
    """W_p = min over pairings of (mean d(x_i, y_pairing(i))^p)^(1/p), in the unit of ``space.distance``.

    Exact between the two finite sets, by assignment (1000 points take some tenths of a second). Between samples
    of one distribution it is not 0 but falls slowly with n: compare with data against other data. W_2 feels most
    which share of the samples each far mode happened to get; W_1 less.

    Args:
        space: The manifold.
        x: Samples (n, ..., point_dim); d^2 is the mean over inner axes (chunk steps).
        y: As many data.
        order: p >= 1.

    Raises:
        ValueError: counts that differ, an order below 1.
    """
    from scipy.optimize import linear_sum_assignment  # late: geoflow without it starts faster

    if not order >= 1:
        raise ValueError(f"order={order}; W_p is a distance for p >= 1, usually 1 or 2.")
    squared = transport_cost(space, x, y).detach().double().clamp(min=0)
    cost = (squared ** (0.5 * order)).cpu().numpy()
    return float(cost[linear_sum_assignment(cost)].mean() ** (1 / order))


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
        return torch.exp(-transport_cost(space, a, b).double().clamp(min=0).sqrt() / bandwidth)

    return float(_among(kernel(x, x)) + _among(kernel(y, y)) - 2 * kernel(x, y).mean())


def _among(k: Tensor) -> Tensor:
    """The mean over pairs of two different points."""
    n = len(k)
    return (k.sum() - k.diagonal().sum()) / (n * (n - 1))
