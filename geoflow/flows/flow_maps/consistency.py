"""Consistency models on a manifold: f(x_t, t) = x_t Exp((1 - t) u(x_t, t, 1)) is the same along a trajectory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geoflow.flows.batches import over_inner
from geoflow.flows.couplings import Coupling, independent
from geoflow.flows.flow import Network
from geoflow.flows.flow_maps.base import FlowMap, Teacher
from geoflow.flows.integrators import Solver
from geoflow.flows.noise import Generators
from geoflow.flows.paths import Path
from geoflow.flows.priors import Prior
from geoflow.flows.times import Times, uniform_times
from geoflow.manifolds import Manifold


class Consistency(FlowMap):
    """The jump to r = 1 ends where that of the next point of the trajectory does (Song et al. 2023).

    The next point is x_s = x_t Exp((s - t) v), s = t + gap, with the velocity of the conditional path
    (consistency training) or of a teacher (distillation). Both jumps end on the manifold and are compared by the
    geodesic between them: u should change by Log(f(x_t, t)^-1 f(x_s, s)) / (s - t), where f(x_s, s) comes from the
    same network without gradient. Averaged weights as a target bias it and are not needed (Song and Dhariwal
    2024, section 3.2). f(x, 1) = x by construction.

    The gap begins at a half and shrinks to its final value within ``settle`` calls of `loss`, which a buffer
    counts: a wide gap carries the data to the noise in few updates, a narrow one is unbiased (the same, section
    3.4). Several sampling steps jump to the end, and back to the path with fresh noise (Song et al., algorithm 1).

    Args:
        space: The manifold.
        prior: p_0; a unit wrapped Gaussian at the identity by default.
        path: The conditional path; the geodesic by default.
        coupling: Which noise goes with which data; independent by default.
        scale: Unit of the network's output and of the loss.
        target: What the network predicts, "velocity" or "endpoint", as in `FlowMap`.
        center: Where end points are predicted from; the identity by default.
        times: How t is drawn; uniform by default.
        instant: Share of a batch with r = t, which learns the velocity itself; with 0 nothing but jumps to 1 is
            learned.
        power: p of the loss weight, as in `FlowMap`.
        teacher: Velocities to distil.
        gap: s - t at last.
        settle: Within how many calls; 0 for a constant gap.

    Raises:
        ValueError: as `FlowMap`; a gap outside (0, 1/2], a negative count.
    """

    calls: Tensor

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
        power: float | None = None,
        teacher: Teacher | None = None,
        gap: float = 0.02,
        settle: int = 1500,
    ) -> None:
        super().__init__(
            space,
            prior,
            path,
            coupling,
            scale,
            target,
            center,
            times,
            instant=instant,
            power=power,
            teacher=teacher,
        )
        if not 0 < gap <= 0.5:
            raise ValueError(f"gap={gap}; expected a step of time > 0 and at most 0.5, such as 0.02.")
        if settle < 0:
            raise ValueError(f"settle={settle}; expected a number of training steps, 0 for a constant gap.")
        self.gap, self.settle = gap, settle
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

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
            step = torch.minimum(r - t, self._gap().to(t))
        u = self.average_velocity(net, x_t, t, r, cond)
        with torch.no_grad():
            span, dt = (over_inner(s, x_t).unsqueeze(-1) for s in (r - t, step))
            here = self.space.exp(x_t, span * u)
            there = self.jump(net, self.space.exp(x_t, dt * v), t + step, r, cond)
            # Replace the divisor before `where`: r = t.
            drift = self.space.log(here, there) / torch.where(dt > 0, dt, 1)
            target = torch.where(dt > 0, u + drift, v)
        return u, target, t

    def _gap(self) -> Tensor:
        """The present gap; counts the calls that train."""
        rest = (1 - self.calls / self.settle).clamp(min=0) if self.settle else torch.zeros_like(self.calls)
        if self.training:
            self.calls += 1
        return self.gap + (0.5 - self.gap) * rest

    def advance(
        self, net: Network, x: Tensor, t: float, r: float, cond: Any, generator: Generators
    ) -> Tensor:
        """One step of `sample`: a jump to the end, and back to time r with fresh noise."""
        end = super().advance(net, x, t, 1.0, cond, generator)
        if r == 1:
            return end
        noise = self.prior.sample(x.shape[:-1], generator).to(x)
        return self.path(self.space, noise, end, over_inner(x.new_full((len(x),), r), x), generator).x_t

    def sample(self, net: Network, cond: Any = None, *, method: Solver | None = None, **given: Any) -> Tensor:
        """Draw points; arguments as in `FlowMap.sample`.

        Raises:
            ValueError: as there; a ``method`` is to integrate velocities, which ``instant=0`` never learned.
        """
        if method is not None and self.instant == 0:
            raise ValueError(
                f"{method.name} integrates the velocity u(x, t, t), which instant=0 never learns: train with "
                "instant=0.25, or leave the method out to jump."
            )
        return super().sample(net, cond, method=method, **given)
