"""The contract of a prior: draw points, and say how likely they are where that is known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from geoflow.flows.noise import Generators
from geoflow.manifolds import Manifold


class Prior(nn.Module, ABC):
    """A distribution of points; a module only so that its buffers follow the policy to disk and device."""

    space: Manifold

    @abstractmethod
    def sample(self, shape: Sequence[int], generator: Generators = None) -> Tensor:
        """Draw points of shape (*shape, point_dim)."""

    def noise(self, shape: Sequence[int], generator: Generators = None) -> Tensor:
        """All that is random of a draw, for `place` to make points of; the points themselves by default.

        A compiler takes `place` and leaves randomness alone.
        """
        return self.sample(shape, generator)

    @property
    def places_noise(self) -> bool:
        """Whether `sample` is place(noise(...)): not where a subclass says anew how to sample, and no more."""
        classes = type(self).__mro__
        noise, sample = (next(c for c in classes if name in vars(c)) for name in ("noise", "sample"))
        return issubclass(noise, sample)

    def place(self, noise: Tensor) -> Tensor:
        """Points (..., point_dim) of what `noise` drew."""
        return noise

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density (B,) of points (B, ..., point_dim), joint over the inner axes (chunk steps).

        Densities are with respect to the volume of `geoflow.lie.densities`: Lebesgue measure, and for
        rotations the bi-invariant measure of total volume 8 pi^2.
        """
        raise NotImplementedError(
            f"{type(self).__name__} on {self.space} has no density to evaluate. For likelihoods use "
            "WrappedGaussian, FullGaussian or RandomWalk; on products with SO3 also HaarUniform and IGSO3."
        )
