"""Poses as flat arrays (x y z qw qx qy qz): compose, inverse, rotation vectors, on MuJoCo's C functions."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

from math import acos, sqrt

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

IDENTITY: Array = np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
_CONJUGATE: Array = np.array([1.0, -1.0, -1.0, -1.0])
_Z: Array = np.array([0.0, 0.0, 1.0])


def pose(position: ArrayLike = (0.0, 0.0, 0.0), rotvec: ArrayLike | None = None) -> Array:
    """Pose from a position [m] and a rotation vector [rad]; none is no rotation."""
    T = IDENTITY.copy()
    T[:3] = position
    return T if rotvec is None else integrate(T, rotvec)


def compose(T_ab: Array, T_bc: Array) -> Array:
    """T_ac = T_ab T_bc."""
    T_ac = np.empty(7)
    mujoco.mju_mulPose(T_ac[:3], T_ac[3:], T_ab[:3], T_ab[3:], T_bc[:3], T_bc[3:])
    return T_ac


def inverse(T_ab: Array) -> Array:
    """T_ba = T_ab^-1."""
    T_ba = np.empty(7)
    mujoco.mju_negPose(T_ba[:3], T_ba[3:], T_ab[:3], T_ab[3:])
    return T_ba


def between(T_wa: Array, T_wb: Array) -> Array:
    """T_ab = T_wa^-1 T_wb."""
    return compose(inverse(T_wa), T_wb)


def rotate(T: Array, vector: ArrayLike) -> Array:
    """The vector turned by the pose's rotation, R v."""
    turned = np.empty(3)
    mujoco.mju_rotVecQuat(turned, np.asarray(vector, float), T[3:])
    return turned


def transform(T_ab: Array, point: ArrayLike) -> Array:
    """A point of b in the coordinates of a, R p + t."""
    return rotate(T_ab, point) + T_ab[:3]


def matrix(T: Array) -> Array:
    """Rotation matrix (3, 3) of the pose."""
    R = np.empty(9)
    mujoco.mju_quat2Mat(R, T[3:])
    return R.reshape(3, 3)


def rotvec(T_a: Array, T_b: Array) -> Array:
    """Rotation vector log(R_a^T R_b) in the frame of a [rad], at most pi long."""
    omega = np.empty(3)
    mujoco.mju_subQuat(omega, T_b[3:], T_a[3:])
    return omega


def angles_after(T: Array, turns: Array) -> list[float]:
    """Angles of the rotations R R_i, for quaternions (n, 4) of R_i: 2 arccos |<conj(q), q_i>| [rad]."""
    return [2.0 * acos(min(1.0, cosine)) for cosine in np.abs(turns @ (_CONJUGATE * T[3:])).tolist()]


def integrate(T: Array, omega: ArrayLike) -> Array:
    """The pose turned in place by a body-frame rotation vector: R exp(omega)."""
    turned = T.copy()
    mujoco.mju_quatIntegrate(turned[3:], np.asarray(omega, float), 1.0)
    return turned


def norm(vector: Array) -> float:
    """Euclidean length of a 3-vector; several times faster than np.linalg.norm."""
    x, y, z = vector.tolist()
    return sqrt(x * x + y * y + z * z)


def advance(T_from: Array, T_to: Array, distance: float, angle: float) -> Array:
    """From one pose toward another by at most `distance` [m] and `angle` [rad], each on its own geodesic."""
    step, omega = T_to[:3] - T_from[:3], rotvec(T_from, T_to)
    length, turn = norm(step), norm(omega)
    if length > distance:
        step *= distance / length
    if turn > angle:
        omega *= angle / turn
    moved = integrate(T_from, omega)
    moved[:3] += step
    return moved


def axis_angle(T_a: Array, T_b: Array) -> float:
    """Angle between the z axes of two poses [rad]."""
    cosine = float(rotate(T_a, _Z) @ rotate(T_b, _Z))
    return acos(min(1.0, max(-1.0, cosine)))


def lowest_point(T: Array, half: Array) -> float:
    """Height in the world of the lowest corner of a box with these half lengths [m]."""
    return float(T[2] - np.abs(matrix(T)[2]) @ half)
