"""The contract of a manifold: an object that describes the last axis of a tensor.

A manifold holds no data. Points are plain tensors (..., point_dim), tangents are plain tensors
(..., tangent_dim) in the body frame of their point, and features (..., feature_dim) are what a network sees.
Every function takes any leading shape and broadcasts. Chunks are a power of a manifold: a leading axis T.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

#: How far from 1 the norm of a quaternion may be before ``check`` refuses it; ``project`` mends it.
UNIT_TOLERANCE = 1e-3


class Manifold(ABC):
    """What a flow, a prior or a policy needs to know about a space."""

    @property
    @abstractmethod
    def point_dim(self) -> int:
        """Numbers that store a point."""

    @property
    @abstractmethod
    def tangent_dim(self) -> int:
        """Dimension of the manifold: numbers in a tangent."""

    @property
    @abstractmethod
    def feature_dim(self) -> int:
        """Numbers in a continuous, sign-free embedding of a point, for networks."""

    @abstractmethod
    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Walk from x (..., point_dim) along v (..., tangent_dim) for unit time."""

    @abstractmethod
    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The tangent v at x with exp(x, v) = y, the short way round."""

    def miss(self, x: Tensor, v: Tensor, y: Tensor) -> Tensor:
        """log(exp(x, v), y) (..., tangent_dim): what is left to y after walking from x along v."""
        return self.log(self.exp(x, v), y)

    def approach(self, x: Tensor, c: Tensor, v: Tensor, share: float | Tensor) -> Tensor:
        """exp(x, share * log(x, y)) (..., point_dim): a share, 0 to 1, of the way from x to y = exp(c, v).

        The share is a number, or a tensor of no axis.
        """
        return self.exp(x, share * self.log(x, self.exp(c, v)))

    def bracket(self, v: Tensor, w: Tensor) -> Tensor:
        """The Lie bracket [v, w] (..., tangent_dim) of body tangents, (v^ w^ - w^ v^) as a vector."""
        raise NotImplementedError(
            f"{self} has no Lie bracket, which Munthe-Kaas methods need. Integrate with cf4, midpoint or euler, or "
            f"give {type(self).__name__} a method bracket(v, w)."
        )

    def adjoint(self, w: Tensor, v: Tensor) -> Tensor:
        """Ad(Exp(w)) v (..., tangent_dim); a body tangent v at x is Ad(Exp(-w)) v seen from exp(x, w)."""
        raise NotImplementedError(self._no_group("adjoint(w, v)"))

    def jacobian(self, w: Tensor, v: Tensor) -> Tensor:
        """J_r(w) v (..., tangent_dim): exp(x, w + v) = exp(exp(x, w), J_r(w) v) to first order in v.

        The left Jacobian is J_l(w) = J_r(-w).
        """
        raise NotImplementedError(self._no_group("jacobian(w, v)"))

    def jacobian_inverse(self, w: Tensor, v: Tensor) -> Tensor:
        """J_r(w)^-1 v (..., tangent_dim); finite for angles below 2 pi."""
        raise NotImplementedError(self._no_group("jacobian_inverse(w, v)"))

    def log_volume(self, w: Tensor) -> Tensor:
        """log |det J_r(w)| (...): how exp changes volume at the tangent w."""
        raise NotImplementedError(self._no_group("log_volume(w)"))

    def _no_group(self, method: str) -> str:
        return (
            f"{self} is no group with known Jacobians, which noisy paths, flow maps and scores need. Use a "
            f"Geodesic path, or give {type(self).__name__} a method {method}."
        )

    @abstractmethod
    def geodesic(self, x: Tensor, y: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """Point and velocity at time t of exp(x, t log(x, y)); t broadcasts against x.shape[:-1]."""

    @abstractmethod
    def squared_norm(self, v: Tensor) -> Tensor:
        """|v|^2 (...) in the metric of the space."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """The nearest point of the manifold to the numbers x (..., point_dim)."""

    @abstractmethod
    def identity(
        self, *shape: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Tensor:
        """The neutral element (*shape, point_dim)."""

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """A continuous embedding (..., feature_dim), the same for q and -q."""

    @abstractmethod
    def from_features(self, f: Tensor) -> Tensor:
        """The point (..., point_dim) nearest to features (..., feature_dim); inverts ``features``."""

    def random_uniform(
        self,
        *shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Uniform points (*shape, point_dim) of a compact space."""
        raise NotImplementedError(
            f"{self} is not compact: it has no uniform distribution. Draw from a prior with a width, such as "
            "geoflow.WrappedGaussian, or use SO3().random_uniform for the rotations alone."
        )

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Length (...) of log(x, y) in the metric of the space. Its gradient at x = y is taken as zero."""
        n = self.squared_norm(self.log(x, y))
        # Replace the argument before `where`: autograd visits both branches, and sqrt'(0) is infinite.
        zero = n == 0
        return torch.where(zero, n, torch.where(zero, torch.ones_like(n), n).sqrt())

    def squared_distances(self, x: Tensor, y: Tensor) -> Tensor:
        """|log(x_i, y_j)|^2 (..., n, m) of all pairs of points x (..., n, point_dim) and y (..., m, point_dim).

        Right to the rounding of the numbers' squares, for costs and kernels: where points nearly coincide,
        ``distance`` keeps more digits.
        """
        # By blocks of rows: all pairs of 1024 chunks at once would take gigabytes.
        rows = max(1, 2**20 // max(1, y[..., 0].numel()))
        blocks = [
            self.squared_norm(self.log(block.unsqueeze(-2), y.unsqueeze(-3)))
            for block in x.split(rows, dim=-2)
        ]
        return torch.cat(blocks, dim=-2)

    def check(self, x: Tensor) -> Tensor:
        """x itself, or a sentence about what is wrong with its shape, dtype or values. Waits for the device."""
        check_last_axis(x, self.point_dim, "points", self)
        if not bool(torch.isfinite(x).all()):
            raise ValueError(f"expected finite points of {self}; got NaN or Inf among {tuple(x.shape)}.")
        return x


def check_last_axis(x: Tensor, size: int, what: str, space: object) -> None:
    """Raise unless x, ``what`` of ``space``, is a floating tensor whose last axis holds ``size`` numbers."""
    if isinstance(x, Tensor) and x.is_floating_point() and x.ndim and x.shape[-1] == size:
        return  # before any sentence is made: this runs at every step
    what = f"{what} of {space}"
    if not isinstance(x, Tensor):
        raise TypeError(f"expected {what} as a torch.Tensor; got {type(x).__name__}. Use torch.as_tensor.")
    if not x.is_floating_point():
        raise TypeError(f"expected {what} of a floating dtype; got {x.dtype}. Convert with x.float().")
    raise ValueError(f"expected {what}, last axis {size}; got shape {tuple(x.shape)}.")


def check_unit(q: Tensor, space: str) -> None:
    """Raise unless quaternions have unit norm within ``UNIT_TOLERANCE``."""
    worst = (q.detach().double().norm(dim=-1) - 1).abs().max() if q.numel() else torch.zeros(())
    if float(worst) > UNIT_TOLERANCE:
        raise ValueError(
            f"expected unit quaternions in points of {space}; got a norm that is {float(worst):.3g} away from 1 "
            f"(tolerance {UNIT_TOLERANCE:g}). Mend rounding with {space}.project(x); if the norm is far off, "
            "check the order: geoflow stores wxyz (convert with geoflow.lie.so3.from_xyzw)."
        )
