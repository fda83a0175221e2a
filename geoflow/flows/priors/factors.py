"""Densities of a prior, put together from those of the factors of its space by `geoflow.lie.densities`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from geoflow.lie import densities
from geoflow.manifolds import SE3, SO3, Euclidean, Manifold, Product

Leaf = Callable[[Manifold, Tensor, Tensor], densities.Density]
"""(space, mean (point_dim,), covariance (tangent_dim, tangent_dim)) -> density on one factor."""


def wrapped(space: Manifold, mean: Tensor, covariance: Tensor) -> densities.Density:
    """mean Exp(xi), xi ~ N(0, covariance), on one factor."""
    if isinstance(space, Euclidean):
        return densities.Gaussian(mean, covariance)
    if isinstance(space, (SO3, SE3)):
        return densities.WrappedGaussian(mean, covariance)
    raise NotImplementedError(
        f"no density is known on {space}; give its prior a method log_prob (known: Euclidean, SO3, SE3, Product)."
    )


def log_prob(leaf: Leaf, space: Manifold, mean: Tensor, covariance: Tensor, x: Tensor) -> Tensor:
    """Log density (B,) of independent points (B, *inner, point_dim).

    Args:
        leaf: The density on a factor of the space.
        space: The space.
        mean: Shape (*inner, point_dim), leading axes may be left out.
        covariance: Shape (*inner, tangent_dim, tangent_dim), likewise.
        x: The points.
    """
    inner = torch.broadcast_shapes(mean.shape[:-1], covariance.shape[:-2])
    means = mean.expand(*inner, -1).reshape(-1, mean.shape[-1])
    covariances = covariance.expand(*inner, -1, -1).reshape(-1, *covariance.shape[-2:])
    # One density for each inner index that has its own parameters; most priors of single points have one.
    columns = x.reshape(-1, len(means), x.shape[-1]).unbind(1)
    terms = [
        _density(leaf, space, m, c).log_prob(column)
        for m, c, column in zip(means, covariances, columns, strict=True)
    ]
    return torch.stack(terms, dim=1).reshape(x.shape[0], -1).sum(-1)


def _density(leaf: Leaf, space: Manifold, mean: Tensor, covariance: Tensor) -> densities.Density:
    if not isinstance(space, Product):
        return leaf(space, mean, covariance)
    sizes = [factor.tangent_dim for factor in space.factors]
    blocks = [columns.split(sizes, dim=-1) for columns in covariance.split(sizes, dim=-2)]
    if any(bool((block != 0).any()) for i, row in enumerate(blocks) for j, block in enumerate(row) if i != j):
        raise NotImplementedError(
            f"no density is known for a covariance between the factors of {space}; leave it out with "
            "FullGaussian.fit(space, x, across=False)."
        )
    parts = zip(space.factors, space.split_points(mean), range(len(sizes)), strict=True)
    return densities.Independent(*[_density(leaf, factor, m, blocks[i][i]) for factor, m, i in parts])


def rotations(space: Manifold, point: int = 0, tangent: int = 0) -> Iterator[tuple[slice, slice]]:
    """Where points hold quaternions, and where tangents hold their rotation vectors."""
    if isinstance(space, SO3):
        yield slice(point, point + 4), slice(tangent, tangent + 3)
    elif isinstance(space, SE3):
        yield slice(point + 3, point + 7), slice(tangent + 3, tangent + 6)
    elif isinstance(space, Product):
        for factor in space.factors:
            yield from rotations(factor, point, tangent)
            point, tangent = point + factor.point_dim, tangent + factor.tangent_dim
