"""Minibatch optimal transport: pair a batch's noise with its data so that the paths are short together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geoflow.manifolds import Manifold


@dataclass(frozen=True)
class OptimalTransport:
    """The permutation of x_0 with the least sum of squared lengths, sum_i d(x_0[p(i)], x_1[i])^2.

    Pooladian et al. 2023, Tong et al. 2024, with the geodesic cost of whole chunks (mean over inner axes).
    For flows without condition: with one, noise would be handed to the observations whose data lie near it,
    p(x_0 | cond) would not be the prior that sampling draws from, and samples would miss their target. With
    conditions use `ConditionalTransport`.

    Raises:
        ValueError: as many noise points as data are needed.
    """

    def __call__(self, space: Manifold, x_0: Tensor, x_1: Tensor, cond: Any = None) -> tuple[Tensor, Tensor]:
        """x_0 permuted, x_1 as it is; (B, ..., point_dim)."""
        return x_0[_assign(transport_cost(space, x_0, x_1))], x_1


@dataclass(frozen=True)
class ConditionalTransport:
    """Optimal transport among the data of the same observation only.

    Noise j may go to datum i when |cond_j - cond_i| <= radius. Under equal conditions the noise of a group is
    permuted within the group, whose members are drawn alike, so p(x_0 | cond) stays exactly the prior; every
    batch should then hold several data of each observation (tags, classes, repeated scenes). A radius trades a
    skew, no larger than what conditions within it tell apart, for shorter paths.

    Where every observation is new and has one datum (a robot's images), nothing can be gained without skew:
    to draw K noises for the datum and keep the nearest would train from a p_0 that leans towards the data, and
    an assignment with a soft penalty (Cheng and Schwing 2025, C2OT) does so by as much as the penalty allows.
    This coupling then is the independent one.

    Args:
        radius: Euclidean distance up to which conditions count as the same.

    Raises:
        ValueError: a negative radius; counts that differ; conditions that are no tensor of shape (B, ...).
    """

    radius: float = 0.0

    def __post_init__(self) -> None:
        if not self.radius >= 0:
            raise ValueError(f"radius={self.radius}; expected a distance >= 0 between conditions.")

    def __call__(self, space: Manifold, x_0: Tensor, x_1: Tensor, cond: Any = None) -> tuple[Tensor, Tensor]:
        """x_0 permuted within observations, x_1 as it is; (B, ..., point_dim)."""
        if not isinstance(cond, Tensor) or cond.shape[:1] != x_1.shape[:1]:
            given = f"shape {tuple(cond.shape)}" if isinstance(cond, Tensor) else type(cond).__name__
            raise ValueError(
                f"expected conditions as a tensor of shape ({len(x_1)}, ...), one a datum; got {given}. "
                "Without conditions use OptimalTransport."
            )
        cost = transport_cost(space, x_0, x_1)
        c = cond.reshape(len(x_1), -1).to(torch.float64)
        # The fast formula of cdist rounds the distance of equal conditions to something above zero.
        apart = torch.cdist(c, c, compute_mode="donot_use_mm_for_euclid_dist")
        return x_0[_assign(cost.masked_fill(apart.to(cost.device) > self.radius, math.inf))], x_1


def transport_cost(space: Manifold, x_0: Tensor, x_1: Tensor) -> Tensor:
    """cost[i, j] = |log(x_0[j], x_1[i])|^2, mean over the inner axes (chunk steps), shape (B, B).

    Raises:
        ValueError: as many noise points as data are needed.
    """
    if x_0.shape != x_1.shape:
        raise ValueError(
            f"optimal transport pairs each noise with one datum; got {tuple(x_0.shape)} and "
            f"{tuple(x_1.shape)}. Draw as many noise points as there are data, or use coupling=independent."
        )
    inner = x_1[0, ..., 0].numel()
    # The chunk steps first: one matrix of pairs for each.
    x_0, x_1 = (x.reshape(len(x), inner, x.shape[-1]).transpose(0, 1) for x in (x_0, x_1))
    # A few steps at a time: their pairs stay in the cache.
    parts = zip(x_1.split(4), x_0.split(4), strict=True)
    return torch.stack([space.squared_distances(a, b).sum(0) for a, b in parts]).sum(0) / inner


def _assign(cost: Tensor) -> Tensor:
    """Which column each row takes, the sum of costs least."""
    from scipy.optimize import linear_sum_assignment  # late: geoflow without it starts faster

    columns = linear_sum_assignment(cost.detach().double().cpu().numpy())[1]
    return torch.as_tensor(columns, device=cost.device)
