"""A 7-DoF arm as a bare chain of joints: T_w_tcp(q), its Jacobian, and q(T_w_tcp) by damped least squares."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from math import cos, pi, sin, sqrt

import mujoco
import numpy as np

from .poses import Array

# Modified Denavit-Hartenberg table of the Franka Emika Panda (manufacturer's public documentation):
# a [m], d [m], alpha [rad], lower and upper joint limit [rad], home [rad].
DH = (
    (0.0, 0.333, 0.0, -2.8973, 2.8973, 0.0),
    (0.0, 0.0, -pi / 2, -1.7628, 1.7628, -pi / 4),
    (0.0, 0.316, pi / 2, -2.8973, 2.8973, 0.0),
    (0.0825, 0.0, pi / 2, -3.0718, -0.0698, -3 * pi / 4),
    (-0.0825, 0.384, -pi / 2, -2.8973, 2.8973, 0.0),
    (0.0, 0.0, pi / 2, -0.0175, 3.7525, pi / 2),
    (0.088, 0.0, pi / 2, -2.8973, 2.8973, pi / 4),
)
_FLANGE, _TCP = 0.107, 0.1034  # flange from the last joint, TCP from the flange [m]
# The hand's closing direction stands at -45 degrees about the flange.
HAND_FRAME = f'pos="0 0 {_FLANGE + _TCP}" quat="{cos(pi / 8):.9g} 0 0 {-sin(pi / 8):.9g}"'
"""MJCF attributes of the hand's body in the last link's frame."""
OUTER_LINKS = slice(4, 8)  # from the elbow on, where the arm may meet what stands on the table

LEAN = 0.2  # part of the way home that the null space goes in one solution
MAX_STEP = 0.4  # of a joint in one iteration [rad]
RADIAN = 0.2  # metres that a radian of a wrong rotation counts
_DAMPING = 1e-4 * np.eye(6)
_STAY = np.zeros(len(DH))


def link_frame(a: float, d: float, alpha: float) -> str:
    """MJCF attributes of a link's body in its parent's frame."""
    position = f"{a:.6g} {-d * sin(alpha):.6g} {d * cos(alpha):.6g}"
    return f'pos="{position}" quat="{cos(alpha / 2):.9g} {sin(alpha / 2):.9g} 0 0"'


def inside(margin: float) -> Array:
    """The joint limits with a margin [rad] on both sides (2, 7)."""
    return np.array([[low + margin, high - margin] for *_, low, high, _ in DH]).T


class Arm:
    """The chain alone: no shapes, no fingers, no other bodies, so that a question costs microseconds."""

    home: Array = np.array([row[5] for row in DH])

    def __init__(self) -> None:
        self._model = mujoco.MjModel.from_xml_string(_chain())
        self._data = mujoco.MjData(self._model)
        # Views of what MuJoCo reads and writes: fetching them anew costs as much as the kinematics.
        self._q = self._data.qpos
        self._hand = len(DH) + 1
        self._position, self._quaternion = self._data.xpos[self._hand], self._data.xquat[self._hand]
        self._links = self._data.xpos[OUTER_LINKS]
        self._jacobian = np.zeros((6, len(DH)))
        self._linear, self._angular = self._jacobian[:3], self._jacobian[3:]
        self._missing, self._turn = np.zeros(6), np.zeros(3)
        self._off, self._turned = self._missing[:3], self._missing[3:]

    def forward(self, q: Array) -> Array:
        """TCP pose in the world at joint angles (7,) [rad]."""
        self._move(q)
        return np.concatenate([self._position, self._quaternion])

    def jacobian(self, q: Array) -> Array:
        """Velocity of the TCP [m/s] and its angular velocity [rad/s], in the world, per joint speed (6, 7)."""
        self._move(q)
        return self._differentiate().copy()

    def links(self) -> Array:
        """Origins of the links from the elbow to the wrist where the chain is now (4, 3) [m]."""
        return self._links.copy()

    def inverse(
        self, T_w_tcp: Array, start: Array, limits: Array, accuracy: float = 1e-4, iterations: int = 12
    ) -> tuple[Array, bool]:
        """Joint angles that put the TCP at a pose, and whether they do to `accuracy` [m]; see `approach`."""
        q = start
        for moved, missing in islice(self.approach(T_w_tcp, start, limits), 1 + iterations):
            q = moved
            if missing < accuracy:
                return q, True
        return q, False

    def approach(self, T_w_tcp: Array, start: Array, limits: Array) -> Iterator[tuple[Array, float]]:
        """Joint angles on the way to a pose, `start` the first, and how far the TCP is from it [m], without end.

        dq = J^T (J J^T + lambda I)^-1 (e - J l) + l, scaled down to `MAX_STEP`: to first order the TCP goes straight.
        The null space leans to `home`, l = LEAN (home - q), in the first step alone: leaning moves the TCP, in second
        order. A joint at its limit is taken out, and the others do its part. A radian counts as `RADIAN` metres.

        Args:
            T_w_tcp: The pose, (7,).
            start: Angles to begin from, (7,) [rad].
            limits: Lower and upper ones that hold after `start`, (2, 7) [rad]; see `inside`.
        """
        low, high = limits
        position, quaternion = T_w_tcp[:3], T_w_tcp[3:]
        q, lean = start, LEAN * (self.home - start)
        while True:
            self._move(q)
            error = self._error(position, quaternion)
            yield q, _length(error)
            J = self._differentiate()
            free = q + _bounded(_damped_step(J, error, lean))
            moved = _clipped(free, low, high)
            if moved.tolist() != free.tolist():
                blocked = ((q <= low) & (free < q)) | ((q >= high) & (free > q))
                J[:, blocked], lean[blocked] = 0.0, 0.0
                moved = _clipped(q + _bounded(_damped_step(J, error, lean)), low, high)
            q, lean = moved, _STAY

    def _move(self, q: Array) -> None:
        self._q[:] = q
        mujoco.mj_kinematics(self._model, self._data)

    def _error(self, position: Array, quaternion: Array) -> Array:
        """Position and rotation that are missing to a pose where the chain is, in the world (6,), the same array."""
        np.subtract(position, self._position, out=self._off)
        mujoco.mju_subQuat(self._turn, quaternion, self._quaternion)
        mujoco.mju_rotVecQuat(self._turned, self._turn, self._quaternion)
        return self._missing

    def _differentiate(self) -> Array:
        """The Jacobian where the chain is (6, 7), the same array each time."""
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_jacBody(self._model, self._data, self._linear, self._angular, self._hand)
        return self._jacobian


def _damped_step(J: Array, error: Array, lean: Array) -> Array:
    """J^T (J J^T + lambda I)^-1 (e - J l) + l, by Cholesky's factors."""
    A, y = J @ J.T, np.empty(6)
    A += _DAMPING
    mujoco.mju_cholFactor(A, 1e-12)
    if lean is _STAY:
        mujoco.mju_cholSolve(y, A, error)
        return y @ J
    mujoco.mju_cholSolve(y, A, error - J @ lean)
    return y @ J + lean


def _bounded(dq: Array) -> Array:
    """A step scaled down so that no joint makes more than `MAX_STEP`."""
    largest = max(map(abs, dq.tolist()))
    return dq if largest <= MAX_STEP else dq * (MAX_STEP / largest)


def _clipped(q: Array, low: Array, high: Array) -> Array:
    """What np.clip does, which takes several times as long for seven numbers."""
    return np.minimum(np.maximum(q, low), high)


def _length(error: Array) -> float:
    x, y, z, a, b, c = error.tolist()
    return sqrt(x * x + y * y + z * z + RADIAN * RADIAN * (a * a + b * b + c * c))


def _chain() -> str:
    """MJCF of the arm's links without shapes; MuJoCo asks moving bodies for some inertia."""
    chain = f"<body {HAND_FRAME}/>"
    for a, d, alpha, *_ in reversed(DH):
        inertia = '<inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>'
        chain = f'<body {link_frame(a, d, alpha)}>{inertia}<joint axis="0 0 1"/>{chain}</body>'
    return f'<mujoco><compiler angle="radian"/><worldbody>{chain}</worldbody></mujoco>'
