"""The score of noise laid on a point: x = b Exp(r u), u of known density, as d/d delta log p(x Exp(delta)) at 0."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from geoflow.flows.priors.base import Prior
from geoflow.manifolds import Manifold

#: The least r: closer to the noise-free end the direction of what noise is left is lost to rounding.
SHORTEST = 1e-3


def score_about(
    space: Manifold, base: Tensor, x: Tensor, r: Tensor, log_density: Callable[[Tensor], Tensor]
) -> Tensor:
    """Derivative (..., tangent_dim) of log p at x along its body coordinates, for x = base Exp(r u).

    With w = Log(base^-1 x), dx = |det J_r(w)| dw and w = r u, so that

        log p(x) = log q(w / r) - log |det J_r(w)| - sum log r.

    Args:
        space: A group with known `log_volume`.
        base: b, shape (..., point_dim).
        x: Where, shape (..., point_dim).
        r: Widths (..., tangent_dim).
        log_density: u -> log q(u) of any shape, whose sum is differentiated; with respect to du.
    """
    with torch.enable_grad():
        delta = x.new_zeros(*x.shape[:-1], space.tangent_dim, requires_grad=True)
        w = space.log(base.detach(), space.exp(x.detach(), delta))
        total = log_density(w / r).sum() - space.log_volume(w).sum()
        (score,) = torch.autograd.grad(total, delta)
    return score


def prior_about(space: Manifold, prior: Prior, base: Tensor) -> Callable[[Tensor], Tensor]:
    """u -> log density of u for base Exp(u) ~ prior: log p_0(base Exp(u)) + log |det J_r(u)|."""

    def log_density(u: Tensor) -> Tensor:
        return prior.log_prob(space.exp(base, u)).sum() + space.log_volume(u).sum()

    return log_density
