"""The rotation group SO(3): points are unit quaternions wxyz, tangents are body rotation vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geoflow.lie import _matrices as matrices
from geoflow.lie import series, so3
from geoflow.manifolds.base import Manifold, check_last_axis, check_unit


@dataclass(frozen=True)
class SO3(Manifold):
    """Rotations with the bi-invariant metric |omega|^2 [rad^2]; q and -q are the same point."""

    @property
    def point_dim(self) -> int:
        """4: qw qx qy qz."""
        return 4

    @property
    def tangent_dim(self) -> int:
        """3: omega, body frame [rad]."""
        return 3

    @property
    def feature_dim(self) -> int:
        """6: the first two columns of R."""
        return 6

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """x Exp(v)."""
        return so3.plus(x, v)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Log(x^-1 y)."""
        return so3.minus(y, x)

    def bracket(self, v: Tensor, w: Tensor) -> Tensor:
        """v x w."""
        return torch.linalg.cross(v, w)

    def adjoint(self, w: Tensor, v: Tensor) -> Tensor:
        """Ad(Exp(w)) v."""
        return matrices.apply(so3.adjoint(so3.exp(w)), v)

    def jacobian(self, w: Tensor, v: Tensor) -> Tensor:
        """J_r(w) v."""
        return matrices.apply(so3.jacobian_right(w), v)

    def jacobian_inverse(self, w: Tensor, v: Tensor) -> Tensor:
        """J_r(w)^-1 v."""
        return matrices.apply(so3.jacobian_right_inverse(w), v)

    def log_volume(self, w: Tensor) -> Tensor:
        """log sinc^2(theta/2)."""
        return 2 * series.log_sinc((w * w).sum(-1))

    def geodesic(self, x: Tensor, y: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """Spherical interpolation and its body angular velocity, fused."""
        return so3.geodesic(x, y, t)

    def squared_norm(self, v: Tensor) -> Tensor:
        """|omega|^2."""
        return (v * v).sum(-1)

    def squared_distances(self, x: Tensor, y: Tensor) -> Tensor:
        """(2 arccos |q_i . r_j|)^2 of all pairs."""
        return 4 * half_turns(x, y)[0]

    def project(self, x: Tensor) -> Tensor:
        """x / |x|."""
        return so3.normalise(x)

    def identity(
        self, *shape: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Tensor:
        """No rotation (*shape, 4)."""
        return so3.identity(*shape, dtype=dtype, device=device)

    def random_uniform(
        self,
        *shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Haar-uniform rotations (*shape, 4)."""
        return so3.random_uniform(*shape, generator=generator, dtype=dtype, device=device)

    def features(self, x: Tensor) -> Tensor:
        """R[:, 0] and R[:, 1], one after the other."""
        return so3.to_6d(x, by="columns")

    def from_features(self, f: Tensor) -> Tensor:
        """Gram-Schmidt on two columns."""
        return so3.from_6d(f, by="columns")

    def check(self, x: Tensor) -> Tensor:
        """x itself, or a sentence about what is wrong with it."""
        super().check(x)
        check_unit(x, str(self))
        return x


def half_turns(q: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """((theta/2)^2, sin^2(theta/2)), each (..., n, m), of all pairs of rotations."""
    check_last_axis(q, 4, "rotations", "SO3()")
    check_last_axis(r, 4, "rotations", "SO3()")
    cosine = matrices.matmul(q, r.mT).abs()
    # Just below 1 the ratio of the two is still 1; at 1 it would be 0/0.
    cosine = cosine.clamp(max=1 - torch.finfo(cosine.dtype).eps)
    return cosine.arccos().square(), (1 - cosine) * (1 + cosine)
