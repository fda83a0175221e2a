"""Which noise goes with which data: (x_0, x_1) ~ pi(x_0, x_1 | cond)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from geoflow.manifolds import Manifold

Coupling = Callable[[Manifold, Tensor, Tensor, Any], tuple[Tensor, Tensor]]
"""(space, x_0, x_1, cond) -> (x_0, x_1), paired; x_1 keeps its order, because cond belongs to it."""


def independent(space: Manifold, x_0: Tensor, x_1: Tensor, cond: Any = None) -> tuple[Tensor, Tensor]:
    """pi = p_0 x p_1: noise and data as they were drawn."""
    return x_0, x_1
