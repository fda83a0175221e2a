"""Frechet mean and tangent covariance: where data lie on a manifold, and how wide they spread there."""

from __future__ import annotations

import torch
from torch import Tensor

from geoflow.manifolds.base import Manifold


def frechet_mean(
    manifold: Manifold,
    x: Tensor,
    weights: Tensor | None = None,
    *,
    start: Tensor | None = None,
    tolerance: float = 1e-6,
    iterations: int = 100,
) -> Tensor:
    """The point m with sum_i w_i log(m, x_i) = 0: the Riemannian centre of mass, or the group mean of screws.

    Newton's fixed point m <- exp(m, sum_i w_i log(m, x_i)) (Pennec 2006, Algorithm 1). It is the unique minimiser
    of the mean squared distance when the rotations lie within 90 degrees of it. On SE3 it is the bi-invariant
    mean of the group (Pennec and Arsigny 2013), which does not depend on ``length``.

    Args:
        manifold: The space.
        x: Points (N, ..., point_dim); the mean runs over the first axis.
        weights: Optional (N,) nonnegative weights, any sum above 0.
        start: First guess (..., point_dim); the projected arithmetic mean of features by default.
        tolerance: Stop when the step is shorter than this in every component.
        iterations: Stop after so many steps, with an error when they did not suffice.

    Returns:
        The mean (..., point_dim).
    """
    if x.ndim < 2 or x.shape[0] == 0:
        raise ValueError(f"expected points (N, ..., {manifold.point_dim}) with N >= 1; got {tuple(x.shape)}.")
    w = _normalised_weights(x, weights)
    if start is None:
        features = manifold.features(x)
        start = manifold.from_features((_spread(w, features) * features).sum(0))
    m = start
    for _ in range(iterations):
        v = manifold.log(m, x)
        step = (_spread(w, v) * v).sum(0)
        m = manifold.project(manifold.exp(m, step))
        if float(step.detach().abs().max()) <= tolerance:
            return m
    raise RuntimeError(
        f"the mean did not settle within {iterations} iterations: are the rotations spread over more than a "
        "half turn? Pass start=, or more iterations."
    )


def tangent_covariance(manifold: Manifold, x: Tensor, mean: Tensor, weights: Tensor | None = None) -> Tensor:
    """Covariance (..., tangent_dim, tangent_dim) of log(mean, x_i) over the first axis, about zero.

    Args:
        manifold: The space.
        x: Points (N, ..., point_dim).
        mean: Where the tangents start (..., point_dim), usually ``frechet_mean(manifold, x)``.
        weights: Optional (N,) nonnegative weights.
    """
    v = manifold.log(mean, x)
    outer = v.unsqueeze(-1) * v.unsqueeze(-2)
    return (_spread(_normalised_weights(x, weights), outer) * outer).sum(0)


def _normalised_weights(x: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return torch.full((x.shape[0],), 1.0 / x.shape[0], dtype=x.dtype, device=x.device)
    if weights.shape != x.shape[:1]:
        raise ValueError(f"expected weights ({x.shape[0]},), one a point; got {tuple(weights.shape)}.")
    return weights.to(x) / weights.sum().to(x)


def _spread(w: Tensor, like: Tensor) -> Tensor:
    return w.reshape(-1, *[1] * (like.ndim - 1))
