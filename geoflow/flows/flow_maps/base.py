"""x_r = x_t Exp((r - t) u(x_t, t, r)): a network of two times that jumps along a flow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from geoflow.flows.batches import mean_inner, over_batch, over_inner
from geoflow.flows.couplings import Coupling, independent
from geoflow.flows.flow import Flow, Network
from geoflow.flows.integrators import Solver, Steps
from geoflow.flows.integrators.grids import intervals
from geoflow.flows.noise import Generators
from geoflow.flows.paths import Path
from geoflow.flows.priors import Prior
from geoflow.flows.times import Times, uniform_times
from geoflow.manifolds import Manifold

Teacher = Callable[[Tensor, Tensor, Any], Tensor]
"""v(x (B, ..., point_dim), t (B,), cond) -> body velocities: ``partial(flow.velocity, net)`` of a trained flow."""


class FlowMap(Flow, ABC):
    """Average velocities u: the flow through x_t at time t is at x_t Exp((r - t) u(x_t, t, r)) at time r >= t.

    The network takes features (B, ..., feature_dim), times (B, 2) = (t, r) and cond. At r = t it is a velocity
    field as that of `Flow`, so that integrators, guidance, likelihoods and straightness work as they do there.
    Subclasses say how u is learned, from data or from a trained flow:

        flow_map = gf.flows.MeanFlow(space, prior)
        loss = flow_map.loss(net, x_1, cond).mean()
        x = flow_map.sample(net, cond, steps=1)

    Args:
        space: The manifold.
        prior: p_0; a unit wrapped Gaussian at the identity by default.
        path: The conditional path; the geodesic by default.
        coupling: Which noise goes with which data; independent by default.
        scale: Unit of the network's output and of the loss, a number or shape (..., tangent_dim).
        target: What the network predicts. "velocity": u = scale * net(...). "endpoint": where that velocity
            would end at time 1, u = Log(x_t^-1 c Exp(scale * net(...))) / (1 - t).
        center: c, shape (..., point_dim); the identity by default.
        times: How t and r are drawn: two of these, in order.
        instant: Share of a batch with r = t, which learns the velocity itself.
        power: p of the weight 1 / (|error|^2 + 0.001)^p that tames rare large errors (Geng et al. 2025); 0 for
            plain squares. A weight that depends on the error moves the mean that is learned: large powers pull
            velocities towards the median. By default the rule's own ``default_power``.
        teacher: Velocities to distil; by default those of the conditional path: training from scratch.

    Raises:
        ValueError: an unknown target, a share outside [0, 1], a negative power.
    """

    default_power = 0.5

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
        instant: float = 0.5,
        power: float | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__(space, prior, path, coupling, scale, target, center, times)
        if not 0 <= instant <= 1:
            raise ValueError(f"instant={instant}; expected the share of samples with r = t, from 0 to 1.")
        power = self.default_power if power is None else power
        if not power >= 0:
            raise ValueError(f"power={power}; expected a power >= 0, such as 0 for plain squares or 1.")
        self.instant, self.power, self.teacher = instant, power, teacher

    def average_velocity(self, net: Network, x: Tensor, t: Tensor, r: Tensor, cond: Any = None) -> Tensor:
        """u (B, ..., tangent_dim) at points x (B, ..., point_dim) from times t (B,) to r (B,), r >= t."""
        predicted = self.scale * net(self.space.features(x), torch.stack([t, r], dim=-1), cond)
        if self.target == "velocity":
            return predicted
        rest = (1 - over_inner(t, x)).unsqueeze(-1).clamp_min(1e-3)  # at t = 1 there is no way left
        return self.space.log(x, self._endpoint(predicted)) / rest

    def velocity(self, net: Network, x: Tensor, t: Tensor, cond: Any = None) -> Tensor:
        """Body velocities u(x, t, t) (B, ..., tangent_dim) at points x (B, ..., point_dim) and times t (B,)."""
        return self.average_velocity(net, x, t, t, cond)

    def step(
        self, net: Network, x: Tensor, t: float | Tensor, dt: float | Tensor, cond: Any = None
    ) -> Tensor:
        """The Euler step from x (B, ..., point_dim) at time t to t + dt: x Exp(dt u(x, t, t))."""
        return self.space.exp(x, dt * self.velocity(net, x, over_batch(t, x), cond))

    def jump(self, net: Network, x: Tensor, t: Tensor, r: Tensor, cond: Any = None) -> Tensor:
        """x Exp((r - t) u), shape (B, ..., point_dim)."""
        u = self.average_velocity(net, x, t, r, cond)
        return self.space.exp(x, over_inner(r - t, x).unsqueeze(-1) * u)

    @abstractmethod
    def errors(
        self, net: Network, x_0: Tensor, x_1: Tensor, cond: Any, generator: Generators
    ) -> tuple[Tensor, Tensor, Tensor]:
        """u (B, ..., tangent_dim) of a batch, what it should be (no gradient), and the times t (B,) of x_t."""

    def loss(
        self,
        net: Network,
        x_1: Tensor,
        cond: Any = None,
        *,
        x_0: Tensor | None = None,
        generator: Generators = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """Weighted squared error of the average velocity of each batch element, shape (B,), in units of scale.

        Its value says little of how well samples will look: targets are the network's own.

        Args:
            net: The network of two times, differentiable in them.
            x_1: Data, shape (B, ..., point_dim).
            cond: Handed to the network as it is.
            x_0: Where each path starts, paired with x_1; drawn from the prior by default.
            generator: Source of randomness.
            counts: Which points count, bool of shape (B, ...); all by default.
        """
        with torch.no_grad():
            x_0, x_1 = self._pair(x_0, x_1, cond, generator)
        u, target, t = self.errors(net, x_0, x_1, cond, generator)
        error = (u - target) / self.scale
        if self.target == "endpoint":  # the error of the end point, as in Flow.loss
            error = error * (1 - over_inner(t, x_1)).unsqueeze(-1)
        squares = mean_inner(self.space.squared_norm(error), counts)
        return squares / (squares.detach() + 1e-3) ** self.power

    def sample(
        self,
        net: Network,
        cond: Any = None,
        *,
        horizon: int | Sequence[int] = (),
        batch: int | None = None,
        steps: Steps = 1,
        method: Solver | None = None,
        x_0: Tensor | None = None,
        generator: Generators = None,
        path: bool = False,
    ) -> Tensor:
        """Draw points of shape (B, *horizon, point_dim) in ``steps`` jumps, one network evaluation each.

        Arguments are those of `Flow.sample`; with a ``method`` the velocity u(x, t, t) is integrated instead.
        """
        if method is not None:
            return super().sample(
                net,
                cond,
                horizon=horizon,
                batch=batch,
                steps=steps,
                method=method,
                x_0=x_0,
                generator=generator,
                path=path,
            )
        states = [self.start(cond, horizon=horizon, batch=batch, x_0=x_0, generator=generator)]
        for t, dt in intervals(steps):
            states.append(self.advance(net, states[-1], t, t + dt, cond, generator))
        return torch.stack(states) if path else states[-1]

    def advance(
        self, net: Network, x: Tensor, t: float, r: float, cond: Any, generator: Generators
    ) -> Tensor:
        """One step of `sample`, from x at time t to time r: a jump."""
        return self.jump(net, x, x.new_full((len(x),), t), x.new_full((len(x),), r), cond)

    def draw_times(self, generator: Generators, like: Tensor) -> tuple[Tensor, Tensor]:
        """t <= r, each (B,): two draws in order, r = t in a share ``instant`` of the batch."""
        batch = len(like)
        a, b = self.times(batch, generator, like), self.times(batch, generator, like)
        t, r = torch.minimum(a, b), torch.maximum(a, b)
        return t, torch.where(uniform_times(batch, generator, like) < self.instant, t, r)

    def field(
        self, x_0: Tensor, x_1: Tensor, t: Tensor, cond: Any, generator: Generators
    ) -> tuple[Tensor, Tensor]:
        """x_t on the conditional path, and the velocity there: of the path, or of the teacher."""
        sample = self.path(self.space, x_0, x_1, over_inner(t, x_1), generator)
        v = sample.v_t if self.teacher is None else self.teacher(sample.x_t, t, cond)
        return sample.x_t, v
