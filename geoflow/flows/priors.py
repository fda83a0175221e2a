"""Where a flow starts: x_0 ~ p_0 on a manifold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geoflow.flows.noise import Generators, randn
from geoflow.manifolds import SE3, SO3, Manifold, Product


class Prior(nn.Module, ABC):
    """A distribution of points; a module only so that its buffers follow the policy to disk and device."""

    space: Manifold

    @abstractmethod
    def sample(self, shape: Sequence[int], generator: Generators = None) -> Tensor:
        """Draw points of shape (*shape, point_dim)."""


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
        noise = randn((*shape, self.space.tangent_dim), generator, like=self.mean)
        return self.space.exp(self.mean.expand(*shape, self.space.point_dim), self.scale * noise)


class HaarUniform(WrappedGaussian):
    """Rotations uniform over SO(3) (Haar measure), everything else Gaussian as in `WrappedGaussian`.

    Under Haar the relative angle to any data point is most likely near pi, where the target velocity jumps
    (the cut locus); a prior near the data avoids that. It is here to be compared with.
    """

    def sample(self, shape: Sequence[int], generator: Generators = None) -> Tensor:
        """Draw points of shape (*shape, point_dim)."""
        x = super().sample(shape, generator)
        for columns in _rotation_columns(self.space):
            # A normalised Gaussian 4-vector is a Haar-uniform unit quaternion.
            q = randn((*shape, 4), generator, like=self.mean)
            x[..., columns] = q / q.norm(dim=-1, keepdim=True)
        return x


def _rotation_columns(space: Manifold, start: int = 0) -> list[slice]:
    """Where a point of ``space`` holds quaternions."""
    if isinstance(space, SO3):
        return [slice(start, start + 4)]
    if isinstance(space, SE3):
        return [slice(start + 3, start + 7)]
    columns = []
    if isinstance(space, Product):
        for factor in space.factors:
            columns += _rotation_columns(factor, start)
            start += factor.point_dim
    return columns
