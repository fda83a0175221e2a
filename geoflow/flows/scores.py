"""The score of a flow, s(x, t) = d/d delta log p_t(x Exp(delta)) at 0: in closed form, or learned by denoising."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geoflow.flows.batches import mean_inner, over_inner
from geoflow.flows.couplings import independent
from geoflow.flows.flow import Flow, Network
from geoflow.flows.noise import Generators
from geoflow.flows.paths import Diffusion, Geodesic
from geoflow.flows.paths.noisy import NoisyGeodesic
from geoflow.flows.priors import HaarUniform, WrappedGaussian
from geoflow.manifolds import Euclidean, Manifold, Product

Score = Callable[[Tensor, Tensor, Any, Tensor], Tensor]
"""(x, t (B,), cond, v) -> s (B, ..., tangent_dim), where v is the flow's velocity at x."""


def gaussian_score(flow: Flow) -> Score:
    """The score that a flow of vectors knows already, from its velocity: no second network.

    On R^n with x_t = c + alpha (x_1 - c) + sigma (x_0 - c) and x_0 ~ N(m, S^2), v is linear in E[x_0 | x_t] and
    x_t, hence E[x_0 | x_t] - c = (alpha v - alpha' (x_t - c)) / (alpha sigma' - alpha' sigma), and s is
    -(E[x_0 | x_t] - m) / (sigma S^2) (Albergo et al. 2023, stochastic interpolants; Ma et al. 2024, SiT).

    Raises:
        ValueError: a space with rotations, a prior that is no plain Gaussian, another path or coupling: train a
            score by `score_loss`.
    """
    prior, path = flow.prior, flow.path
    known = isinstance(path, Diffusion) or (isinstance(path, Geodesic) and not isinstance(path.clock, tuple))
    if not (_flat(flow.space) and type(prior) is WrappedGaussian and known and flow.coupling is independent):
        raise ValueError(
            f"the velocity of a flow on {flow.space} with {type(prior).__name__}, {type(path).__name__} and its "
            "coupling does not give the score: that takes vectors, a WrappedGaussian, independent coupling and a "
            "Geodesic with one clock or a Diffusion. Train a score with score_loss and use learned_score."
        )

    def score(x: Tensor, t: Tensor, cond: Any, v: Tensor) -> Tensor:
        t = over_inner(t, x).unsqueeze(-1)
        center = torch.zeros_like(x)
        if isinstance(path, Diffusion):
            alpha, alpha_rate, sigma, rate = path.mixture(t)
            center = center if path.center is None else path.center.to(x)
        else:
            assert isinstance(path, Geodesic)
            assert not isinstance(path.clock, tuple)
            alpha, alpha_rate = path.clock(t)
            sigma, rate = 1 - alpha, -alpha_rate
        turn = alpha * rate - alpha_rate * sigma
        # A path that starts at rest says nothing there, where x is all noise.
        still = turn.abs() < 1e-6
        noise = (alpha * v - alpha_rate * (x - center)) / torch.where(still, torch.ones_like(turn), turn)
        x_0 = center + torch.where(still, x - center, noise)
        return -(x_0 - prior.mean.to(x)) / (sigma * prior.scale.to(x) ** 2)

    return score


def score_loss(
    flow: Flow,
    net: Network,
    x_1: Tensor,
    cond: Any = None,
    *,
    x_0: Tensor | None = None,
    generator: Generators = None,
) -> Tensor:
    """Denoising score matching (Vincent 2011) for each batch element, shape (B,), on the flow's own path.

    The mean over x_1 of the score of x_t given x_1 is the score of the marginal p_t, so that a network that
    regresses one learns the other. The network predicts r_t scale s, r_t the path's `spread`: of order 1 at all
    times, on R^n with a unit prior the noise with its sign turned. It can be a second network or a second
    head, ``lambda f, t, cond: heads(f, t, cond)[..., d:]``, trained beside ``flow.loss``.

    `BrownianBridge` holds both ends and serves every prior and coupling. The other paths hold x_1, and on
    rotations x_t given x_1 has a density with an edge where x_0 is half a turn away from x_1: the score of the
    inside leaves out what the prior has there. With IGSO3 and data 0.8 rad from its mean that is under 1 % of the
    score for a width of 0.7 rad, 12 % for 1 rad, 25 % for 1.2 rad, and most of it for Haar, which is refused.

    Args:
        flow: Its prior needs a density, except for a BrownianBridge.
        net: The network of the score.
        x_1: Data, shape (B, ..., point_dim).
        cond: Handed to the network as it is.
        x_0: Where each path starts, as in ``flow.loss``; for a BrownianBridge.
        generator: Source of randomness.

    Raises:
        ValueError: a coupling, given starts or a Haar prior together with a path that holds x_1 alone.
        NotImplementedError: the prior has no density.
    """
    space, path = flow.space, flow.path
    if not isinstance(path, NoisyGeodesic):
        _check_free_start(flow, x_0)
    with torch.no_grad():
        x_0, x_1 = flow._pair(x_0, x_1, cond, generator)
        t = flow.times(len(x_1), generator, x_1)
        times = over_inner(t, x_1)
        x_t = path(space, x_0, x_1, times, generator).x_t
    r = path.spread(space, times).to(x_t.dtype)
    target = r * path.conditional_score(space, flow.prior, x_0, x_1, x_t, times)
    error = net(space.features(x_t), t, cond) - flow.scale * target
    return mean_inner((error * error).sum(-1))


def learned_score(flow: Flow, net: Network) -> Score:
    """The score of a network that was trained by `score_loss`."""

    def score(x: Tensor, t: Tensor, cond: Any, v: Tensor) -> Tensor:
        r = flow.path.spread(flow.space, over_inner(t, x)).to(x.dtype)
        return net(flow.space.features(x), t, cond) / (r * flow.scale)

    return score


def _check_free_start(flow: Flow, x_0: Tensor | None) -> None:
    name = type(flow.path).__name__
    if x_0 is not None or flow.coupling is not independent:
        raise ValueError(
            f"the score of {name} given x_1 takes x_0 to be drawn from the prior, not paired with x_1. Use independent "
            "coupling, or the path BrownianBridge, whose score holds both ends."
        )
    if isinstance(flow.prior, HaarUniform) and not _flat(flow.space):
        raise ValueError(
            f"under HaarUniform the points of {name} given x_1 end at an edge, half a turn of noise away, which a "
            "score leaves out. Use a prior near the data (WrappedGaussian, IGSO3) or the path BrownianBridge."
        )


def _flat(space: Manifold) -> bool:
    if isinstance(space, Product):
        return all(map(_flat, space.factors))
    return isinstance(space, Euclidean)
