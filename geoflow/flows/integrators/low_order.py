"""Euler and midpoint: one exponential from x, no commutators."""

from __future__ import annotations

from torch import Tensor

from geoflow.flows.integrators.base import Integrator, Velocity
from geoflow.manifolds import Manifold


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
