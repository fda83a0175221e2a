"""From noise to data: carry points from t = 0 to t = 1."""

from __future__ import annotations

import torch
from torch import Tensor

from geoflow.flows.integrators.base import Solver, Velocity
from geoflow.flows.integrators.grids import Steps
from geoflow.flows.integrators.low_order import euler
from geoflow.manifolds import Manifold


def integrate(
    space: Manifold,
    velocity: Velocity,
    x_0: Tensor,
    steps: Steps,
    method: Solver = euler,
    *,
    path: bool = False,
) -> Tensor:
    """Carry x_0 from t = 0 to t = 1.

    Args:
        space: The manifold.
        velocity: v(x, t) in the body frame.
        x_0: Points, shape (..., point_dim).
        steps: Equal steps, at least 1, or a grid of times from 0 to 1 such as ``dense_jump(4)``. The cost is
            ``steps * method.evaluations`` network evaluations. An adaptive method only begins with them.
        method: The integrator.
        path: Return every state, stacked in front: shape (steps + 1, ..., point_dim).

    Raises:
        ValueError: fewer than one step, or a grid that does not increase from 0 to 1.
        NotImplementedError: the method needs a Lie bracket and the space has none.
    """
    states = method.states(space, velocity, x_0, steps)
    return torch.stack(states) if path else states[-1]
