"""Log(Exp(xi)^-1 r) on SE(3), what a twist xi misses of a pose r, with its derivative in closed form.

With e = Log(Exp(xi)^-1 r), to first order in d and delta (arXiv:1812.01537, section 2.4):

    xi -> xi + d         e -> e - J_l^-1(e) J_r(xi) d
    r -> r Exp(delta)    e -> e + J_r^-1(e) delta

J_l(v, w) = [[V, Q], [0, V]], J_r(xi) = J_l(-xi), and the transposes are V(w)^T = V(-w), Q(v, w)^T = Q(-v, -w).
So the backward pass is a dozen cross products, where autograd walks back through every step of an exponential and
a logarithm.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from geoflow.lie import _quaternion as quaternion
from geoflow.lie import series
from geoflow.lie._components import enter, leave
from geoflow.lie._quaternion import cross, dot


class Miss(torch.autograd.Function):
    """(xi (..., 6), r (..., 7)) -> e (..., 6). Differentiable in xi to any order; r is data."""

    generate_vmap_rule = True

    @staticmethod
    def forward(xi: Tensor, r: Tensor) -> Tensor:
        (c, x), dtype = enter((xi, "twists"), (r, "poses"))
        v, omega = c.split((3, 3))
        cos, h, e = quaternion.exp_weights(dot(omega, omega))
        u = h * omega
        gone = (2 * h * cos) * v + (e * dot(omega, v)) * omega + (2 * h * h) * cross(omega, v)
        p = quaternion.rotate(-cos, u, x[:3] - gone)
        w, u = quaternion.multiply(cos, -u, x[3:4], x[4:])
        sign = quaternion.short_way(w, u)
        w, u = sign * w, sign * u
        g, k = quaternion.log_weights(w, dot(u, u))
        rest = (g * w) * p + (k * dot(u, p)) * u - g * cross(u, p)
        return leave(dtype, rest, 2 * g * u)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        xi, r = inputs
        ctx.save_for_backward(xi, output)
        ctx.save_for_forward(xi, output, r)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        xi, output = ctx.saved_tensors
        (c, e, g), dtype = enter((xi, "twists"), (output, "twists"), (gradients[0], "twists"))
        back, there = _Jacobian.short(-e), _Jacobian.of(c)
        a = back.solve(g[:3])
        b = back.solve(g[3:] - back.corner(a))
        a, b = there.turn(a), there.corner(a) + there.turn(b)
        return _like(xi, leave(dtype, -a, -b)), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        xi, output, r = ctx.saved_tensors
        d, moved = tangents
        rows = [(x, "twists") for x in (xi, output, d)]
        (c, e, d, x, m), dtype = enter(*rows, (r, "poses"), (moved, "poses"))
        there, back = _Jacobian.of(-c), _Jacobian.short(e)
        v, w = back.solve_upper(there.turn(d[:3]) + there.corner(d[3:]), there.turn(d[3:]))
        p = quaternion.rotate(-x[3:4], x[4:], m[:3])
        _, u = quaternion.multiply(x[3:4], -x[4:], m[3:4], m[4:])
        pv, pw = _Jacobian.short(-e).solve_upper(p, 2 * u)
        return leave(dtype, pv - v, pw - w)


class _Jacobian(NamedTuple):
    """The blocks V(omega) and Q(v, omega) of J_l of twists (6, ...), as what they do to vectors (3, ...)."""

    v: Tensor
    omega: Tensor
    squared: Tensor
    e: Tensor
    f: Tensor
    g: Tensor

    @classmethod
    def of(cls, xi: Tensor) -> _Jacobian:
        """Of any angle."""
        v, omega = xi.split((3, 3))
        s = dot(omega, omega)
        return cls(v, omega, s, *series.evaluate(("e", "f", "g"), (s, s, s)))

    @classmethod
    def short(cls, xi: Tensor) -> _Jacobian:
        """Of angles up to pi."""
        v, omega = xi.split((3, 3))
        s = dot(omega, omega)
        return cls(v, omega, s, *series.polynomials(("e", "f", "g"), s))

    def turn(self, x: Tensor) -> Tensor:
        """V x = x + (1 - cos theta)/theta^2 W x + e W^2 x."""
        return x + cross(self.omega, (0.5 - self.squared * self.f) * x + self.e * cross(self.omega, x))

    def solve(self, x: Tensor) -> Tensor:
        """V^-1 x = x - W x / 2 + (e - 2 f)/(1 - 2 theta^2 f) W^2 x."""
        weight = (self.e - 2 * self.f) / (1 - 2 * self.squared * self.f)
        return x + cross(self.omega, weight * cross(self.omega, x) - 0.5 * x)

    def corner(self, x: Tensor) -> Tensor:
        """Q x; the formula is that of `geoflow.lie._matrices.coupling`."""
        v, omega, _, e, f, g = self
        a, b, c = cross(v, x), cross(omega, x), dot(omega, v)
        inner = e * a + f * cross(omega, a) + (c * (3 * f - e)) * x - (2 * g * c) * b
        return 0.5 * a + cross(omega, inner) + cross(v, e * b + f * cross(omega, b))

    def solve_upper(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """J_l^-1 (a, b)."""
        b = self.solve(b)
        return self.solve(a - self.corner(b)), b


def _like(x: Tensor, gradient: Tensor) -> Tensor:
    """A gradient summed over the axes along which x was broadcast."""
    return gradient if gradient.shape == x.shape else gradient.sum_to_size(x.shape)
