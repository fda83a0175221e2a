"""SO(3) as unit quaternions (qw, qx, qy, qz): exp, log, geodesics, Jacobians and converters, on plain tensors.

The last axis is the group element (4) or the rotation vector omega in radians (3), body frame, perturbed from
the right: q Exp(omega). q and -q are the same rotation and give the same answers. Leading axes are free and
broadcast. Quaternions must be of unit norm (``normalise`` mends them); all functions are differentiable by plain
autograd, also at the identity and at half turns. Half precision is computed in float32.

Formulas: Sola, Deray and Atchuthan, "A micro Lie theory for state estimation in robotics", arXiv:1812.01537,
in half-angle form.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from geoflow.lie import _matrices as matrices
from geoflow.lie import _quaternion as quaternion
from geoflow.lie import series
from geoflow.lie._components import check_rows, enter, enter_time, leave

By = Literal["columns", "rows"]


def exp(omega: Tensor) -> Tensor:
    """Exp(omega) = (cos(theta/2), sin(theta/2) omega/theta), of any angle.

    Args:
        omega: Rotation vectors (..., 3) [rad].

    Returns:
        Unit quaternions (..., 4), wxyz.
    """
    (o,), dtype = enter((omega, "rotation vectors"))
    return leave(dtype, *_exp(o))


def log(q: Tensor) -> Tensor:
    """The rotation vector (..., 3) [rad] of q (..., 4), the short way round: |Log(q)| <= pi."""
    (x,), dtype = enter((q, "rotations"))
    return leave(dtype, _log(*_parts(x)))


def compose(q_0: Tensor, q_1: Tensor) -> Tensor:
    """The product q_0 q_1 (..., 4): first q_1, then q_0."""
    (x, y), dtype = enter((q_0, "rotations"), (q_1, "rotations"))
    return leave(dtype, *quaternion.multiply(*_parts(x), *_parts(y)))


def plus(q: Tensor, omega: Tensor) -> Tensor:
    """q Exp(omega) (..., 4) in one pass."""
    (x, o), dtype = enter((q, "rotations"), (omega, "rotation vectors"))
    return leave(dtype, *quaternion.multiply(*_parts(x), *_exp(o)))


def minus(r: Tensor, q: Tensor) -> Tensor:
    """Log(q^-1 r) (..., 3) in one pass: plus(q, minus(r, q)) = r."""
    (y, x), dtype = enter((r, "rotations"), (q, "rotations"))
    w0, u0 = _parts(x)
    return leave(dtype, _log(*quaternion.multiply(w0, -u0, *_parts(y))))


def inverse(q: Tensor) -> Tensor:
    """The inverse (w, -u) of q (..., 4)."""
    check_rows(q, "rotations", 4, "unit quaternion qw qx qy qz")
    return torch.cat([q[..., :1], -q[..., 1:]], dim=-1)


def between(q_0: Tensor, q_1: Tensor) -> Tensor:
    """q_0^-1 q_1 (..., 4) in one pass, q_1 as seen from q_0."""
    (x, y), dtype = enter((q_0, "rotations"), (q_1, "rotations"))
    w0, u0 = _parts(x)
    return leave(dtype, *quaternion.multiply(w0, -u0, *_parts(y)))


def act(q: Tensor, points: Tensor) -> Tensor:
    """R(q) a for points a (..., 3)."""
    (x, a), dtype = enter((q, "rotations"), (points, "points"))
    return leave(dtype, quaternion.rotate(*_parts(x), a))


def adjoint(q: Tensor) -> Tensor:
    """Ad_q = R(q) (..., 3, 3): q Exp(omega) q^-1 = Exp(Ad_q omega)."""
    return to_matrix(q)


def geodesic(q_0: Tensor, q_1: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
    """Point and body velocity of the shortest path q_0 Exp(t omega), omega = Log(q_0^-1 q_1), in one pass.

    Args:
        q_0: Where the path is at t = 0, (..., 4).
        q_1: Where it is at t = 1, (..., 4).
        t: Times that broadcast against the leading axes (no trailing 1), any real number.

    Returns:
        Points (..., 4) and angular velocities omega (..., 3) [rad per unit time], constant along the path.
    """
    (x, y), dtype = enter((q_0, "rotations"), (q_1, "rotations"), t=t)
    t = enter_time(t, x, x.dtype)
    w0, u0 = _parts(x)
    w1, u1 = _parts(y)
    u = w0 * u1 - w1 * u0 - quaternion.cross(u0, u1)
    w = w0 * w1 + quaternion.dot(u0, u1)
    sign = quaternion.short_way(w, u)
    g, _ = quaternion.log_weights(sign * w, quaternion.dot(u, u))
    s = g * g * quaternion.dot(u, u)
    a, b = slerp_weights(g, s, t)
    omega = 2 * sign * g * u
    return leave(dtype, a * x + sign * b * y), leave(dtype, omega.expand(3, *a.shape[1:]))


def slerp_weights(g: Tensor, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """sin((1-t) phi)/sin(phi) and sin(t phi)/sin(phi), from g = phi/sin(phi) and s = phi^2."""
    r = 1 - t
    a, b = series.evaluate(("sinc", "sinc"), torch.broadcast_tensors(r * r * s, t * t * s))
    return r * g * a, t * g * b


def hat(omega: Tensor) -> Tensor:
    """The skew-symmetric matrix (..., 3, 3) with hat(omega) a = omega x a."""
    check_rows(omega, "rotation vectors", 3, "rx ry rz")
    return matrices.skew(omega)


def vee(matrix: Tensor) -> Tensor:
    """The vector (..., 3) of a skew-symmetric matrix (..., 3, 3); the inverse of ``hat``."""
    matrices.check_square(matrix, 3)
    return matrices.unskew(matrix)


def jacobian_left(omega: Tensor) -> Tensor:
    """J_l (..., 3, 3) with Exp(omega + d) = Exp(J_l d) Exp(omega) to first order.

    J_l = I + (1 - cos theta)/theta^2 W + e(theta^2) W^2, W = hat(omega); arXiv:1812.01537, eq. (145).
    """
    check_rows(omega, "rotation vectors", 3, "rx ry rz")
    return matrices.rotation_jacobian(omega)


def jacobian_right(omega: Tensor) -> Tensor:
    """J_r (..., 3, 3) with Exp(omega + d) = Exp(omega) Exp(J_r d) to first order; J_r(omega) = J_l(-omega)."""
    check_rows(omega, "rotation vectors", 3, "rx ry rz")
    return matrices.rotation_jacobian(-omega)


def jacobian_left_inverse(omega: Tensor) -> Tensor:
    """J_l^-1 (..., 3, 3), finite for angles below 2 pi; arXiv:1812.01537, eq. (146)."""
    check_rows(omega, "rotation vectors", 3, "rx ry rz")
    return matrices.rotation_jacobian_inverse(omega)


def jacobian_right_inverse(omega: Tensor) -> Tensor:
    """J_r^-1 (..., 3, 3) with Log(Exp(omega) Exp(d)) = omega + J_r^-1 d to first order."""
    check_rows(omega, "rotation vectors", 3, "rx ry rz")
    return matrices.rotation_jacobian_inverse(-omega)


def identity(
    *shape: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Tensor:
    """Identity rotations (*shape, 4)."""
    q = torch.zeros(*shape, 4, dtype=dtype, device=device)
    q[..., 0] = 1
    return q


def random_uniform(
    *shape: int,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Haar-uniform rotations (*shape, 4): normalised Gaussian quaternions (Shoemake 1992)."""
    return normalise(torch.randn(*shape, 4, generator=generator, dtype=dtype, device=device))


