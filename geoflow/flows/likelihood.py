"""log p_1(x_1) = log p_0(x_0) - integral of div v along the flow: a continuous normalising flow on a Lie group.

In the left-trivialised frame, v = sum_i v_i E_i with E_i the left-invariant fields, div v = sum_i E_i(v_i): on a
unimodular group (R^n, SO(3), SE(3) and their products are) the fields E_i themselves preserve volume.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geoflow.flows.flow import Flow, Network
from geoflow.flows.integrators import Solver, Steps, cf4, integrate
from geoflow.flows.integrators.base import Velocity
from geoflow.flows.noise import Generators, randn
from geoflow.manifolds import Euclidean, Manifold, Product


def log_prob(
    flow: Flow,
    net: Network,
    x: Tensor,
    cond: Any = None,
    *,
    at: float = 1.0,
    steps: Steps = 20,
    method: Solver = cf4,
    probes: int | None = None,
    generator: Generators = None,
) -> Tensor:
    """Log density (B,) of points x (B, ..., point_dim) under what ``flow.sample(net, cond)`` draws.

    Joint over the inner axes (chunk steps), with respect to the volume of `geoflow.lie.densities`. The flow is
    run back from x to noise, together with its divergence (Chen et al. 2018; Lou et al. 2020 on manifolds). It
    is the density of the exact flow: ``steps`` should be enough that more change nothing.

    Args:
        flow: Its prior needs a density.
        net: The network, elementwise over the batch (no batch normalisation) and differentiable.
        x: Points.
        cond: Handed to the network as it is.
        at: The time t of the density p_t: 1 for that of the data; before, the data's with as much noise as there is
            then, which smooths peaks, and is all that an end point prediction has.
        steps: Integration steps, or a grid from 0 to 1, walked from x to noise.
        method: The integrator.
        probes: None for the exact divergence, one backward pass for each of the T * tangent_dim directions;
            a number for Hutchinson's estimate from so many random directions, fixed along the way: unbiased.
        generator: Source of the random directions.

    Raises:
        ValueError: a time beyond (0, 1], or of 1 where the flow predicts end points; no probes.
        NotImplementedError: the prior has no density.
    """
    if not 0 < at <= 1:
        raise ValueError(f"at={at}; the density is one of a time in (0, 1].")
    if flow.target != "velocity" and at == 1:
        raise ValueError(
            "an end point prediction has no velocity at t = 1, where a likelihood starts; ask for an earlier one, such "
            "as at=0.9, or train with target='velocity'."
        )
    if probes is not None and probes < 1:
        raise ValueError(f"probes={probes}; expected at least 1, or None for the exact divergence.")
    batch, space = x.shape[0], flow.space
    directions = _basis(x, space) if probes is None else _signs(x, space, probes, generator)
    # The basis sums over directions, random ones average.
    weight = 1.0 if probes is None else 1 / probes

    def velocity(x: Tensor, t: float) -> Tensor:
        return flow.velocity(net, x, x.new_full((batch,), t), cond)

    def backwards(state: Tensor, s: float) -> Tensor:
        v, div = velocity_and_divergence(space, velocity, state[..., :-1], at * (1 - s), directions)
        return -at * torch.cat([v, weight * div.unsqueeze(-1)], dim=-1)

    # One more coordinate for every point gathers its share of the divergence, at the integrator's own order.
    start = torch.cat([x, torch.zeros_like(x[..., :1])], dim=-1)
    end = integrate(Product(space, Euclidean(1)), backwards, start, steps, method)
    return flow.prior.log_prob(end[..., :-1]) + end[..., -1].reshape(batch, -1).sum(-1)


def velocity_and_divergence(
    space: Manifold, velocity: Velocity, x: Tensor, t: float, directions: Tensor
) -> tuple[Tensor, Tensor]:
    """v (B, ..., tangent_dim) and, of each point, its share (B, ...) of sum_e e . D_e v, no gradient kept.

    Args:
        space: The manifold.
        velocity: v(x, t) in the body frame.
        x: Points (B, ..., point_dim).
        t: The time.
        directions: e, shape (K, B, ..., tangent_dim): a basis for the divergence itself.
    """
    with torch.enable_grad():
        delta = x.new_zeros(*x.shape[:-1], space.tangent_dim, requires_grad=True)
        # The added zero keeps a velocity that does not depend on x in the graph.
        v = velocity(space.exp(x.detach(), delta), t) + 0 * delta
        total = torch.zeros_like(v[..., 0])
        for e in directions:
            (gradient,) = torch.autograd.grad((v * e).sum(), delta, retain_graph=True)
            total = total + (gradient * e).sum(-1)
    return v.detach(), total.detach()


def _basis(x: Tensor, space: Manifold) -> Tensor:
    """Unit tangents of one batch element, the same for all: (K, B, ..., tangent_dim) with K = T * tangent_dim."""
    inner = (*x.shape[1:-1], space.tangent_dim)
    size = torch.Size(inner).numel()
    eye = torch.eye(size, dtype=x.dtype, device=x.device)
    return eye.reshape(size, 1, *inner).expand(size, x.shape[0], *inner)


def _signs(x: Tensor, space: Manifold, probes: int, generator: Generators) -> Tensor:
    """Random signs: of all directions with unit covariance they make Hutchinson's estimate vary least."""
    shape = (*x.shape[:-1], space.tangent_dim)
    signs = [torch.where(randn(shape, generator, like=x) < 0, -1.0, 1.0) for _ in range(probes)]
    return torch.stack(signs).to(x.dtype)
