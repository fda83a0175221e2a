"""The conditional path x_t = x_0 Exp(t xi), xi = Log(x_0^-1 x_1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from geoflow.manifolds import Manifold


@dataclass(frozen=True)
class PathSample:
    """A point of a conditional path and the velocity there.

    Attributes:
        x_t: Points, shape (..., point_dim).
        v_t: Velocities in the body frame at x_t, shape (..., tangent_dim).
    """

    x_t: Tensor
    v_t: Tensor


@dataclass(frozen=True)
class Geodesic:
    """The shortest way at constant speed; the body velocity is xi at every t (Chen and Lipman 2023, eq. 13)."""

    def __call__(self, space: Manifold, x_0: Tensor, x_1: Tensor, t: Tensor) -> PathSample:
        """Points (..., point_dim) at times t, of the leading shape of x_0 or broadcastable to it."""
        return PathSample(*space.geodesic(x_0, x_1, t))
