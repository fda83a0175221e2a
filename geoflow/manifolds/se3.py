"""The group of poses SE(3), whose geodesics here are screws: group geodesics x Exp(t xi)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geoflow.lie import _matrices as matrices
from geoflow.lie import se3, series
from geoflow.manifolds.base import Manifold, check_last_axis, check_unit
from geoflow.manifolds.euclidean import squared_gaps
from geoflow.manifolds.so3 import half_turns


@dataclass(frozen=True)
class SE3(Manifold):
    """Poses (x y z qw qx qy qz) with body twists (v, omega) and |xi|^2 = |v|^2 / length^2 + |omega|^2.

    SE(3) has no bi-invariant metric: ``length`` says how many metres count as one radian, and ``distance`` is
    the norm of the logarithm, which is symmetric and left invariant but no Riemannian distance. For the product
    metric, with straight lines of the origin, use ``Product(Euclidean(3), SO3())``: the storage is the same.
    """

    length: float = 1.0

    def __post_init__(self) -> None:
        if not self.length > 0:
            raise ValueError(f"expected a positive length [m]; got {self.length}.")

    @property
    def point_dim(self) -> int:
        """7: x y z qw qx qy qz."""
        return 7

    @property
    def tangent_dim(self) -> int:
        """6: v [m], omega [rad], body frame."""
        return 6

    @property
    def feature_dim(self) -> int:
        """9: position and the first two columns of R."""
        return 9

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """x Exp(v)."""
        return se3.plus(x, v)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Log(x^-1 y)."""
        return se3.minus(y, x)

    def miss(self, x: Tensor, v: Tensor, y: Tensor) -> Tensor:
        """Log((x Exp(v))^-1 y), in one pass."""
        return se3.miss(x, v, y)

    def approach(self, x: Tensor, c: Tensor, v: Tensor, share: float | Tensor) -> Tensor:
        """x Exp(share Log(x^-1 c Exp(v))), in one pass."""
        return se3.approach(x, c, v, share)

    def bracket(self, v: Tensor, w: Tensor) -> Tensor:
        """(omega_v x w_lin - omega_w x v_lin, omega_v x omega_w)."""
        (v, omega), (w, eta) = v.split(3, dim=-1), w.split(3, dim=-1)
        cross = torch.linalg.cross
        return torch.cat([cross(omega, w) - cross(eta, v), cross(omega, eta)], dim=-1)

    def adjoint(self, w: Tensor, v: Tensor) -> Tensor:
        """Ad(Exp(w)) v."""
        return matrices.apply(se3.adjoint(se3.exp(w)), v)

    def jacobian(self, w: Tensor, v: Tensor) -> Tensor:
        """J_r(w) v."""
        return matrices.apply(se3.jacobian_right(w), v)

    def jacobian_inverse(self, w: Tensor, v: Tensor) -> Tensor:
        """J_r(w)^-1 v."""
        return matrices.apply(se3.jacobian_right_inverse(w), v)

    def log_volume(self, w: Tensor) -> Tensor:
        """log sinc^4(theta/2)."""
        return 4 * series.log_sinc((w[..., 3:] * w[..., 3:]).sum(-1))

    def geodesic(self, x: Tensor, y: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """The screw from x to y and its body twist, fused."""
        return se3.geodesic(x, y, t)

    def squared_norm(self, v: Tensor) -> Tensor:
        """|v|^2 / length^2 + |omega|^2."""
        squares = v * v
        return squares[..., :3].sum(-1) / self.length**2 + squares[..., 3:].sum(-1)

    def squared_distances(self, x: Tensor, y: Tensor) -> Tensor:
        """theta^2 + ((p . a)^2 + g (|p|^2 - (p . a)^2)) / length^2 of all pairs, g = (theta/2)^2 / sin^2(theta/2).

        p and the axis a of the turn from x_i to y_j in world axes, where their product is bilinear in what
        belongs to x_i and what belongs to y_j: three matrix products and no logarithm of a pose.
        """
        check_last_axis(x, 7, "points", self)
        check_last_axis(y, 7, "points", self)
        origin = y[..., :3].mean(-2, keepdim=True)
        (p, q), (r, s) = x.split([3, 4], dim=-1), y.split([3, 4], dim=-1)
        p, r = p - origin, r - origin
        squared, sine = half_turns(q, s)
        g = squared / sine
        # sin(theta/2) a is the vector part of s q^-1; its product with r, then with -p.
        of_y = torch.cat([(r * s[..., 1:]).sum(-1, keepdim=True), -_turned(r, s)], dim=-1)
        of_x = torch.cat([(p * q[..., 1:]).sum(-1, keepdim=True), -_turned(p, q)], dim=-1)
        along = matrices.matmul(torch.cat([q, of_x], dim=-1), torch.cat([of_y, s], dim=-1).mT)
        along = along.square() / sine
        return 4 * squared + (g * squared_gaps(p, r) + (1 - g) * along) / self.length**2

    def project(self, x: Tensor) -> Tensor:
        """The pose with its quaternion scaled to unit norm."""
        return se3.normalise(x)

    def identity(
        self, *shape: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Tensor:
        """The identity pose (*shape, 7)."""
        return se3.identity(*shape, dtype=dtype, device=device)

    def features(self, x: Tensor) -> Tensor:
        """(p, R[:, 0], R[:, 1])."""
        return se3.to_6d(x, by="columns")

    def from_features(self, f: Tensor) -> Tensor:
        """Position as it is, Gram-Schmidt on two columns."""
        return se3.from_6d(f, by="columns")

    def check(self, x: Tensor) -> Tensor:
        """x itself, or a sentence about what is wrong with it."""
        super().check(x)
        check_unit(x[..., 3:], str(self))
        return x


def _turned(p: Tensor, q: Tensor) -> Tensor:
    """w p + p x v, for a quaternion (w, v)."""
    return q[..., :1] * p + torch.linalg.cross(p, q[..., 1:])
