"""x <- x Exp(dt v): integrators of dx/dt = x v(x, t)^ that stay on the manifold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from geoflow.manifolds import Manifold

Velocity = Callable[[Tensor, float], Tensor]
"""v(x, t): body velocities (..., tangent_dim) at points (..., point_dim)."""


@dataclass(frozen=True)
class Integrator:
    """One step of a Lie-group method, and what it costs."""

    name: str
    evaluations: int
    """Velocity evaluations a step."""
    step: Callable[[Manifold, Velocity, Tensor, float, float], Tensor]
    """(space, velocity, x, t, dt) -> x at t + dt."""


def _euler(space: Manifold, velocity: Velocity, x: Tensor, t: float, dt: float) -> Tensor:
    return space.exp(x, dt * velocity(x, t))


def _midpoint(space: Manifold, velocity: Velocity, x: Tensor, t: float, dt: float) -> Tensor:
    middle = space.exp(x, 0.5 * dt * velocity(x, t))
    return space.exp(x, dt * velocity(middle, t + 0.5 * dt))


euler = Integrator("euler", 1, _euler)
"""Lie-Euler, order 1; exact where the body velocity is constant, as it is on a conditional path."""

midpoint = Integrator("midpoint", 2, _midpoint)
"""Explicit midpoint, order 2 on any Lie group: the stage and the update are single exponentials from x
(Munthe-Kaas 1998; to this order no commutator is needed)."""

INTEGRATORS = {method.name: method for method in (euler, midpoint)}


def integrate(
    space: Manifold,
    velocity: Velocity,
    x_0: Tensor,
    steps: int,
    method: Integrator = euler,
    *,
    path: bool = False,
) -> Tensor:
    """Carry x_0 from t = 0 to t = 1 in equal steps.

    Args:
        space: The manifold.
        velocity: v(x, t) in the body frame.
        x_0: Points, shape (..., point_dim).
        steps: Steps, at least 1; the cost is ``steps * method.evaluations`` network evaluations.
        method: The integrator.
        path: Return every state, stacked in front: shape (steps + 1, ..., point_dim).

    Raises:
        ValueError: fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}; integrating from noise to data needs at least 1 step.")
    x, states = x_0, [x_0]
    for i in range(steps):
        x = method.step(space, velocity, x, i / steps, 1 / steps)
        if path:
            states.append(x)
    return torch.stack(states) if path else x
