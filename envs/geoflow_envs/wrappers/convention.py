"""What the numbers of a pose action mean: a convention as a value, and the pure maps to and from ours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .. import poses
from ..poses import Array
from .rotations import RotationCode, rotation_code

GRIPPERS: dict[str, tuple[float, float]] = {
    "closed_positive": (1.0, 0.0),
    "open_positive": (-1.0, 0.0),
    "closed_one": (0.5, 0.5),
    "open_one": (-0.5, 0.5),
}
"""Name -> (a, b) of foreign = a ours + b: -1 open and +1 closed (ours, robosuite), +1 open and -1 closed, 0 open and
1 closed, 0 closed and 1 open."""
FRAMES = ("world", "body")
_IDENTITY = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class ActionConvention:
    """The layout (position 3, rotation, extras) of a foreign action, and what its numbers mean.

    `rotation` names a code of `ROTATIONS` ("rotvec", "quat_xyzw", "euler_xyz", "6d_columns", ...) or is a
    `RotationCode` of one's own. With `delta` the action is a step from a reference pose, usually the present TCP;
    `position_frame` and `rotation_frame` say along which axes:

        world: p_goal = p + dp, R_goal = dR R;        body: p_goal = p + R dp, R_goal = R dR.

    One unit of the action is `position_scale` metres and `rotation_scale` radians (angles only). `limit`, of
    deltas, is the largest entry the env accepts: a longer step is shortened, its direction kept (position and
    rotation each for itself; Euler angles along the geodesic). `gripper` names the sign of the `extras` entries.

    `T_world_base` is the foreign reference frame in our world, `T_tcp_ee` the foreign end effector in our TCP
    frame (robosuite's `eef_quat` and `eef_quat_site` differ by such a turn); both poses x y z qw qx qy qz.

    Raises ValueError for what names no convention, or for one that does not bring poses back.
    """

    rotation: str | RotationCode = "rotvec"
    delta: bool = False
    position_frame: str = "world"
    rotation_frame: str = "world"
    position_scale: float = 1.0
    rotation_scale: float = 1.0
    limit: float | None = None
    gripper: str = "closed_positive"
    extras: int = 1
    T_world_base: tuple[float, ...] = _IDENTITY
    T_tcp_ee: tuple[float, ...] = _IDENTITY

    def __post_init__(self) -> None:
        code = rotation_code(self.rotation)
        for field in ("position_frame", "rotation_frame"):
            if getattr(self, field) not in FRAMES:
                raise ValueError(f"{field} must be one of 'world', 'body'; got {getattr(self, field)!r}.")
            if not self.delta and getattr(self, field) != "world":
                raise ValueError(
                    f"{field}={getattr(self, field)!r} has a meaning for deltas only: pass delta=True, or give a "
                    "foreign base frame as T_world_base."
                )
        for field in ("position_scale", "rotation_scale"):
            if not 0 < getattr(self, field) < np.inf:
                raise ValueError(f"{field} must be positive and finite; got {getattr(self, field)!r}.")
        if self.rotation_scale != 1 and not code.angles:
            raise ValueError(
                f"rotation_scale scales angles, and {code.name!r} has none: leave it at 1, or use 'rotvec' or an "
                "Euler code."
            )
        if self.limit is not None and not (self.delta and code.angles and self.limit > 0):
            raise ValueError(
                "limit shortens deltas written as angles ('rotvec' or an Euler code with delta=True) and must be "
                f"positive; got limit={self.limit!r}, delta={self.delta}, rotation={code.name!r}."
            )
        if self.gripper not in GRIPPERS:
            raise ValueError(
                f"gripper must be one of {', '.join(map(repr, GRIPPERS))}; got {self.gripper!r}."
            )
        if isinstance(self.extras, bool) or not isinstance(self.extras, int) or self.extras < 0:
            raise ValueError(
                f"extras must be the number of entries after the pose, 0 or more; got {self.extras!r}."
            )
        for field in ("T_world_base", "T_tcp_ee"):
            T = np.asarray(getattr(self, field), float)
            if T.shape != (7,) or not abs(np.linalg.norm(T[3:]) - 1) < 1e-6:
                raise ValueError(
                    f"{field} must be a pose (x, y, z, qw, qx, qy, qz) with a unit quaternion; got {T.tolist()}."
                )
            object.__setattr__(self, field, tuple(T.tolist()))
        self._check_round_trip(code)

    @property
    def code(self) -> RotationCode:
        """The code of the rotation."""
        return rotation_code(self.rotation)

    @property
    def size(self) -> int:
        """Entries of a foreign action."""
        return 3 + self.code.size + self.extras

    def describe(self) -> str:
        """The layout in words."""
        kind = "delta of position" if self.delta else "position"
        return f"3 {kind} + {self.code.size} {self.code.name} + {self.extras} extra = {self.size} entries"

    def bounds(self) -> tuple[Array, Array]:
        """Lowest and highest foreign action; positions without a limit are unbounded."""
        reach = np.full(3, np.inf if self.limit is None else self.limit)
        turn = np.full(
            self.code.size, self.code.bound / self.rotation_scale if self.limit is None else self.limit
        )
        a, b = GRIPPERS[self.gripper]
        extra = np.full(self.extras, abs(a))
        return np.concatenate([-reach, -turn, b - extra]), np.concatenate([reach, turn, b + extra])

    def to_foreign(self, action: ArrayLike, tcp: ArrayLike | None = None) -> Array:
        """The foreign action (size,) of ours (7 + extras,): absolute TCP pose in the world and extras.

        `tcp` (7,) is the reference pose in our world, which deltas need.
        """
        ours = _vector(action, 7 + self.extras, "our action: x y z qw qx qy qz and extras")
        goal = self._foreign_pose(ours[:7])
        if self.delta:
            position, q = self._step(self._foreign_pose(self._reference(tcp)), goal)
        else:
            position, q = goal[:3], goal[3:]
        position = position / self.position_scale
        rotation = self.code.encode(q) / self.rotation_scale
        if self.limit is not None:
            position = position * min(1.0, self.limit / max(np.abs(position).max(), 1e-12))
            rotation = self._shortened(q, rotation, self.limit)
        a, b = GRIPPERS[self.gripper]
        return np.concatenate([position, rotation, a * ours[7:] + b])

    def from_foreign(self, action: ArrayLike, tcp: ArrayLike | None = None) -> Array:
        """Our action (7 + extras,) of a foreign one (size,); `tcp` (7,) is the reference that deltas need."""
        foreign = _vector(action, self.size, f"a foreign action: {self.describe()}")
        position = foreign[:3] * self.position_scale
        q = self.code.decode(foreign[3 : 3 + self.code.size] * self.rotation_scale)
        goal = np.concatenate([position, q])
        if self.delta:
            goal = self._stepped(self._foreign_pose(self._reference(tcp)), goal)
        a, b = GRIPPERS[self.gripper]
        return np.concatenate([self._our_pose(goal), (foreign[3 + self.code.size :] - b) / a])

    # --- inside ---

    def _reference(self, tcp: ArrayLike | None) -> Array:
        if tcp is None:
            raise ValueError("a delta is a step from a reference: pass tcp, the pose (7,) it starts from.")
        return _vector(tcp, 7, "the reference pose tcp: x y z qw qx qy qz")

    def _foreign_pose(self, T_world_tcp: Array) -> Array:
        """T_base_ee = T_world_base^-1 T_world_tcp T_tcp_ee."""
        return poses.compose(poses.between(np.array(self.T_world_base), T_world_tcp), np.array(self.T_tcp_ee))

    def _our_pose(self, T_base_ee: Array) -> Array:
        """T_world_tcp = T_world_base T_base_ee T_tcp_ee^-1."""
        return poses.compose(
            poses.compose(np.array(self.T_world_base), T_base_ee), poses.inverse(np.array(self.T_tcp_ee))
        )

    def _step(self, now: Array, goal: Array) -> tuple[Array, Array]:
        """Position and quaternion of the delta from `now` to `goal`."""
        dp = goal[:3] - now[:3]
        if self.position_frame == "body":
            dp = poses.rotate(poses.inverse(now), dp)
        turn = (
            poses.between(now, goal)
            if self.rotation_frame == "body"
            else poses.compose(goal, poses.inverse(now))
        )
        return dp, turn[3:]

    def _stepped(self, now: Array, step: Array) -> Array:
        """The pose that `step` (position and quaternion of a delta) leads to from `now`."""
        dp = poses.rotate(now, step[:3]) if self.position_frame == "body" else step[:3]
        turned = poses.compose(now, step) if self.rotation_frame == "body" else poses.compose(step, now)
        return np.concatenate([now[:3] + dp, turned[3:]])

    def _shortened(self, q: Array, rotation: Array, limit: float) -> Array:
        """The entries of the turn `q`, or of the largest part of it along its geodesic within the limit."""
        omega, part = poses.rotvec(poses.IDENTITY, np.concatenate([np.zeros(3), q])), 1.0
        for _ in range(50):  # one pass for rotation vectors, a few for Euler angles
            largest = float(np.abs(rotation).max())
            if largest <= limit * (1 + 1e-9):
                break
            part *= limit / largest
            rotation = self.code.encode(poses.pose(rotvec=part * omega)[3:]) / self.rotation_scale
        return np.clip(rotation, -limit, limit)

    def _check_round_trip(self, code: RotationCode) -> None:
        """Raise ValueError unless poses come back: 64 random ones, and half turns about the axes."""
        rng = np.random.default_rng(0)
        quaternions = [*np.eye(4), *rng.standard_normal((64, 4))]
        now = np.array([0.3, -0.2, 0.4, *(rng.standard_normal(4))])
        now[3:] /= np.linalg.norm(now[3:])
        reach = 1.0
        if self.limit is not None:  # of what one step can reach
            reach = 0.5 * self.limit * min(self.position_scale, self.rotation_scale, 1.0)
        for q in quaternions:
            sample = np.concatenate([rng.uniform(-0.5, 0.5, 3), q / np.linalg.norm(q)])
            goal = poses.advance(now, sample, 0.5 * reach, reach) if self.limit is not None else sample
            ours = np.concatenate([goal, rng.uniform(-1, 1, self.extras)])
            foreign = self.to_foreign(ours, now)
            if foreign.shape != (self.size,):
                raise ValueError(
                    f"rotation code {code.name!r} encodes a rotation as {len(foreign) - 3 - self.extras} numbers and "
                    f"says size={code.size}."
                )
            back = self.from_foreign(foreign, now)
            off = float(np.abs(back[:3] - ours[:3]).max())
            turn = poses.norm(poses.rotvec(goal, back[:7]))
            if not (off < 1e-6 and turn < 1e-5 and np.allclose(back[7:], ours[7:], atol=1e-9)):
                raise ValueError(
                    f"this convention does not bring poses back: {self.describe()}; the rotation (w x y z) "
                    f"{np.round(goal[3:], 4).tolist()} returned {np.degrees(turn):.3g} degrees off as "
                    f"{np.round(back[3:7], 4).tolist()}, the position {1000 * off:.3g} mm off. Do encode and decode "
                    f"of the rotation code {code.name!r} invert one another, with quaternions w x y z?"
                )


def _vector(values: ArrayLike, size: int, what: str) -> Array:
    vector = np.asarray(values, dtype=np.float64)
    if vector.shape != (size,):
        raise ValueError(f"expected {what}, shape ({size},); got {vector.shape}.")
    return vector