def normalise(q: Tensor) -> Tensor:
    """The nearest unit quaternion (..., 4), q / |q|."""
    check_rows(q, "rotations", 4, "quaternion qw qx qy qz")
    return q / (q * q).sum(-1, keepdim=True).sqrt()


def to_matrix(q: Tensor) -> Tensor:
    """Rotation matrices R(q) (..., 3, 3); they multiply column vectors from the left."""
    check_rows(q, "rotations", 4, "unit quaternion qw qx qy qz")
    return matrices.from_quaternion(q)


def from_matrix(R: Tensor) -> Tensor:
    """Unit quaternions (..., 4) of rotation matrices (..., 3, 3), with qw >= 0 up to rounding."""
    matrices.check_square(R, 3)
    return matrices.to_quaternion(R)


def to_xyzw(q: Tensor) -> Tensor:
    """Scalar-last quaternions (qx, qy, qz, qw), as scipy, ROS, pypose and roma store them."""
    check_rows(q, "rotations", 4, "unit quaternion qw qx qy qz")
    return q.roll(-1, dims=-1)


def from_xyzw(q: Tensor) -> Tensor:
    """Our wxyz quaternions from scalar-last ones (..., 4)."""
    check_rows(q, "rotations", 4, "unit quaternion qx qy qz qw")
    return q.roll(1, dims=-1)


