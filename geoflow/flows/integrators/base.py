"""x <- x Exp(dt v): the contract of an integrator of dx/dt = x v(x, t)^."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from geoflow.flows.integrators.grids import Steps, intervals
from geoflow.manifolds import Manifold

Velocity = Callable[[Tensor, float], Tensor]
"""v(x, t): body velocities (..., tangent_dim) at points (..., point_dim)."""


class Solver(Protocol):
    """What carries points from t = 0 to t = 1: an `Integrator` step by step, or an `Adaptive` one at its pace."""

    @property
    def name(self) -> str: ...

    @property
    def reaches_end(self) -> bool: ...

    def states(self, space: Manifold, velocity: Velocity, x_0: Tensor, steps: Steps) -> list[Tensor]: ...


@dataclass(frozen=True)
class Integrator:
    """One step of a Lie-group method, and what it costs."""

    name: str
    evaluations: int
    """Velocity evaluations a step."""
    step: Callable[[Manifold, Velocity, Tensor, float, float], Tensor]
    """(space, velocity, x, t, dt) -> x at t + dt."""
    reaches_end: bool = False
    """Whether it asks for the velocity at t + dt, and so at last at t = 1."""

    def states(self, space: Manifold, velocity: Velocity, x_0: Tensor, steps: Steps) -> list[Tensor]:
        """x at every time of the grid."""
        states = [x_0]
        for t, dt in intervals(steps):
            states.append(self.step(space, velocity, states[-1], t, dt))
        return states
