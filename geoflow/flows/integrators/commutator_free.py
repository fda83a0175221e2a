"""A commutator-free method of order 4: products of exponentials instead of brackets."""

from __future__ import annotations

from torch import Tensor

from geoflow.flows.integrators.base import Integrator, Velocity
from geoflow.manifolds import Manifold


def _cf4(space: Manifold, velocity: Velocity, x: Tensor, t: float, dt: float) -> Tensor:
    k_1 = dt * velocity(x, t)
    x_2 = space.exp(x, k_1 / 2)
    k_2 = dt * velocity(x_2, t + dt / 2)
    x_3 = space.exp(x, k_2 / 2)
    k_3 = dt * velocity(x_3, t + dt / 2)
    x_4 = space.exp(x_2, k_3 - k_1 / 2)
    k_4 = dt * velocity(x_4, t + dt)
    half = space.exp(x, (3 * k_1 + 2 * k_2 + 2 * k_3 - k_4) / 12)
    return space.exp(half, (-k_1 + 2 * k_2 + 2 * k_3 + 3 * k_4) / 12)


cf4 = Integrator("cf4", 4, _cf4, reaches_end=True)
"""Order 4, four evaluations, five exponentials (Celledoni, Marthinsen and Owren 2003); it needs no
bracket, only a frame in which velocities with constant components are walked by ``exp``."""
