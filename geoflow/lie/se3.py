"""SE(3) as poses (x, y, z, qw, qx, qy, qz): exp, log, screw geodesics, Jacobians and converters, on plain tensors.

The last axis is the pose (7: metres and a unit quaternion) or the twist xi = (v, omega) (6: metres, radians),
body frame, perturbed from the right: x Exp(xi). q and -q are the same pose and give the same answers. Leading
axes are free and broadcast. Quaternions must be of unit norm (``normalise`` mends them); all functions are
differentiable by plain autograd, also at the identity and at half turns. Half precision is computed in float32.

Formulas: Sola, Deray and Atchuthan, "A micro Lie theory for state estimation in robotics", arXiv:1812.01537,
in half-angle form.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geoflow.lie import _matrices as matrices
from geoflow.lie import _quaternion as quaternion
from geoflow.lie import _unrolled as unrolled
from geoflow.lie import series, so3
from geoflow.lie._components import check_rows, enter, enter_time, generates_code, leave
from geoflow.lie._miss import Miss
from geoflow.lie._share import weights as share_weights

_POSE = ("poses", 7, "x y z qw qx qy qz")
_TWIST = ("twists", 6, "vx vy vz wx wy wz")
#: (p, w, u), component first.
Components = tuple[Tensor, Tensor, Tensor]


def exp(xi: Tensor) -> Tensor:
    """Exp(v, omega) = (V(omega) v, Exp(omega)), arXiv:1812.01537, eq. (172), of any angle.

    Args:
        xi: Twists (..., 6): linear [m], angular [rad].

    Returns:
        Poses (..., 7).
    """
    (x,), dtype = enter((xi, "twists"))
    return leave(dtype, *_exp(x))


def log(x: Tensor) -> Tensor:
    """The twist (..., 6) of x (..., 7) whose rotation goes the short way round; eq. (173)."""
    (c,), dtype = enter((x, "poses"))
    return leave(dtype, *_log(_parts(c)))


def plus(x: Tensor, xi: Tensor) -> Tensor:
    """x Exp(xi) (..., 7) in one pass: compose(x, exp(xi)) without the detour over rows; eq. (25)."""
    (a, b), dtype = enter((x, "poses"), (xi, "twists"))
    return leave(dtype, *_compose(_parts(a), _exp(b)))


def minus(y: Tensor, x: Tensor) -> Tensor:
    """Log(x^-1 y) (..., 6) in one pass, the twist from x to y: plus(x, minus(y, x)) = y; eq. (26)."""
    (b, a), dtype = enter((y, "poses"), (x, "poses"))
    return leave(dtype, *_log(_relative(_parts(a), _parts(b))))


def miss(x: Tensor, xi: Tensor, y: Tensor) -> Tensor:
    """Log((x Exp(xi))^-1 y) (..., 6), what is left to y after a walk: minus(y, plus(x, xi)) in one pass.

    Where x and y are data, as in a training loss, its gradient with respect to xi is in closed form.
    """
    differentiated = torch.is_grad_enabled() and (x.requires_grad or y.requires_grad)
    if generates_code():
        return unrolled.miss(x, xi, y)
    if differentiated or torch.compiler.is_compiling():
        return minus(y, plus(x, xi))
    (a, b), dtype = enter((x, "poses"), (y, "poses"))
    r = leave(dtype, *_relative(_parts(a), _parts(b)))
    return Miss.apply(xi, r)  # pyright: ignore[reportReturnType]


def approach(x: Tensor, c: Tensor, xi: Tensor, share: float | Tensor) -> Tensor:
    """x Exp(share Log(x^-1 c Exp(xi))) (..., 7): a share, 0 to 1, of the way from x to c Exp(xi), in one pass."""
    compiled = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
    if compiled or isinstance(share, Tensor):  # one compiled function then serves every share
        return geodesic(x, plus(c, xi), share)[0]
    (a, b, d), dtype = enter((x, "poses"), (c, "poses"), (xi, "twists"))
    return leave(dtype, *_along(a, _compose(_parts(b), _exp(d)), share))


def compose(x_0: Tensor, x_1: Tensor) -> Tensor:
    """The product x_0 x_1 = (p_0 + R_0 p_1, q_0 q_1) (..., 7): T_ac = compose(T_ab, T_bc)."""
    (a, b), dtype = enter((x_0, "poses"), (x_1, "poses"))
    return leave(dtype, *_compose(_parts(a), _parts(b)))


def inverse(x: Tensor) -> Tensor:
    """The inverse (-R^T p, q^-1) (..., 7): T_ba = inverse(T_ab)."""
    (c,), dtype = enter((x, "poses"))
    p, w, u = _parts(c)
    return leave(dtype, -quaternion.rotate(-w, u, p), w, -u)


def between(x_0: Tensor, x_1: Tensor) -> Tensor:
    """x_0^-1 x_1 (..., 7) in one pass, x_1 as seen from x_0: T_bc = between(T_ab, T_ac)."""
    (a, b), dtype = enter((x_0, "poses"), (x_1, "poses"))
    return leave(dtype, *_relative(_parts(a), _parts(b)))


def act(x: Tensor, points: Tensor) -> Tensor:
    """R a + p for points a (..., 3) [m]."""
    (c, a), dtype = enter((x, "poses"), (points, "points"))
    p, w, u = _parts(c)
    return leave(dtype, p + quaternion.rotate(w, u, a))


def adjoint(x: Tensor) -> Tensor:
    """Ad_x = [[R, hat(p) R], [0, R]] (..., 6, 6): x Exp(xi) x^-1 = Exp(Ad_x xi); eq. (175)."""
    check_rows(x, *_POSE)
    p, q = matrices.promote(x).split((3, 4), dim=-1)
    R = matrices.from_quaternion(q)
    return matrices.block_upper(R, matrices.product(matrices.skew(p), R)).to(x.dtype)


def geodesic(x_0: Tensor, x_1: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
    """Point and body twist of the screw x_0 Exp(t xi), xi = Log(x_0^-1 x_1), in one pass.

    Args:
        x_0: Where the path is at t = 0, (..., 7).
        x_1: Where it is at t = 1, (..., 7).
        t: Times that broadcast against the leading axes (no trailing 1), any real number.

    Returns:
        Poses x_t (..., 7) and twists xi (..., 6) [m and rad per unit time], constant along the path.
    """
    if generates_code():
        return unrolled.geodesic(x_0, x_1, t)
    (x, y), dtype = enter((x_0, "poses"), (x_1, "poses"), t=t)
    t = enter_time(t, x, x.dtype)
    p0, w0, u0 = _parts(x)
    p1, w1, u1 = _parts(y)
    d = p1 - p0

    # The relative rotation seen from the body (u_b) and from the world (u_w): no quaternion product needed.
    symmetric, turned = w0 * u1 - w1 * u0, quaternion.cross(u0, u1)
    u_b, u_w = symmetric - turned, symmetric + turned
    w = w0 * w1 + quaternion.dot(u0, u1)
    sign = quaternion.short_way(w, u_b)
    w, u_b, u_w = sign * w, sign * u_b, sign * u_w
    n2 = quaternion.dot(u_b, u_b)
    scale, z = quaternion.half_angle(w, n2)
    arc, d_s, e_s = series.polynomials(("atan_z", "d_z", "e_z"), z)
    g = scale * arc
    g3 = g * g * g

    r, m = 1 - t, 2 * t - 1
    m2, r2 = m * m, r * r
    s = 16 * z * arc * arc  # phi^2, phi half the angle between the two
    rs, ts, ms, _ = torch.broadcast_tensors(r2 * s, t * t * s, m2 * s, s)
    a, b, cos, e_m = series.evaluate(("sinc", "sinc", "cos", "e"), (rs, ts, rs, ms))
    a, b = r * g * a, t * g * b
    c = 0.5 * g3 * m * (m2 * e_m - e_s)

    along, turn = quaternion.dot(u_w, d), quaternion.cross(u_w, d)
    p_t = p0 + (b * cos) * d + (c * along) * u_w - (a * b) * turn
    q_t = a * x[3:] + (sign * b) * y[3:]
    # The body velocity in world axes, then turned into the body: R_0^T u_w = u_b.
    v = quaternion.rotate(-w0, u0, (g * w) * d + (d_s * g3 * along) * u_w - g * turn)
    xi = leave(dtype, v, 2 * g * u_b)
    return leave(dtype, p_t, q_t), xi.expand(*rs.shape[1:], 6)


def hat(xi: Tensor) -> Tensor:
    """The matrix [[hat(omega), v], [0, 0]] (..., 4, 4) of the Lie algebra."""
    check_rows(xi, *_TWIST)
    v, omega = xi.split(3, dim=-1)
    top = torch.cat([matrices.skew(omega), v.unsqueeze(-1)], dim=-1)
    return torch.cat([top, torch.zeros_like(top[..., :1, :])], dim=-2)


def vee(matrix: Tensor) -> Tensor:
    """The twist (..., 6) of a matrix (..., 4, 4) of the Lie algebra; the inverse of ``hat``."""
    matrices.check_square(matrix, 4)
    return torch.cat([matrix[..., :3, 3], matrices.unskew(matrix[..., :3, :3])], dim=-1)


def jacobian_left(xi: Tensor) -> Tensor:
    """J_l (..., 6, 6) with Exp(xi + d) = Exp(J_l d) Exp(xi) to first order; eq. (179)."""
    check_rows(xi, *_TWIST)
    v, omega = matrices.promote(xi).split(3, dim=-1)
    J = matrices.rotation_jacobian(omega)
    return matrices.block_upper(J, matrices.coupling(v, omega)).to(xi.dtype)


def jacobian_right(xi: Tensor) -> Tensor:
    """J_r (..., 6, 6) with Exp(xi + d) = Exp(xi) Exp(J_r d) to first order; J_r(xi) = J_l(-xi)."""
    return jacobian_left(-xi)


def jacobian_left_inverse(xi: Tensor) -> Tensor:
    """J_l^-1 (..., 6, 6), finite for angles below 2 pi; eq. (182)."""
    check_rows(xi, *_TWIST)
    v, omega = matrices.promote(xi).split(3, dim=-1)
    J = matrices.rotation_jacobian_inverse(omega)
    corner = -matrices.product(matrices.product(J, matrices.coupling(v, omega)), J)
    return matrices.block_upper(J, corner).to(xi.dtype)


def jacobian_right_inverse(xi: Tensor) -> Tensor:
    """J_r^-1 (..., 6, 6) with Log(Exp(xi) Exp(d)) = xi + J_r^-1 d to first order."""
    return jacobian_left_inverse(-xi)


def identity(
    *shape: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Tensor:
    """Identity poses (*shape, 7)."""
    x = torch.zeros(*shape, 7, dtype=dtype, device=device)
    x[..., 3] = 1
    return x


def random_uniform(
    *shape: int,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Poses (*shape, 7) with Haar-uniform rotations and positions uniform in the cube [-1, 1]^3 m.

    SE(3) is not compact and has no uniform distribution; the cube is a convention for tests and examples.
    """
    p = torch.rand(*shape, 3, generator=generator, dtype=dtype, device=device) * 2 - 1
    return torch.cat([p, so3.random_uniform(*shape, generator=generator, dtype=dtype, device=device)], dim=-1)


