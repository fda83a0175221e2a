"""Chunk noise that is smooth in time: correlated along the chunk axis, the last but one of points (..., T, d)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geoflow.flows.noise import Generators, randn
from geoflow.flows.priors import factors
from geoflow.flows.priors.base import Prior
from geoflow.flows.priors.wrapped import WrappedGaussian
from geoflow.lie import _matrices as matrices
from geoflow.manifolds import Manifold

Kernel = Callable[[int], Tensor]
"""T -> covariance (T, T) of the steps of a chunk, float64, positive definite."""


@dataclass(frozen=True)
class SquaredExponential:
    """K = exp(-(i - j)^2 / (2 length^2)): smooth chunks; ``length`` in steps."""

    length: float

    def __call__(self, steps: int) -> Tensor:
        """The covariance (T, T); a little white noise keeps it invertible."""
        K = torch.exp(-0.5 * (_lags(steps) / self.length) ** 2)
        return (K + 1e-6 * torch.eye(steps, dtype=torch.float64)) / (1 + 1e-6)


@dataclass(frozen=True)
class OrnsteinUhlenbeck:
    """K = exp(-|i - j| / length): rough chunks that forget; ``length`` in steps."""

    length: float

    def __call__(self, steps: int) -> Tensor:
        """The covariance (T, T)."""
        return torch.exp(-_lags(steps).abs() / self.length)


@dataclass(frozen=True)
class Brownian:
    """K = (min(i, j) + 1) / T: certain at the start of the chunk, of full width at its end."""

    def __call__(self, steps: int) -> Tensor:
        """The covariance (T, T)."""
        i = torch.arange(1, steps + 1, dtype=torch.float64)
        return torch.minimum(i[:, None], i) / steps


class GaussianProcess(WrappedGaussian):
    """x_0 = m Exp(s * eps), eps a Gaussian process along the chunk: cov(eps_i, eps_j) = K_ij I.

    Where K_ii = 1 each step is distributed as under `WrappedGaussian`; only neighbours move together.

    Args:
        space: The manifold.
        mean: Centre m, shape (..., point_dim); the identity by default.
        scale: Widths s in tangent units [m, rad], a number or shape (..., tangent_dim).
        kernel: K.

    Raises:
        TypeError: what is no kernel, such as the class of one.
    """

    def __init__(
        self,
        space: Manifold,
        mean: Tensor | None = None,
        scale: Tensor | float = 1.0,
        kernel: Kernel = SquaredExponential(4.0),
    ) -> None:
        super().__init__(space, mean, scale)
        if not callable(kernel) or isinstance(kernel, type):
            raise TypeError(
                f"expected a kernel T -> covariance (T, T), such as SquaredExponential(4); got {kernel!r}."
            )
        self.kernel = kernel

    def noise(self, shape: Sequence[int], generator: Generators = None) -> Tensor:
        """eps (*shape, tangent_dim); the last of ``shape`` is T."""
        return matrices.matmul(self._root(_horizon(shape)), super().noise(shape, generator))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density (B,) of chunks (B, ..., T, point_dim), joint over the inner axes; on flat spaces.

        Raises:
            NotImplementedError: the space has rotations, where each step of a chunk could have gone round.
        """
        if any(True for _ in factors.rotations(self.space)):
            raise NotImplementedError(
                f"a Gaussian process on {self.space} is a sum over the full turns of every step, 3^T terms; "
                "RandomWalk is correlated along the chunk and has a density."
            )
        root = self._root(_horizon(x.shape[:-1]))
        d = self.space.tangent_dim
        scale = self.scale.expand(*self.scale.shape[:-1], d)
        v = self.space.log(self.mean.expand(x.shape), x) / scale
        white = torch.linalg.solve_triangular(root, v, upper=False)
        log_volume = scale.log().expand(v.shape) + root.diagonal().log().unsqueeze(-1)
        terms = -0.5 * white * white - log_volume - 0.5 * math.log(2 * math.pi)
        return terms.reshape(x.shape[0], -1).sum(-1)

    def _root(self, steps: int) -> Tensor:
        K = self.kernel(steps)
        root, info = torch.linalg.cholesky_ex(K)
        if K.shape != (steps, steps) or bool(info != 0):
            raise ValueError(
                f"expected a positive definite covariance ({steps}, {steps}) from the kernel; got "
                f"{tuple(K.shape)}. SquaredExponential, OrnsteinUhlenbeck and Brownian give one."
            )
        return root.to(self.mean)


class RandomWalk(Prior):
    """Brownian motion on the group: x_1 = m Exp(s_first eps_1), x_(i+1) = x_i Exp(s eps_(i+1)).

    Its steps are independent wrapped Gaussians, so it has a density on every group. With m the present pose
    it begins where the robot is.

    Args:
        space: The manifold.
        mean: Where walks begin, m (point_dim,); the identity by default.
        scale: Widths s of a step in tangent units [m, rad], a number or shape (tangent_dim,).
        first: Widths of the first step from m; as the others by default.
    """

    mean: Tensor
    scale: Tensor
    first: Tensor

    def __init__(
        self,
        space: Manifold,
        mean: Tensor | None = None,
        scale: Tensor | float = 0.1,
        first: Tensor | float | None = None,
    ) -> None:
        super().__init__()
        self.space = space
        self.register_buffer("mean", space.identity() if mean is None else mean.clone())
        for name, value in (("scale", scale), ("first", scale if first is None else first)):
            width = torch.as_tensor(value, dtype=self.mean.dtype).expand(space.tangent_dim)
            self.register_buffer(name, width.clone())

    def sample(self, shape: Sequence[int], generator: Generators = None) -> Tensor:
        """Draw points of shape (*shape, point_dim); the last of ``shape`` is T."""
        steps = _horizon(shape)
        noise = randn((*shape, self.space.tangent_dim), generator, like=self.mean)
        x = self.space.exp(self.mean.expand(*shape[:-1], self.space.point_dim), self.first * noise[..., 0, :])
        walk = [x]
        for i in range(1, steps):
            x = self.space.exp(x, self.scale * noise[..., i, :])
            walk.append(x)
        return torch.stack(walk, dim=-2)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density (B,) of chunks (B, ..., T, point_dim), joint over the inner axes."""
        steps, space = _horizon(x.shape[:-1]), self.space
        before = torch.cat([self.mean.expand_as(x[..., :1, :]), x[..., :-1, :]], dim=-2)
        identity = space.identity(dtype=x.dtype, device=x.device)
        relative = space.exp(identity.expand_as(x), space.log(before, x))
        widths = torch.stack([self.first, *[self.scale] * (steps - 1)])
        return factors.log_prob(factors.wrapped, space, identity, torch.diag_embed(widths**2), relative)


def _horizon(shape: Sequence[int]) -> int:
    if len(shape) < 2:
        raise ValueError(
            f"chunk noise needs a chunk axis: expected (B, ..., T), got {tuple(shape)}. Give horizon=T, or use "
            "WrappedGaussian for single points."
        )
    return shape[-1]


def _lags(steps: int) -> Tensor:
    i = torch.arange(steps, dtype=torch.float64)
    return i[:, None] - i
