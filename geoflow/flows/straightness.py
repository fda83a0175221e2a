"""How straight a flow runs: curvature and cost of its trajectories, from the states of ``flow.sample(path=True)``.

states = flow.sample(net, cond=cond, horizon=16, steps=100, path=True)
curvature(space, states), path_cost(space, states), end_cost(space, states)
"""

from __future__ import annotations

from torch import Tensor

from geoflow.manifolds import Manifold


def curvature(space: Manifold, states: Tensor) -> Tensor:
    """S = sum_i dt |v_i - xi|^2 (...), xi = log(x_0, x_1), of trajectories (n + 1, ..., point_dim) in n equal steps.

    0 for a geodesic at constant speed, which one Euler step then follows (Liu et al. 2023, eq. (5), with body
    velocities in place of vectors). On flat spaces it is the cost of the way minus that of the straight line.
    """
    _check(states)
    v, xi = _velocities(space, states), space.log(states[0], states[-1])
    return space.squared_norm(v - xi).mean(0)


def path_cost(space: Manifold, states: Tensor) -> Tensor:
    """Energy sum_i dt |v_i|^2 (...) of the way taken: at least the cost of the short way, `end_cost`."""
    _check(states)
    return space.squared_norm(_velocities(space, states)).mean(0)


def end_cost(space: Manifold, states: Tensor) -> Tensor:
    """|log(x_0, x_1)|^2 (...): the transport cost of where each noise ended."""
    _check(states)
    return space.squared_norm(space.log(states[0], states[-1]))


def _velocities(space: Manifold, states: Tensor) -> Tensor:
    """Body velocities (n, ..., tangent_dim), constant within each step."""
    return space.log(states[:-1], states[1:]) * (len(states) - 1)


def _check(states: Tensor) -> None:
    if states.dim() < 2 or len(states) < 2:
        raise ValueError(
            f"expected states (steps + 1, ..., point_dim) of at least one step; got {tuple(states.shape)}. "
            "Draw them with flow.sample(..., path=True)."
        )
