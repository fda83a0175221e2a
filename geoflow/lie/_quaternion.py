"""Quaternion arithmetic on components: vectors (3, ...), scalars (1, ...), quaternions as (w, u)."""

from __future__ import annotations

import torch
from torch import Tensor

from geoflow.lie import _few as few
from geoflow.lie import series

_LARGE = 6144


def dot(a: Tensor, b: Tensor) -> Tensor:
    """a . b over the component axis."""
    return (a * b).sum(0, keepdim=True)


def cross(a: Tensor, b: Tensor) -> Tensor:
    """a x b over the component axis."""
    if torch.compiler.is_exporting():
        return few.cross(a, b)
    differentiated = torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)
    if torch.compiler.is_compiling() or max(a.numel(), b.numel()) < _LARGE or differentiated:
        return torch.linalg.cross(a, b, dim=0)
    # Slices of doubled vectors: more calls, twice the throughput; but each slice is a tensor of zeros in backward.
    a, b = torch.cat((a, a)), torch.cat((b, b))
    return torch.addcmul(a[1:4] * b[2:5], a[2:5], b[1:4], value=-1)


def multiply(w0: Tensor, u0: Tensor, w1: Tensor, u1: Tensor) -> tuple[Tensor, Tensor]:
    """The Hamilton product of two quaternions."""
    if torch.compiler.is_exporting():
        w, u = few.multiply(torch.cat((w0, u0)), torch.cat((w1, u1))).split((1, 3))
        return w, u
    u = torch.addcmul(torch.addcmul(cross(u0, u1), w0, u1), w1, u0)
    return w0 * w1 - dot(u0, u1), u


def rotate(w: Tensor, u: Tensor, a: Tensor) -> Tensor:
    """R(q) a = a + 2 (w (u x a) + u x (u x a)); with -w in place of w it is R(q)^T a."""
    if torch.compiler.is_exporting():
        return few.rotate(torch.cat((w, u)), a)
    c = cross(u, a)
    return torch.add(a, torch.addcmul(cross(u, c), w, c), alpha=2)


def conjugate(q: Tensor) -> Tensor:
    """(-w, u): up to the sign of the quaternion the inverse, and one call less than (w, -u)."""
    return torch.cat((-q[:1], q[1:]))


def two_columns(q: Tensor) -> tuple[Tensor, ...]:
    """The first two columns of R(q), entries one after the other, for components (4, ...)."""
    if not torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return (few.columns(q, 2),)
    twice = q + q
    xx, yy, zz = (twice[1:] * q[1:]).split(1)
    wx, wy, wz = (twice[:1] * q[1:]).split(1)
    xy, xz = (twice[1:2] * q[2:]).split(1)
    yz = twice[2:3] * q[3:]
    return 1 - (yy + zz), xy + wz, xz - wy, xy - wz, 1 - (xx + zz), yz + wx


def short_way(w: Tensor, u: Tensor) -> Tensor:
    """The sign, +1 or -1, that turns q into the representative with w >= 0.

    At w = 0 (half turns) the first nonzero component of u decides, so that q and -q always give one answer.
    The weights are far below rounding wherever w itself is not.
    """
    if torch.compiler.is_exporting():
        return few.short_way(torch.cat((w, u)))
    u0, u1, u2 = u.chunk(3)
    return torch.sign(torch.add(w, u0, alpha=1e-18).add(u1, alpha=1e-24).add(u2, alpha=1e-30))


def half_angle(w: Tensor, n2: Tensor) -> tuple[Tensor, Tensor]:
    """(2 k, z) with z = tan^2(phi/4) and phi/sin(phi) = 2 k atan(sqrt z)/sqrt z, from w >= 0 and n2 = |u|^2.

    Two half-angle steps bring the argument of the arc tangent below 0.42, where atan(sqrt z)/sqrt z is a
    short polynomial: no atan2, no division by |u|, smooth from the identity up to and including half turns.
    """
    c = (0.5 * w + 0.5).sqrt()
    k = 1 / (c + c * c)
    return 2 * k, 0.25 * n2 * k * k


def log_weights(w: Tensor, n2: Tensor) -> tuple[Tensor, Tensor]:
    """(g, k) with omega = 2 g u and k = d(phi^2) g^3, from w >= 0 and n2 = |u|^2."""
    scale, z = half_angle(w, n2)
    arc, d = series.polynomials(("atan_z", "d_z"), z)
    g = scale * arc
    return g, d * g * g * g


def exp_weights(s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(cos phi, sin(phi)/theta, e(theta^2)) with phi = theta/2, from s = theta^2 of any size."""
    near = series.OF_HALF_ANGLE[s.dtype == torch.float64](s)
    # A safe argument first, then where: autograd visits both branches.
    safe = s.clamp(min=series.X_MAX)
    r = safe.sqrt()
    half = 0.5 * r
    cos, h = half.cos(), half.sin() / r
    far = torch.cat((cos, h, (1 - 2 * (h * cos)) / safe))
    cos, h, e = torch.where(s <= series.X_MAX, near, far).chunk(3)
    return cos, h, e
