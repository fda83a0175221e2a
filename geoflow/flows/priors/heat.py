"""Rotations from the heat kernel IGSO(3), everything else Gaussian."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from geoflow.flows.noise import Generators, randn
from geoflow.flows.priors import factors
from geoflow.flows.priors.wrapped import WrappedGaussian
from geoflow.flows.rotation_noise import turns
from geoflow.lie import densities, so3
from geoflow.manifolds import SE3, SO3, Manifold


class IGSO3(WrappedGaussian):
    """Brownian motion's distribution of rotations about the mean; the rest is Gaussian and independent of it.

    Positions of poses are p_m + R_m (s * eps): on SE3 too the distribution is that of the product, only paths
    differ. Unlike a wrapped Gaussian the heat kernel is smooth at every width and tends to Haar when wide.

    Args:
        space: The manifold.
        mean: Centre, shape (..., point_dim); the identity by default.
        scale: Widths in tangent units [m, rad], a number or shape (..., tangent_dim). A rotation's width
            sigma is the root mean square of its three.
    """

    def noise(self, shape: Sequence[int], generator: Generators = None) -> Tensor:
        """Points (*shape, point_dim)."""
        noise = randn((*shape, self.space.tangent_dim), generator, like=self.mean)
        spots, straight = list(factors.rotations(self.space)), noise.clone()
        for _, tangent in spots:
            straight[..., tangent] = 0
        x = self.space.exp(self.mean.expand(*shape, self.space.point_dim), self.scale * straight)
        widths = self.scale.expand(*self.scale.shape[:-1], self.space.tangent_dim)
        for point, tangent in spots:
            turn = so3.exp(turns(_width(widths[..., tangent]), noise[..., tangent]))
            x[..., point] = so3.compose(x[..., point], turn)
        return x

    def place(self, noise: Tensor) -> Tensor:
        """The points themselves."""
        return noise

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density (B,) of points (B, ..., point_dim), joint over the inner axes."""
        return factors.log_prob(_density, self.space, self.mean, self.covariance(), x)


def _width(scale: Tensor) -> Tensor:
    return (scale * scale).mean(-1).sqrt()


def _density(space: Manifold, mean: Tensor, covariance: Tensor) -> densities.Density:
    if isinstance(space, SO3):
        return densities.IGSO3(_width(covariance.diagonal().sqrt()), mean)
    if isinstance(space, SE3):
        R = so3.to_matrix(mean[3:])
        position = densities.Gaussian(mean[:3], R @ covariance[:3, :3] @ R.mT)
        return densities.Independent(position, _density(SO3(), mean[3:], covariance[3:, 3:]))
    return factors.wrapped(space, mean, covariance)
