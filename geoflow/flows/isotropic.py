"""Noise that is isotropic in the metric of a space: z = l * eps, eps ~ N(0, I), l the unit of every direction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geoflow.flows.noise import Generators, randn
from geoflow.manifolds import Manifold


def units(space: Manifold, like: Tensor) -> Tensor:
    """l (tangent_dim,): how far a tangent of norm 1 reaches along each coordinate axis.

    For SE3(length) it is (length, length, length, 1, 1, 1), for Euclidean(n, scale) it is scale. The metric is
    taken to be diagonal in the coordinates of tangents, |v|^2 = sum (v_i / l_i)^2, as that of every space here.
    """
    basis = torch.eye(space.tangent_dim, dtype=like.dtype, device=like.device)
    return space.squared_norm(basis).rsqrt()


def isotropic(space: Manifold, shape: Sequence[int], generator: Generators, like: Tensor) -> Tensor:
    """Tangents (*shape, tangent_dim) of variance 1 in every direction of the metric."""
    return units(space, like) * randn((*shape, space.tangent_dim), generator, like=like)
