"""Consistency models on a manifold: the jump to r = 1 ends where that of the next point of the path does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geoflow.flows.couplings import Coupling, independent
from geoflow.flows.flow import Network, over_inner
from geoflow.flows.flow_maps.base import FlowMap, Teacher
from geoflow.flows.noise import Generators
from geoflow.flows.paths import Path
from geoflow.flows.priors import Prior
from geoflow.flows.times import Times, uniform_times
from geoflow.manifolds import Manifold


class Consistency(FlowMap):
    """f(x_t, t) = x_t Exp((1 - t) u(x_t, t, 1)) is the same along a trajectory (Song et al. 2023)."""

    def __init__(
        self,
        space: Manifold,
        prior: Prior | None = None,
        path: Path | None = None,
        coupling: Coupling = independent,
        scale: Tensor | float = 1.0,
        target: str = "velocity",
        center: Tensor | None = None,
        times: Times = uniform_times,
        *,
        instant: float = 0.25,
        power: float = 0.5,
        teacher: Teacher | None = None,
        gap: float = 0.02,
    ) -> None:
        super().__init__(
            space, prior, path, coupling, scale, target, center, times,
            instant=instant, power=power, teacher=teacher,
        )  # fmt: skip
        self.gap = gap

    def draw_times(self, generator: Generators, like: Tensor) -> tuple[Tensor, Tensor]:
        """t and r, each (B,): r = t in a share ``instant`` of the batch, else 1."""
        t = self.times(len(like), generator, like)
        return t, torch.where(uniform_times(len(like), generator, like) < self.instant, t, torch.ones_like(t))

    def errors(
        self, net: Network, x_0: Tensor, x_1: Tensor, cond: Any, generator: Generators
    ) -> tuple[Tensor, Tensor, Tensor]:
        """u, its target, and t."""
        with torch.no_grad():
            t, r = self.draw_times(generator, x_1)
            x_t, v = self.field(x_0, x_1, t, cond, generator)
        u = self.average_velocity(net, x_t, t, r, cond)
        with torch.no_grad():
            span = over_inner(r - t, x_t).unsqueeze(-1)
            step = torch.minimum(r - t, torch.full_like(t, self.gap))
            dt = over_inner(step, x_t).unsqueeze(-1)
            here = self.space.exp(x_t, span * u)
            there = self.jump(net, self.space.exp(x_t, dt * v), t + step, r, cond)
            drift = self.space.log(here, there) / torch.where(dt > 0, dt, 1)
            target = torch.where(dt > 0, u + drift, v)
        return u, target, t
