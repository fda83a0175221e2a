"""Which noise goes with which data: (x_0, x_1) ~ pi(x_0, x_1)."""

from __future__ import annotations

from torch import Tensor

from geoflow.manifolds import Manifold


def independent(space: Manifold, x_0: Tensor, x_1: Tensor) -> tuple[Tensor, Tensor]:
    """pi = p_0 x p_1: noise and data as they were drawn."""
    return x_0, x_1
