"""Sampling by an SDE with the marginals of the flow: dx = x (v + g^2/2 grad log p_t) dt + g x dW, noise g a knob.

dW is isotropic in the metric of the space and enters by left-invariant increments, x Exp(dW), so that the
generator of its density against Haar measure is g^2/2 sum_i E_i^2, with E_i the left-invariant fields of unit
length: on the unimodular groups here these preserve volume. The drift g^2/2 grad log p_t undoes exactly that in
the Fokker-Planck equation (Song et al. 2021 on R^n; De Bortoli et al. 2022 on manifolds), for any g(t) >= 0.
g = 0 is the flow. More noise forgets x_0, and errors made on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from geoflow.flows.batches import over_inner
from geoflow.flows.flow import Flow, Network
from geoflow.flows.integrators import Steps
from geoflow.flows.integrators.grids import intervals
from geoflow.flows.isotropic import isotropic, units
from geoflow.flows.noise import Generators
from geoflow.flows.paths import BrownianBridge
from geoflow.flows.scores import Score
from geoflow.manifolds import Manifold

Level = Callable[[float], float]
"""g(t) >= 0, in the metric of the space per root of time."""


def sample_sde(
    flow: Flow,
    net: Network,
    score: Score,
    cond: Any = None,
    *,
    noise: float | Level = 0.5,
    horizon: int | Sequence[int] = (),
    batch: int | None = None,
    steps: Steps = 50,
    x_0: Tensor | None = None,
    generator: Generators = None,
    path: bool = False,
) -> Tensor:
    """Draw points of shape (B, *horizon, point_dim), as ``flow.sample`` does but with noise on the way.

        flow.sample(net, cond=cond)                                             # the ODE
        sample_sde(flow, net, gaussian_score(flow), cond)                       # vectors
        sample_sde(flow, net, learned_score(flow, score_net), cond, noise=0.3)  # any group

    Args:
        flow: The flow.
        net: Its network.
        score: `gaussian_score`, or `learned_score` for one more network evaluation a step.
        cond: Handed to the networks as it is.
        noise: g(t), or a number for g = noise sqrt(1 - t), which fades as the noise in x_t does (Ma et al. 2024,
            SiT). Take it below S, the prior's width in the metric: the last noisy step widens the points by
            1.4 noise / S times the width they then have, which the final step has to undo.
        horizon: Inner axes of a sample.
        batch: B, where ``cond`` does not give it.
        steps: Steps or their grid of times; the last one is without noise, which nothing would remove again.
        x_0: Where to start, in place of a draw from the prior.
        generator: Source of randomness, or one generator per batch element.
        path: Return all states, shape (steps + 1, B, *horizon, point_dim).

    Raises:
        ValueError: noise below 0, or what ``flow.sample`` refuses.
    """
    level = _level(noise)
    start = flow.start(cond, horizon=horizon, batch=batch, x_0=x_0, generator=generator)
    squared = units(flow.space, start) ** 2

    def drift(x: Tensor, t: float, g: float) -> Tensor:
        times = x.new_full((len(x),), t)
        v = flow.velocity(net, x, times, cond)
        # The gradient in the metric has the components l^2 d/d delta log p.
        return v + 0.5 * g * g * squared * score(x, times, cond, v) if g else v

    states = _walk(flow.space, drift, level, start, steps, generator)
    return torch.stack(states) if path else states[-1]


def sample_bridge(
    flow: Flow,
    net: Network,
    cond: Any = None,
    *,
    horizon: int | Sequence[int] = (),
    batch: int | None = None,
    steps: Steps = 50,
    x_0: Tensor | None = None,
    generator: Generators = None,
    path: bool = False,
) -> Tensor:
    """Draw points by the process dx = x (drift_to(x_1) dt + sigma dW), x_1 the network's end point at every step.

    For flows with the path `BrownianBridge` and target="endpoint": no score is needed. With sigma fixed by the
    path it is the Schrodinger bridge where the coupling is one (Tong et al. 2024). Arguments as `sample_sde`.

    Raises:
        ValueError: another path or target.
    """
    bridge, space = flow.path, flow.space
    if not isinstance(bridge, BrownianBridge) or flow.target != "endpoint":
        raise ValueError(
            f"expected the path BrownianBridge and target='endpoint'; got {type(bridge).__name__} and "
            f"{flow.target!r}. Sample other flows by flow.sample or sample_sde."
        )
    start = flow.start(cond, horizon=horizon, batch=batch, x_0=x_0, generator=generator)

    def drift(x: Tensor, t: float, g: float) -> Tensor:
        times = x.new_full((len(x),), t)
        x_1 = flow._endpoint(flow.scale * net(space.features(x), times, cond))
        return bridge.drift_to(space, x, x_1, over_inner(times, x))

    states = _walk(space, drift, lambda t: bridge.sigma, start, steps, generator)
    return torch.stack(states) if path else states[-1]


def _walk(
    space: Manifold,
    drift: Callable[[Tensor, float, float], Tensor],
    level: Level,
    x_0: Tensor,
    steps: Steps,
    generator: Generators,
) -> list[Tensor]:
    """Geodesic Euler-Maruyama, x <- x Exp(dt drift(x, t, g) + g sqrt(dt) z); the last step has g = 0."""
    grid = intervals(steps)
    states = [x_0]
    for i, (t, dt) in enumerate(grid):
        x, g = states[-1], level(t) if i + 1 < len(grid) else 0.0
        move = dt * drift(x, t, g)
        if g:
            move = move + g * math.sqrt(dt) * isotropic(space, x.shape[:-1], generator, x)
        states.append(space.exp(x, move))
    return states


def _level(noise: float | Level) -> Level:
    if callable(noise):
        return noise
    if not noise >= 0:
        raise ValueError(f"noise={noise}; expected a level >= 0, or a function g(t); 0 is flow.sample.")
    return lambda t: noise * math.sqrt(1 - t)
