"""The path and the end point error of SE(3) written out number by number, for a compiler, which makes one loop of it.

Operations on whole vectors (3, ...) are the fast way to run eagerly, and a compiler makes dozens of loops of them, each
over the whole batch; of the same formulas on single components it makes one that keeps everything in registers
(a training loss of 4096 poses: 2.5 times as fast). Vectors are tuples of three components, all of one shape.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geoflow.lie import _quaternion as quaternion
from geoflow.lie._components import enter, enter_time, leave

Vector = tuple[Tensor, Tensor, Tensor]
Pose = tuple[Vector, Tensor, Vector]
"""(p, w, u)."""


def geodesic(x_0: Tensor, x_1: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
    """`geoflow.lie.se3.geodesic`."""
    (x, y), dtype = enter((x_0, "poses"), (x_1, "poses"), t=t)
    t = enter_time(t, x, x.dtype)
    start = _pose(x)
    v, omega = _log(_relative(start, _pose(y)))
    p, w, u = _compose(start, _exp(_times(t, v), _times(t, omega)))
    xi = leave(dtype, *v, *omega)
    return leave(dtype, *p, w, *u), xi.expand(*p[0].shape[1:], 6)


def miss(x: Tensor, xi: Tensor, y: Tensor) -> Tensor:
    """`geoflow.lie.se3.miss`."""
    (a, b, c), dtype = enter((x, "poses"), (xi, "twists"), (y, "poses"))
    v0, v1, v2, w0, w1, w2 = b.split(1)
    walked = _compose(_pose(a), _exp((v0, v1, v2), (w0, w1, w2)))
    v, omega = _log(_relative(walked, _pose(c)))
    return leave(dtype, *v, *omega)


def _pose(x: Tensor) -> Pose:
    p0, p1, p2, w, u0, u1, u2 = x.split(1)
    return (p0, p1, p2), w, (u0, u1, u2)


def _times(k: Tensor | float, a: Vector) -> Vector:
    return k * a[0], k * a[1], k * a[2]


def _sum(a: Vector, *others: Vector) -> Vector:
    for b in others:
        a = a[0] + b[0], a[1] + b[1], a[2] + b[2]
    return a


def _dot(a: Vector, b: Vector) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _multiply(w0: Tensor, u0: Vector, w1: Tensor, u1: Vector) -> tuple[Tensor, Vector]:
    return w0 * w1 - _dot(u0, u1), _sum(_cross(u0, u1), _times(w0, u1), _times(w1, u0))


def _rotate(w: Tensor, u: Vector, a: Vector) -> Vector:
    c = _cross(u, a)
    return _sum(a, _times(2, _sum(_cross(u, c), _times(w, c))))


def _compose(x: Pose, y: Pose) -> Pose:
    (p0, w0, u0), (p1, w1, u1) = x, y
    return _sum(p0, _rotate(w0, u0, p1)), *_multiply(w0, u0, w1, u1)


def _relative(x: Pose, y: Pose) -> Pose:
    """x^-1 y."""
    (p0, w0, u0), (p1, w1, u1) = x, y
    back = _times(-1, u0)
    return _rotate(w0, back, _sum(p1, _times(-1, p0))), *_multiply(w0, back, w1, u1)


def _exp(v: Vector, omega: Vector) -> Pose:
    cos, h, e = quaternion.exp_weights(_dot(omega, omega))
    p = _sum(_times(2 * h * cos, v), _times(e * _dot(omega, v), omega), _times(2 * h * h, _cross(omega, v)))
    return p, cos, _times(h, omega)


def _log(x: Pose) -> tuple[Vector, Vector]:
    p, w, u = x
    sign = torch.sign(w + 1e-18 * u[0] + 1e-24 * u[1] + 1e-30 * u[2])  # as quaternion.short_way
    w, u = sign * w, _times(sign, u)
    g, k = quaternion.log_weights(w, _dot(u, u))
    v = _sum(_times(g * w, p), _times(k * _dot(u, p), u), _times(-g, _cross(u, p)))
    return v, _times(2 * g, u)