def normalise(x: Tensor) -> Tensor:
    """The pose with its quaternion scaled to unit norm."""
    check_rows(x, *_POSE)
    return torch.cat([x[..., :3], so3.normalise(x[..., 3:])], dim=-1)


def to_rotation_translation(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation matrices (..., 3, 3) and positions (..., 3) [m]."""
    check_rows(x, *_POSE)
    return matrices.from_quaternion(x[..., 3:]), x[..., :3]


def from_rotation_translation(R: Tensor, p: Tensor) -> Tensor:
    """Poses (..., 7) from rotation matrices (..., 3, 3) and positions (..., 3) [m]."""
    check_rows(p, "points", 3, "x y z")
    return _join(p, so3.from_matrix(R))


def to_matrix(x: Tensor) -> Tensor:
    """Homogeneous matrices [[R, p], [0, 1]] (..., 4, 4); they multiply column vectors from the left."""
    R, p = to_rotation_translation(x)
    top = torch.cat([R, p.unsqueeze(-1)], dim=-1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., 3] = 1
    return torch.cat([top, bottom], dim=-2)


def from_matrix(T: Tensor) -> Tensor:
    """Poses (..., 7) from homogeneous matrices (..., 4, 4) for column vectors."""
    matrices.check_square(T, 4)
    return from_rotation_translation(T[..., :3, :3], T[..., :3, 3])


def to_xyzw(x: Tensor) -> Tensor:
    """Poses with a scalar-last quaternion (x, y, z, qx, qy, qz, qw), as pypose, lietorch and ROS store them."""
    check_rows(x, *_POSE)
    return torch.cat([x[..., :3], x[..., 3:].roll(-1, dims=-1)], dim=-1)


def from_xyzw(x: Tensor) -> Tensor:
    """Our poses from (x, y, z, qx, qy, qz, qw)."""
    check_rows(x, "poses", 7, "x y z qx qy qz qw")
    return torch.cat([x[..., :3], x[..., 3:].roll(1, dims=-1)], dim=-1)


def to_rotvec(x: Tensor) -> Tensor:
    """Position and rotation vector (..., 6) [m, rad], as UR robots report them. Not the logarithm."""
    check_rows(x, *_POSE)
    return torch.cat([x[..., :3], so3.log(x[..., 3:])], dim=-1)


def from_rotvec(y: Tensor) -> Tensor:
    """Poses from position and rotation vector (..., 6) [m, rad]. Not the exponential."""
    check_rows(y, "positions and rotation vectors", 6, "x y z rx ry rz")
    return torch.cat([y[..., :3], so3.exp(y[..., 3:])], dim=-1)


def to_6d(x: Tensor, *, by: so3.By) -> Tensor:
    """Position and 6D rotation (..., 9): two columns or two rows of R, see ``so3.to_6d``."""
    check_rows(x, *_POSE)
    (c,), dtype = enter((x, "poses"))
    columns = quaternion.two_columns(
        c[3:] if matrices.check_by(by) == "columns" else quaternion.conjugate(c[3:])
    )
    return leave(dtype, c[:3], *columns)


def from_6d(features: Tensor, *, by: so3.By) -> Tensor:
    """Poses from position and 6D rotation (..., 9), orthonormalised by Gram-Schmidt."""
    check_rows(features, "positions and 6D rotations", 9, f"x y z and two {by} of a rotation matrix")
    return torch.cat([features[..., :3], so3.from_6d(features[..., 3:], by=by)], dim=-1)


def _join(p: Tensor, q: Tensor) -> Tensor:
    shape = torch.broadcast_shapes(p.shape[:-1], q.shape[:-1])
    return torch.cat([p.expand(*shape, 3), q.expand(*shape, 4)], dim=-1)


def _parts(x: Tensor) -> Components:
    """(p, w, u) of component-first poses (7, ...)."""
    p, w, u = x.split_with_sizes((3, 1, 3))
    return p, w, u


def _exp(xi: Tensor) -> Components:
    return _exp_of(*xi.chunk(2))


def _exp_of(v: Tensor, omega: Tensor) -> Components:
    cos, h, e = quaternion.exp_weights(quaternion.dot(omega, omega))
    twice = h + h
    p = torch.addcmul((twice * cos) * v, e * quaternion.dot(omega, v), omega)
    return torch.addcmul(p, twice * h, quaternion.cross(omega, v)), cos, h * omega


def _compose(x_0: Components, x_1: Components) -> Components:
    (p0, w0, u0), (p1, w1, u1) = x_0, x_1
    w, u = quaternion.multiply(w0, u0, w1, u1)
    return p0 + quaternion.rotate(w0, u0, p1), w, u


def _relative(x: Components, y: Components) -> Components:
    """x^-1 y."""
    (p0, w0, u0), (p1, w1, u1) = x, y
    w, u = quaternion.multiply(w0, -u0, w1, u1)
    return quaternion.rotate(-w0, u0, p1 - p0), w, u


def _along(x: Tensor, y: Components, t: float) -> tuple[Tensor, Tensor]:
    """Position and quaternion of the screw from x (7, ...) to y at t, 0 to 1: `geodesic` with weights for this t."""
    (p0, w0, u0), (p1, w1, u1) = _parts(x), y
    d = p1 - p0
    w, u = quaternion.multiply(w1, u1, w0, -u0)  # the relative rotation, in world axes
    sign = quaternion.short_way(w, u)
    u = sign * u
    a, b, ahead, bend, aside = share_weights(sign * w, t)
    p_t = torch.addcmul(torch.addcmul(p0, ahead, d), bend * quaternion.dot(u, d), u)
    p_t = torch.addcmul(p_t, aside, quaternion.cross(u, d), value=-1)
    return p_t, torch.addcmul(a * x[3:], sign * b, torch.cat((w1, u1)))


def _log(x: Components) -> tuple[Tensor, Tensor]:
    p, w, u = x
    sign = quaternion.short_way(w, u)
    w, u = sign * w, sign * u
    g, k = quaternion.log_weights(w, quaternion.dot(u, u))
    v = (g * w) * p + (k * quaternion.dot(u, p)) * u - g * quaternion.cross(u, p)
    return v, 2 * g * u
