"""Rotations as numbers, as other environments write them: encode(q) -> entries, decode(entries) -> q (wxyz)."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import product
from math import atan2, cos, hypot, pi, sin

import mujoco
import numpy as np

from ..poses import Array


@dataclass(frozen=True)
class RotationCode:
    """One way to write a rotation.

    `encode` takes a unit quaternion wxyz (4,) to `size` numbers, `decode` brings them back to a unit quaternion
    (up to its sign); `bound` is the largest entry. Only entries that are `angles` [rad] may be scaled.
    """

    name: str
    size: int
    encode: Callable[[Array], Array]
    decode: Callable[[Array], Array]
    bound: float = 1.0
    angles: bool = False


def euler(order: str) -> RotationCode:
    """Euler angles by the axes of their turns: "xyz" about fixed axes (extrinsic), "XYZ" about moving ones.

    R = R_z(c) R_y(b) R_x(a) for the angles (a, b, c) of "xyz", R = R_x(a) R_y(b) R_z(c) of "XYZ" (scipy's
    convention). Raises ValueError for an order that does not reach every rotation.
    """
    axes = order.lower()
    if (
        len(order) != 3
        or order not in (axes, order.upper())
        or set(axes) - set("xyz")
        or axes[0] == axes[1]
        or axes[1] == axes[2]
    ):
        raise ValueError(
            f"an Euler order is three of the letters x, y, z, no two neighbours alike, all lower case (about fixed "
            f"axes) or all upper case (about moving axes); got {order!r}."
        )
    fixed = order == axes
    first, middle, last = ("xyz".index(axis) for axis in (reversed(axes) if fixed else axes))
    intrinsic = (first, middle, last)

    def encode(q: Array) -> Array:
        angles = _intrinsic_angles(_matrix(q), intrinsic)
        return angles[::-1].copy() if fixed else angles

    def decode(angles: Array) -> Array:
        turns = angles[::-1] if fixed else angles
        q = _axis_turn(intrinsic[0], float(turns[0]))
        for axis, angle in zip(intrinsic[1:], turns[1:], strict=True):
            q = _product(q, _axis_turn(axis, float(angle)))
        return q

    return RotationCode(f"euler_{order}", 3, encode, decode, bound=pi, angles=True)


def _intrinsic_angles(R: Array, axes: tuple[int, int, int]) -> Array:
    """Angles (a, b, c) with R = R_1(a) R_2(b) R_3(c).

    a and b from where R takes the third axis, c from what remains: exact in the gimbal lock as well, where
    a is arbitrary. With s = +-1 the sign of (1, 2, third direction): e_1 x e_2 = s e_other.
    """
    first, middle, last = axes
    other = 3 - first - middle
    s = 1.0 if (middle - first) % 3 == 1 else -1.0
    x, y, z = (float(R[axis, last]) for axis in (first, middle, other))
    if last == first:  # R e_1 = (cos b, sin a sin b, -s cos a sin b)
        a, b = atan2(y, -s * z), atan2(hypot(y, z), x)
    else:  # R e_3 = (s sin b, -s sin a cos b, cos a cos b)
        a, b = atan2(-s * y, z), atan2(s * x, hypot(y, z))
    rest = _matrix(_product(_axis_turn(first, a), _axis_turn(middle, b))).T @ R
    i, j = (last + 1) % 3, (last + 2) % 3
    return np.array([a, b, atan2(rest[j, i], rest[i, i])])


def _axis_turn(axis: int, angle: float) -> Array:
    q = np.zeros(4)
    q[0], q[1 + axis] = cos(angle / 2), sin(angle / 2)
    return q


def _product(p: Array, q: Array) -> Array:
    pq = np.empty(4)
    mujoco.mju_mulQuat(pq, p, q)
    return pq


def _matrix(q: Array) -> Array:
    R = np.empty(9)
    mujoco.mju_quat2Mat(R, q)
    return R.reshape(3, 3)


def _quaternion(R: Array) -> Array:
    q = np.empty(4)
    mujoco.mju_mat2Quat(q, np.ascontiguousarray(R).ravel())
    return q


def _unit(q: Array) -> Array:
    """The quaternion normalised; one that is no rotation stays, for the env that gets it to refuse."""
    length = float(np.linalg.norm(q))
    return q / length if length > 0 else q.copy()


def _rotvec(q: Array) -> Array:
    omega = np.empty(3)
    mujoco.mju_quat2Vel(omega, q, 1.0)
    return omega


def _from_rotvec(omega: Array) -> Array:
    q = np.array([1.0, 0.0, 0.0, 0.0])
    mujoco.mju_quatIntegrate(q, omega, 1.0)
    return q


def _from_six(first: Array, second: Array) -> Array:
    """Gram-Schmidt on the first two columns (Zhou et al. 2019, arXiv:1812.07035, eq. 15)."""
    x = first / np.linalg.norm(first)
    y = second - (x @ second) * x
    y /= np.linalg.norm(y)
    return _quaternion(np.stack([x, y, np.cross(x, y)], axis=1))


ROTATIONS: dict[str, RotationCode] = {
    code.name: code
    for code in (
        RotationCode("rotvec", 3, _rotvec, _from_rotvec, bound=pi, angles=True),
        RotationCode("quat_wxyz", 4, np.copy, _unit),
        RotationCode("quat_xyzw", 4, lambda q: np.roll(q, -1), lambda q: _unit(np.roll(q, 1))),
        RotationCode(
            "6d_columns",
            6,
            lambda q: _matrix(q)[:, :2].T.ravel(),
            lambda d: _from_six(d[:3], d[3:]),
        ),
        RotationCode(
            "6d_rows",  # the rows of R are the columns of its inverse
            6,
            lambda q: _matrix(q)[:2].ravel(),
            lambda d: _from_six(d[:3], d[3:]) * np.array([1.0, -1.0, -1.0, -1.0]),
        ),
        RotationCode("matrix", 9, lambda q: _matrix(q).ravel(), lambda m: _quaternion(m.reshape(3, 3))),
        *(
            euler("".join(axes))
            for letters in ("xyz", "XYZ")
            for axes in product(letters, repeat=3)
            if axes[0] != axes[1] != axes[2]
        ),
    )
}
"""The rotation codes by name. "6d_columns" stacks the first two columns of R (Zhou et al.), "6d_rows" its first two
rows (pytorch3d, Diffusion Policy); "matrix" is R row by row; "euler_xyz" is extrinsic, "euler_XYZ" intrinsic."""


def rotation_code(name: str | RotationCode) -> RotationCode:
    """The code of a name; a code of one's own passes. Raises ValueError for an unknown name."""
    if isinstance(name, RotationCode):
        return name
    if name in ROTATIONS:
        return ROTATIONS[name]
    close = get_close_matches(name, ROTATIONS, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    plain = [code for code in ROTATIONS if not code.startswith("euler")]
    raise ValueError(
        f"no rotation code {name!r}.{hint} Valid: {', '.join(plain)}, and euler_ with an order such as euler_xyz "
        "(about fixed axes) or euler_XYZ (about moving axes)."
    )
