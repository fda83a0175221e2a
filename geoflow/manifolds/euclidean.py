"""R^n with one isotropic unit: |v|^2 / scale^2."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geoflow.lie import _matrices as matrices
from geoflow.manifolds.base import Manifold, check_last_axis


@dataclass(frozen=True)
class Euclidean(Manifold):
    """R^n; points, tangents and features are the same n numbers.

    Args:
        n: Dimension.
        scale: The length that counts as 1 in ``squared_norm``.
    """

    n: int
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"expected a dimension n >= 1; got {self.n}.")
        if not self.scale > 0:
            raise ValueError(f"expected a positive scale; got {self.scale}.")

    @property
    def point_dim(self) -> int:
        """n."""
        return self.n

    @property
    def tangent_dim(self) -> int:
        """n."""
        return self.n

    @property
    def feature_dim(self) -> int:
        """n."""
        return self.n

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """x + v."""
        check_last_axis(x, self.n, "points", self)
        check_last_axis(v, self.n, "tangents", self)
        return x + v

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """y - x."""
        check_last_axis(x, self.n, "points", self)
        check_last_axis(y, self.n, "points", self)
        return y - x

    def approach(self, x: Tensor, c: Tensor, v: Tensor, share: float | Tensor) -> Tensor:
        """x + share (c + v - x)."""
        check_last_axis(x, self.n, "points", self)
        check_last_axis(v, self.n, "tangents", self)
        return x + share * (c + v - x)

    def bracket(self, v: Tensor, w: Tensor) -> Tensor:
        """0: translations commute."""
        return torch.zeros_like(v + w)

    def adjoint(self, w: Tensor, v: Tensor) -> Tensor:
        """v: translations commute."""
        return v.expand(torch.broadcast_shapes(w.shape, v.shape))

    jacobian = jacobian_inverse = adjoint

    def log_volume(self, w: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(w[..., 0]) if self.n else w.new_zeros(w.shape[:-1])

    def geodesic(self, x: Tensor, y: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """(x + t (y - x), y - x)."""
        v = self.log(x, y)
        if isinstance(t, Tensor):
            t = t.to(v.dtype).unsqueeze(-1)
        x_t = x + t * v
        return x_t, v.expand(x_t.shape)

    def squared_norm(self, v: Tensor) -> Tensor:
        """|v|^2 / scale^2."""
        return (v * v).sum(-1) / self.scale**2

    def squared_distances(self, x: Tensor, y: Tensor) -> Tensor:
        """|x_i|^2 + |y_j|^2 - 2 x_i . y_j, over scale^2, of all pairs."""
        check_last_axis(x, self.n, "points", self)
        check_last_axis(y, self.n, "points", self)
        return squared_gaps(x, y) / self.scale**2

    def project(self, x: Tensor) -> Tensor:
        """x: every n numbers are a point."""
        check_last_axis(x, self.n, "points", self)
        return x

    def identity(
        self, *shape: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Tensor:
        """The origin (*shape, n)."""
        return torch.zeros(*shape, self.n, dtype=dtype, device=device)

    def features(self, x: Tensor) -> Tensor:
        """x."""
        return self.project(x)

    def from_features(self, f: Tensor) -> Tensor:
        """f."""
        return self.project(f)


def squared_gaps(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 (..., n, m) of vectors x (..., n, d) and y (..., m, d), by one matrix product."""
    origin = y.mean(-2, keepdim=True)  # far from the origin the squares would cancel
    x, y = x - origin, y - origin
    squares = (x * x).sum(-1).unsqueeze(-1) + (y * y).sum(-1).unsqueeze(-2)
    return (squares - 2 * matrices.matmul(x, y.mT)).clamp(min=0)
