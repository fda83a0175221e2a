"""Rotations uniform over SO(3), everything else Gaussian."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from geoflow.flows.noise import Generators, randn
from geoflow.flows.priors import factors
from geoflow.flows.priors.wrapped import WrappedGaussian
from geoflow.lie import densities
from geoflow.manifolds import SE3, SO3, Manifold


class HaarUniform(WrappedGaussian):
    """Rotations uniform over SO(3) (Haar measure), everything else Gaussian as in `WrappedGaussian`.

    Under Haar the relative angle to any data point is most likely near pi, where the target velocity jumps
    (the cut locus); a prior near the data avoids that. It is here to be compared with.
    """

    def noise(self, shape: Sequence[int], generator: Generators = None) -> Tensor:
        """Points (*shape, point_dim)."""
        x = super().place(super().noise(shape, generator))
        for columns, _ in factors.rotations(self.space):
            # A normalised Gaussian 4-vector is a Haar-uniform unit quaternion.
            q = randn((*shape, 4), generator, like=self.mean)
            x[..., columns] = q / q.norm(dim=-1, keepdim=True)
        return x

    def place(self, noise: Tensor) -> Tensor:
        """The points themselves."""
        return noise

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density (B,) of points (B, ..., point_dim), joint over the inner axes; for SO3 in products.

        Raises:
            NotImplementedError: a factor is SE3, where the positions are those of a wrapped Gaussian's screws.
        """
        return factors.log_prob(_density, self.space, self.mean, self.covariance(), x)


def _density(space: Manifold, mean: Tensor, covariance: Tensor) -> densities.Density:
    if isinstance(space, SE3):
        raise NotImplementedError(
            "HaarUniform on SE3 draws positions along random screws, whose density has no closed form; "
            "Product(Euclidean(3), SO3()) has the same storage and a density."
        )
    if isinstance(space, SO3):
        return densities.Haar(dtype=mean.dtype, device=mean.device)
    return factors.wrapped(space, mean, covariance)
