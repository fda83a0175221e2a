"""A Gaussian in a tangent space, wrapped onto the manifold: x_0 = m Exp(s eps)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geoflow.flows.noise import Generators, randn
from geoflow.flows.priors import factors
from geoflow.flows.priors.base import Prior
from geoflow.manifolds import Manifold


class WrappedGaussian(Prior):
    """x_0 = m Exp(s * eps), eps ~ N(0, I): a Gaussian in the tangent space at m, wrapped onto the manifold.

    Args:
        space: The manifold.
        mean: Centre m, shape (..., point_dim), broadcast against the drawn shape; the identity by default.
        scale: Widths s in tangent units [m, rad], a number or shape (..., tangent_dim).
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, space: Manifold, mean: Tensor | None = None, scale: Tensor | float = 1.0) -> None:
        super().__init__()
        self.space = space
        self.register_buffer("mean", space.identity() if mean is None else mean.clone())
        self.register_buffer("scale", torch.as_tensor(scale, dtype=self.mean.dtype).clone())

    def sample(self, shape: Sequence[int], generator: Generators = None) -> Tensor:
        """Draw points of shape (*shape, point_dim)."""
        return self.place(self.noise(shape, generator))

    def noise(self, shape: Sequence[int], generator: Generators = None) -> Tensor:
        """eps (*shape, tangent_dim)."""
        return randn((*shape, self.space.tangent_dim), generator, like=self.mean)

    def place(self, noise: Tensor) -> Tensor:
        """m Exp(s * eps)."""
        return self.space.exp(self.mean, self.scale * noise)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density (B,) of points (B, ..., point_dim), joint over the inner axes."""
        return factors.log_prob(factors.wrapped, self.space, self.mean, self.covariance(), x)

    def covariance(self) -> Tensor:
        """diag(s^2), shape (..., tangent_dim, tangent_dim)."""
        scale = self.scale.expand(*self.scale.shape[:-1], self.space.tangent_dim)
        return torch.diag_embed(scale * scale)
