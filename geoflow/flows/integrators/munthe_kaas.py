"""Runge-Kutta-Munthe-Kaas: x = x_n Exp(u), u' = dexp^-1_u v, integrated in the Lie algebra by a tableau."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geoflow.flows.integrators.base import Integrator, Velocity
from geoflow.manifolds import Manifold


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method: stage i is at t + nodes[i] dt and u_i = dt sum_j stages[i][j] k_j."""

    nodes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]


RK4 = Tableau((0, 0.5, 0.5, 1), ((), (0.5,), (0, 0.5), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))
"""Kutta's method of order 4."""
BOGACKI_SHAMPINE = Tableau((0, 0.5, 0.75), ((), (0.5,), (0, 0.75)), (2 / 9, 1 / 3, 4 / 9))
"""Order 3 (Bogacki and Shampine 1989); `Adaptive` embeds it."""


def inverse_dexp(space: Manifold, u: Tensor, v: Tensor) -> Tensor:
    """u' with d/dt (x Exp(u)) = x Exp(u) v^: J_r^-1(u) v = v + [u, v]/2 + [u, [u, v]]/12 + O(|u|^4).

    Enough for methods up to order 4 (Munthe-Kaas 1998; Iserles et al. 2000, section 3). The signs are those of
    body velocities, right perturbations.
    """
    first = space.bracket(u, v)
    return v + first / 2 + space.bracket(u, first) / 12


def slopes(
    space: Manifold,
    tableau: Tableau,
    velocity: Velocity,
    x: Tensor,
    t: float,
    dt: float,
    first: Tensor | None = None,
) -> list[Tensor]:
    """k_i = dexp^-1_(u_i) v(x Exp(u_i), t + c_i dt) of all stages; ``first`` is v(x, t) where it is known."""
    ks = [velocity(x, t) if first is None else first]
    for node, row in zip(tableau.nodes[1:], tableau.stages[1:], strict=True):
        u = dt * combine(row, ks)
        ks.append(inverse_dexp(space, u, velocity(space.exp(x, u), t + node * dt)))
    return ks


def combine(weights: tuple[float, ...], ks: list[Tensor]) -> Tensor:
    """sum_i weights[i] k_i, without the terms that are zero."""
    terms = [w * k for w, k in zip(weights, ks, strict=True) if w]
    return torch.stack(terms).sum(0) if len(terms) > 1 else terms[0]


def _method(name: str, tableau: Tableau) -> Integrator:
    def step(space: Manifold, velocity: Velocity, x: Tensor, t: float, dt: float) -> Tensor:
        ks = slopes(space, tableau, velocity, x, t, dt)
        return space.exp(x, dt * combine(tableau.weights, ks))

    return Integrator(name, len(tableau.nodes), step, reaches_end=tableau.nodes[-1] == 1)


rkmk3 = _method("rkmk3", BOGACKI_SHAMPINE)
"""Order 3, three evaluations, none of them at the end of the step."""

rkmk4 = _method("rkmk4", RK4)
"""Order 4, four evaluations."""
