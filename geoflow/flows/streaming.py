"""Flow time is action time: one point flows along the trajectory, and what it passes are the actions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geoflow.flows.flow import Network
from geoflow.flows.integrators import Integrator, euler
from geoflow.flows.isotropic import isotropic
from geoflow.flows.noise import Generators
from geoflow.flows.paths import PathSample
from geoflow.flows.paths.noisy import around
from geoflow.flows.times import Times, uniform_times
from geoflow.manifolds import Manifold


@dataclass(frozen=True, eq=False)
class Streaming:
    """Streaming flow policy (Jiang et al. 2025) on a group: x_t = xi_t Exp(sigma e^(-k t) z), xi the demonstration.

    Their conditional flow, velocity xi'_t - k (x - xi_t) on R^n, is a noisy path (see `geoflow.flows.paths.noisy`)
    about the demonstrated trajectory xi from the present pose through the actions. A step of the sampler is
    an action, ready before the next is computed, and the first ones are near where the robot is; every action
    costs one evaluation, of a network that sees one point:

        streaming = Streaming(space)
        loss = streaming.loss(net, present, chunk, cond).mean()       # net(features (B, f), t (B,), cond)
        for action in streaming.stream(net, present, cond, horizon=16): ...

    It models each time's distribution, not the joint one of a trajectory: where demonstrations cross, a
    sample may go on along another one (section 4 there). Chunks that start near the present pose, without that,
    are a `WrappedGaussian` about it as x_0 of ``flow.loss`` and ``flow.sample``.

    Args:
        space: The manifold of one action.
        sigma: Width at t = 0 around the present pose, in the metric of the space.
        stabilise: k, how fast the velocity leads back to the demonstration, per chunk.
        scale: Unit of the network's output, as in `Flow`.
        times: Which times it trains at.

    Raises:
        ValueError: a width or k below 0.
    """

    space: Manifold
    sigma: float = 0.05
    stabilise: float = 2.5
    scale: Tensor | float = 1.0
    times: Times = uniform_times

    def __post_init__(self) -> None:
        if not (self.sigma >= 0 and self.stabilise >= 0):
            raise ValueError(f"sigma={self.sigma}, stabilise={self.stabilise}; expected both >= 0.")

    def loss(
        self, net: Network, present: Tensor, chunk: Tensor, cond: Any = None, *, generator: Generators = None
    ) -> Tensor:
        """| (net(x_t, t, cond) * scale - v_t) / scale |^2 (B,) in the metric of the space.

        Args:
            net: The network.
            present: Where the robot is, shape (B, point_dim): xi_0.
            chunk: Actions (B, T, point_dim): xi at the times 1/T, ..., 1.
            cond: Handed to the network as it is.
            generator: Source of randomness.
        """
        with torch.no_grad():
            t = self.times(len(chunk), generator, chunk)
            sample = self.at(present, chunk, t, generator)
        error = net(self.space.features(sample.x_t), t, cond) - sample.v_t / self.scale
        return self.space.squared_norm(error)

    def at(self, present: Tensor, chunk: Tensor, t: Tensor, generator: Generators = None) -> PathSample:
        """x_t (B, point_dim) and its velocity (B, tangent_dim) at times t (B,), screws or lines between actions.

        Raises:
            ValueError: shapes that are not those of one present pose for each chunk.
        """
        if chunk.dim() != 3 or present.shape != chunk[:, 0].shape:
            raise ValueError(
                f"expected present poses (B, {self.space.point_dim}) and chunks (B, T, {self.space.point_dim}); got "
                f"{tuple(present.shape)} and {tuple(chunk.shape)}."
            )
        batch, horizon = chunk.shape[:2]
        way = torch.cat([present[:, None], chunk], dim=1)
        i = (t * horizon).long().clamp(max=horizon - 1)
        rows = torch.arange(batch, device=t.device)
        mu, m = self.space.geodesic(way[rows, i], way[rows, i + 1], t * horizon - i)
        z = isotropic(self.space, (batch,), generator, mu)
        sigma = self.sigma * torch.exp(-self.stabilise * t)
        return around(self.space, mu, horizon * m, z, sigma, -self.stabilise * sigma)

    def stream(
        self,
        net: Network,
        present: Tensor,
        cond: Any = None,
        *,
        horizon: int,
        substeps: int = 1,
        method: Integrator = euler,
        generator: Generators = None,
    ) -> Iterator[Tensor]:
        """Actions (B, point_dim), ``horizon`` of them, each as soon as it is known.

        Args:
            net: The network.
            present: Where the robot is, shape (B, point_dim).
            cond: Handed to the network as it is.
            horizon: T, as trained.
            substeps: Integration steps for each action.
            method: The integrator of one step.
            generator: Source of randomness, or one generator per batch element.
        """
        x = self.space.exp(present, self.sigma * isotropic(self.space, present.shape[:1], generator, present))
        dt = 1 / (horizon * substeps)

        def velocity(x: Tensor, t: float) -> Tensor:
            return self.scale * net(self.space.features(x), x.new_full((len(x),), t), cond)

        for step in range(horizon * substeps):
            x = method.step(self.space, velocity, x, step * dt, dt)
            if (step + 1) % substeps == 0:
                yield x