def to_rotvec(q: Tensor) -> Tensor:
    """Rotation vectors (..., 3) [rad], angle at most pi; another name of ``log``."""
    return log(q)


def from_rotvec(omega: Tensor) -> Tensor:
    """Unit quaternions of rotation vectors (..., 3) [rad]; another name of ``exp``."""
    return exp(omega)


def to_6d(q: Tensor, *, by: By) -> Tensor:
    """The first two columns, or the first two rows, of R(q), one after the other (..., 6).

    Zhou et al. 2019, "On the continuity of rotation representations", stack columns; PyTorch3D and Diffusion
    Policy store rows. The two differ by a transposition, so the call has to say which.
    """
    (x,), dtype = enter((q, "rotations"))
    return leave(
        dtype, *quaternion.two_columns(x if matrices.check_by(by) == "columns" else quaternion.conjugate(x))
    )


def from_6d(features: Tensor, *, by: By) -> Tensor:
    """Unit quaternions (..., 4) from two columns or two rows (..., 6), orthonormalised by Gram-Schmidt."""
    check_rows(features, "6D rotations", 6, f"two {by} of a rotation matrix")
    R = matrices.gram_schmidt(features)
    return matrices.to_quaternion(R if matrices.check_by(by) == "columns" else R.mT)


def to_euler(q: Tensor, order: str = "xyz") -> Tensor:
    """Tait-Bryan angles (..., 3) [rad] about the body axes named in turn: R = R_a(t_0) R_b(t_1) R_c(t_2).

    ``order`` names three different axes in lower case ("xyz", "zyx", ...), intrinsic rotations (scipy writes
    them in capitals). For reading only: the middle angle is in [-pi/2, pi/2] and at its ends the outer two are
    not unique, which is why there is no way back in.
    """
    if sorted(order) != ["x", "y", "z"]:
        raise ValueError(f'expected order to name the axes x, y, z once each, such as "zyx"; got {order!r}.')
    return matrices.euler_angles(to_matrix(q), order)


def _parts(x: Tensor) -> tuple[Tensor, Tensor]:
    """(w, u) of component-first quaternions (4, ...)."""
    w, u = x.split_with_sizes((1, 3))
    return w, u


def _exp(omega: Tensor) -> tuple[Tensor, Tensor]:
    quarter = 0.25 * quaternion.dot(omega, omega)
    cos, sinc = series.evaluate(("cos", "sinc"), (quarter, quarter))
    return cos, 0.5 * sinc * omega


def _log(w: Tensor, u: Tensor) -> Tensor:
    sign = quaternion.short_way(w, u)
    g, _ = quaternion.log_weights(sign * w, quaternion.dot(u, u))
    return 2 * sign * g * u
