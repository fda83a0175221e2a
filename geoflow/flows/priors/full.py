"""A wrapped Gaussian with a full covariance, fitted to data: x_0 = m Exp(L eps), L L^T = covariance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geoflow.flows.noise import Generators, randn
from geoflow.flows.priors import factors
from geoflow.flows.priors.base import Prior
from geoflow.manifolds import Manifold, Product, frechet_mean, tangent_covariance


class FullGaussian(Prior):
    """x_0 = m Exp(L eps), eps ~ N(0, I): correlated directions, such as a turn that comes with a shift.

        prior = FullGaussian.fit(space, actions)          # actions (N, T, point_dim)

    Args:
        space: The manifold.
        mean: Centre m, shape (..., point_dim), broadcast against the drawn shape.
        covariance: Of body tangents at m, shape (..., tangent_dim, tangent_dim), positive definite.
    """

    mean: Tensor
    root: Tensor

    def __init__(self, space: Manifold, mean: Tensor, covariance: Tensor) -> None:
        super().__init__()
        d = space.tangent_dim
        if covariance.shape[-2:] != (d, d):
            raise ValueError(
                f"expected a covariance (..., {d}, {d}) of {space}; got {tuple(covariance.shape)}."
            )
        root, info = torch.linalg.cholesky_ex(covariance)
        if bool((info != 0).any()):
            raise ValueError(
                "expected a positive definite covariance; FullGaussian.fit adds a floor to directions in which "
                "the data do not vary."
            )
        self.space = space
        self.register_buffer("mean", mean.clone())
        self.register_buffer("root", root)

    @classmethod
    def fit(cls, space: Manifold, x: Tensor, *, floor: float = 1e-3, across: bool = True) -> FullGaussian:
        """The Frechet mean and covariance of data (N, ..., point_dim), for each inner index (chunk step).

        Args:
            space: The manifold.
            x: Data, N >= 2.
            floor: Width [m, rad] added to every direction, so that one in which the data do not vary has some.
            across: Keep the covariance between the factors of a product; such a prior has no log_prob.
        """
        if x.ndim < 2 or len(x) < 2:
            raise ValueError(f"expected data (N, ..., {space.point_dim}) with N >= 2; got {tuple(x.shape)}.")
        mean = frechet_mean(space, x)
        covariance = tangent_covariance(space, x, mean)
        if not across and isinstance(space, Product):
            blocks = [torch.ones(factor.tangent_dim, factor.tangent_dim) for factor in space.factors]
            covariance = covariance * torch.block_diag(*blocks).to(covariance)
        return cls(space, mean, covariance + floor**2 * torch.eye(space.tangent_dim).to(covariance))

    def sample(self, shape: Sequence[int], generator: Generators = None) -> Tensor:
        """Draw points of shape (*shape, point_dim)."""
        noise = randn((*shape, self.space.tangent_dim), generator, like=self.mean)
        tangent = (self.root * noise.unsqueeze(-2)).sum(-1)
        return self.space.exp(self.mean.expand(*shape, self.space.point_dim), tangent)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density (B,) of points (B, ..., point_dim), joint over the inner axes.

        Raises:
            NotImplementedError: the covariance couples factors of a product.
        """
        return factors.log_prob(factors.wrapped, self.space, self.mean, self.root @ self.root.mT, x)
