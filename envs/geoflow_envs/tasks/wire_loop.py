"""WireLoop: carry a loop along a bent wire without touching it; the env, its wires, its modes."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import cos, degrees, pi, radians, sin
from typing import TYPE_CHECKING, Any, ClassVar

import mujoco
import numpy as np

from .. import poses, scene
from ..poses import Array
from .base import Level, PoseTask, State
from .datasheet import datasheet
from .hook_hang import HANDLE, handle_middle, handled_ring

if TYPE_CHECKING:
    from .wire_loop_expert import WireExpert

WIRE = 0.003  # radius of the wire [m]
SEGMENTS, SEGMENT = 16, 0.020  # number and length of its straight pieces [m]
LENGTH = SEGMENTS * SEGMENT
STEEPEST = radians(40)  # elevation that no piece exceeds
APART = 0.085  # between pieces of the wire that do not follow one another closely [m]
GRASP_OUT = 0.012  # of the TCP beyond the handle's middle, away from the loop [m]
_LEAN = radians(25)  # of the handle from the vertical, in some modes
_POST = 0.010  # radius of the post that the wire ends in [m]
_PALM = np.array([0.022, 0.055]) + 0.015  # half widths of the hand with some room [m]
_FINGERS = np.array([0.009, 0.020]) + 0.010  # half widths of the closed fingers with some room [m]

_HANDLE_UP = poses.pose(rotvec=(0, -pi / 2, 0))  # of a loop

# Directions that the handle leans to, as far as the wire lets it: up, and three ways aside.
LEANS: tuple[Array, ...] = (
    np.array([0.0, 0.0, 1.0]),
    *(
        np.array([sin(_LEAN) * cos(azimuth), sin(_LEAN) * sin(azimuth), cos(_LEAN)])
        for azimuth in (0.0, 2 * pi / 3, -2 * pi / 3)
    ),
)


@dataclass(frozen=True)
class WireLevel(Level):
    """One rung: range of the wire's whole bend [rad], inner radius of the loop [m]."""

    radius: float


@dataclass(frozen=True)
class Mode:
    """One way to do the task: which face of the loop goes first (0: its z, 1: its -z), where the handle leans."""

    face: int
    lean: int


MODES: tuple[Mode, ...] = tuple(Mode(face, lean) for lean in range(len(LEANS)) for face in (0, 1))


@dataclass(frozen=True)
class WireState(State):
    """Poses in the world; the wire's points in its own frame, flat (3 (SEGMENTS + 1),); the part of it passed."""

    loop: Array
    wire: Array
    bends: Array
    progress: float

    @property
    def path(self) -> Wire:
        """The wire in the world."""
        return Wire.placed(self.wire, self.bends)


@dataclass(frozen=True)
class Wire:
    """A chain of straight pieces of equal length through `points` (SEGMENTS + 1, 3) [m, world]."""

    points: Array

    @classmethod
    def placed(cls, wire: Array, bends: Array) -> Wire:
        """The wire whose points in its own frame are `bends`, flat, and whose free end is at the pose `wire`."""
        return cls(bends.reshape(-1, 3) @ poses.matrix(wire).T + wire[:3])

    def tangent(self, index: int) -> Array:
        """Unit tangent at a point, half-way between those of the pieces that meet there."""
        along = self.points[min(index + 1, SEGMENTS)] - self.points[max(index - 1, 0)]
        return along / poses.norm(along)

    def at(self, s: float) -> tuple[Array, Array]:
        """Point and smooth unit tangent at an arc length; straight on beyond the ends."""
        index = min(max(int(s // SEGMENT), 0), SEGMENTS - 1)
        part = s / SEGMENT - index
        point = self.points[index] + part * (self.points[index + 1] - self.points[index])
        part = min(1.0, max(0.0, part))
        tangent = (1 - part) * self.tangent(index) + part * self.tangent(index + 1)
        return point, tangent / poses.norm(tangent)

    def frame(self, s: float, mode: Mode) -> Array:
        """Pose of a loop centred on the wire and square to it, its handle as the mode has it."""
        return frame(*self.at(s), mode)

    def crossing(self, loop: Array, radius: float) -> float | None:
        """Arc length at which the wire passes through a loop; None where it does not."""
        local = (self.points - loop[:3]) @ poses.matrix(loop)
        ends = np.flatnonzero((local[:-1, 2] > 0) != (local[1:, 2] > 0))
        best, nearest = None, radius
        for index in ends:
            part = local[index, 2] / (local[index, 2] - local[index + 1, 2])
            x, y = local[index, :2] + part * (local[index + 1, :2] - local[index, :2])
            if np.hypot(x, y) < nearest:
                best, nearest = (index + part) * SEGMENT, float(np.hypot(x, y))
        return None if best is None else float(best)


def frame(point: Array, tangent: Array, mode: Mode) -> Array:
    """Pose of a loop centred at a point, square to a tangent, its handle as the mode has it."""
    z = -tangent if mode.face else tangent
    x = LEANS[mode.lean] - (LEANS[mode.lean] @ tangent) * tangent
    x /= poses.norm(x)
    T, y = np.empty(7), np.empty(3)
    mujoco.mju_cross(y, z, x)
    mujoco.mju_mat2Quat(T[3:], np.array([x, y, z]).T.ravel())
    T[:3] = point
    return T


def grasp(radius: float, swap: bool, along: float = 0.0, tilt: float = 0.0, lean: float = 0.0) -> Array:
    """T_loop_tcp of a hand in line with the handle; `along` it and turned by `tilt` and `lean` if not held right."""
    middle = poses.pose((handle_middle(radius) + GRASP_OUT + along, 0, 0), (0, -pi / 2, 0))
    turned = poses.compose(middle, poses.pose(rotvec=(0, lean, tilt)))
    return poses.compose(turned, poses.pose(rotvec=(0, 0, pi))) if swap else turned


class WireLoop(PoseTask[WireState]):
    """Carry a loop along a bent wire without touching it, from its free end to the post.

    The loop is in the gripper, held a little differently each time, in front of the free end; the wire
    ({length:.0f} mm long, {thick:.0f} mm thick, {segments} pieces) bends in space, differently in each scene. The
    whole way counts: at any step the loop must stand across the wire. Roll about the wire is free and either face
    may go first.

    {action}

    Observation, Dict of float32:

    | key | shape | meaning | MJCF |
    |---|---|---|---|
    {hand}
    | loop | 7 | pose of the loop's centre in the world, z through the loop, x to the handle | body `loop` |
    | wire | 7 | pose of the wire's free end in the world, z along its first piece | body `wire` |
    | bends | {bends} | {points} ends of the wire's pieces, free end first, in the frame `wire` [m] | `wire_<i>` |
    | progress | 1 | part of the wire that the loop has passed, 0 where the wire is not in the loop | |

    Levels (whole bend of the wire, inner radius of the loop): {levels}.
    `rotation_range` [degrees, {limits}] overrides the bend (the sum of the angles between the pieces), `radius` [m]
    the inner radius. {knobs}

    Success ends the episode with the reward 1 (else 0): the wire is in the loop, untouched, and the loop is past
    {goal:.0%} of it. Contact of the loop or the hand with the wire or its post ends the episode as `touched` (seen at
    the end of each control step), as do a physics warning of MuJoCo and a loop on the table; {steps} steps truncate,
    `max_episode_steps` changes that. `info` holds `is_success`, `mode` (0 if the loop's z goes first, 1 if its -z)
    and `failure`, at an end without success one of {failures}. Reset rejects scenes the robot cannot do; its
    `info["mode_count"]` counts the ways that remain (face, {leans} directions of the handle).

    Version history: v0, first.
    """

    name = "wire_loop"
    levels = (
        WireLevel((0.0, radians(30)), 0.028),
        WireLevel((radians(30), radians(75)), 0.021),
        WireLevel((radians(60), radians(120)), 0.016),
        WireLevel((radians(90), radians(180)), 0.012),
    )
    state_type = WireState
    vectors: ClassVar[Mapping[str, int]] = {"bends": 3 * (SEGMENTS + 1), "progress": 1}
    held = "loop"
    steps = 240
    failures = ("touched", "dropped", "not_entered", "not_at_end", "physics")
    rotation_limits = (0, 200)
    goal = 0.85  # the loop keeps off the post, which stands upright
    sentences = ("carry the loop along the wire", "move the loop to the end of the wire")

    def __init__(
        self, level: int = 1, robot: str = "free", radius: float | None = None, **knobs: Any
    ) -> None:
        """Build the scene; raises ValueError for a knob out of its range."""
        if radius is not None and not 0.008 <= radius <= 0.03:
            raise ValueError(f"radius is the loop's inner one in metres, from 0.008 to 0.03; got {radius!r}.")
        self.radius: float = self.chosen(level).radius if radius is None else float(radius)
        super().__init__(_bodies(self.radius), level, robot, **knobs)
        self._bends = np.zeros(3 * (SEGMENTS + 1))
        wire = {self.model.body(name).id for name in ("wire", "post", *_PIECES)}
        self._wire_geoms = np.array([int(body) in wire for body in self.model.geom_bodyid])

    # --- the task ---

    def draw_scene(self) -> WireState | None:
        """A wire over the table and a loop in the hand in front of its free end."""
        rng = self.np_random
        bent = _draw_bends(rng, rng.uniform(*self.rotation))
        if bent is None:
            return None
        middle = self.draw((0.44, -0.08, 0.14), (0.54, 0.08, 0.20), (0.05, 0.06, 0.0))
        points = bent - 0.5 * (bent.min(axis=0) + bent.max(axis=0)) + middle
        if (
            points[:, 2].min() < 0.10
            or (points[:, :2] < (0.30, -0.30)).any()
            or (points[:, :2] > (0.70, 0.30)).any()
        ):
            return None
        wire = _frame_along(points[0], points[1])
        bends = (points - points[0]) @ poses.matrix(wire)

        ahead = poses.compose(wire, poses.pose((*rng.uniform(-0.04, 0.04, 2), -rng.uniform(0.09, 0.13))))
        yaw = poses.pose(ahead[:3], (0, 0, rng.uniform(-pi, pi)))
        loop = poses.integrate(poses.compose(yaw, _HANDLE_UP), rng.uniform(-0.3, 0.3, 3))
        T_loop_tcp = grasp(
            self.radius, bool(rng.integers(2)), rng.uniform(-0.004, 0.004), *rng.uniform(-0.12, 0.12, 2)
        )
        tcp = poses.compose(loop, T_loop_tcp)
        state = WireState(tcp, float(HANDLE[1]), loop, wire, bends.ravel(), 0.0)
        if loop[2] < 0.08 or not self._clear(state.path, [tcp]):
            return None
        return state

    def place(self, state: WireState) -> None:
        """The loop, the wire's pieces and its post."""
        super().place(state)
        self._bends = state.bends
        points = state.path.points
        for name, start, end in zip(_PIECES, points[:-1], points[1:], strict=True):
            piece = _frame_along(start, end)
            self.put(name, poses.compose(piece, poses.pose((0, 0, SEGMENT / 2))))
        self.put("post", poses.pose(points[-1]))

    def value(self, name: str) -> Array | float:
        """Present value of a state field."""
        if name == "bends":
            return self._bends
        if name == "progress":
            path = Wire.placed(self.body_pose("wire"), self._bends)
            passed = path.crossing(self.body_pose("loop"), self.radius)
            return 0.0 if passed is None else passed / LENGTH
        return self.body_pose(name)

    def feasible_modes(self, state: WireState) -> tuple[Mode, ...]:
        """The faces and leans with which the hand, as it holds the loop, reaches all of the wire."""
        path, T_loop_tcp = state.path, poses.between(state.loop, state.tcp)
        stations = [path.at(s) for s in (-0.08, *np.linspace(0.0, LENGTH, 9))]
        modes = []
        for mode in MODES:
            keys = [poses.compose(frame(*station, mode), T_loop_tcp) for station in stations]
            stops = (
                keys[:1] + keys[1::2]
            )  # the hand must be clear of the wire every 4 cm, the arm get there every 8
            if self._clear(path, keys) and self.reachable(state.tcp, stops, path.points[SEGMENTS // 2]):
                modes.append(mode)
        return tuple(modes)

    def succeeded(self, state: WireState) -> bool:
        """The loop is at the end of the wire, which it does not touch."""
        return state.progress > self.goal and not self.touches()

    def failed(self, state: WireState) -> bool:
        """The wire was touched, or the loop lies on the table."""
        return self.touches() or bool(state.loop[2] < 0.03)

    def mode(self, state: WireState) -> int:
        """0 if the loop's z goes first along the wire, 1 if its -z does."""
        path = state.path
        _, tangent = path.at(state.progress * LENGTH)
        return int(poses.rotate(state.loop, (0, 0, 1)) @ tangent < 0)

    def shortfall(self, state: WireState) -> str:
        """What stands between the state and success."""
        if self.touches():
            return "touched"
        middle = poses.transform(state.loop, (handle_middle(self.radius), 0, 0))
        if poses.norm(middle - state.tcp[:3]) > 0.05:
            return "dropped"
        return "not_at_end" if state.progress > 0 else "not_entered"

    def expert(self, choice: str = "greedy", seed: int | None = None) -> WireExpert:
        """The closed-loop expert; `choice` "greedy" turns least, "random" draws among the feasible ways."""
        from .wire_loop_expert import WireExpert

        return WireExpert(self, choice, seed)

    def touches(self) -> bool:
        """Whether anything touches the wire or its post now."""
        geoms = self.data.contact.geom
        return bool(len(geoms) and self._wire_geoms[geoms].any())

    # --- inside ---

    def _clear(self, path: Wire, tcps: Sequence[Array]) -> bool:
        """Whether a hand keeps off the wire and the post at each of some poses."""
        post = path.points[-1] - np.outer(np.arange(1, 5) * 0.03, (0, 0, 1))
        points = np.concatenate([path.points, post])
        local = np.concatenate([(points - tcp[:3]) @ poses.matrix(tcp) for tcp in tcps])
        across, along = np.abs(local[:, :2]), local[:, 2]
        palm = (across < _PALM).all(axis=1) & (along > -0.16) & (along < -0.04)
        fingers = (across < _FINGERS).all(axis=1) & (along >= -0.06) & (along < 0.02)
        return not (palm | fingers).any()


def _draw_bends(rng: np.random.Generator, bend: float) -> Array | None:
    """Points of a wire from the origin that bends by the same angle at each joint, about an axis that wanders."""
    phase, wander, start = rng.uniform(-pi, pi), rng.uniform(-2.0, 2.0), rng.uniform(-pi, pi)
    heading = poses.pose(rotvec=(0, 0, rng.uniform(-pi, pi)))
    frame = poses.compose(
        heading, poses.pose(rotvec=(0, pi / 2 + rng.uniform(-0.5, 0.5), 0))
    )  # z is the tangent
    points = [np.zeros(3)]
    for joint in range(SEGMENTS):
        if joint > 0:
            axis = start + wander * sin(pi * joint / SEGMENTS + phase)
            frame = poses.integrate(frame, bend / (SEGMENTS - 1) * np.array([cos(axis), sin(axis), 0]))
        tangent = poses.rotate(frame, (0, 0, 1))
        if abs(tangent[2]) > sin(STEEPEST):
            return None
        points.append(points[-1] + SEGMENT * tangent)
    chain = np.array(points)
    gaps = np.linalg.norm(chain[:, None] - chain[None], axis=-1)
    apart = np.abs(np.subtract.outer(np.arange(SEGMENTS + 1), np.arange(SEGMENTS + 1))) > 6
    return chain if gaps[apart].min() > APART else None


def _frame_along(start: Array, end: Array) -> Array:
    """The pose at `start` whose z points to `end`."""
    q = np.empty(4)
    mujoco.mju_quatZ2Vec(q, end - start)
    return np.concatenate([start, q])


_PIECES = tuple(f"wire_{index}" for index in range(SEGMENTS))


def _bodies(radius: float) -> tuple[str, ...]:
    piece = (
        f'<geom type="capsule" fromto="0 0 {-SEGMENT / 2} 0 0 {SEGMENT / 2}" size="{WIRE}" material="socket" '
        'class="slippery"/>'
    )
    post = (
        f'<geom type="cylinder" size="{_POST} .13" pos="0 0 -.13" material="stand"/>'
        f'<geom type="sphere" size="{_POST + 0.002}" material="joint"/>'
    )
    tip = f'<geom type="sphere" size="{WIRE + 0.0015}" material="peg_end" class="visual"/>'
    return (
        scene.free_body("loop", handled_ring(radius, 0.05)),
        scene.placed_body("wire", tip),
        *(scene.placed_body(name, piece) for name in _PIECES),
        scene.placed_body("post", post),
    )


datasheet(
    WireLoop,
    length=1000 * LENGTH,
    thick=2000 * WIRE,
    segments=SEGMENTS,
    points=SEGMENTS + 1,
    bends=3 * (SEGMENTS + 1),
    leans=len(LEANS),
    limits="{} to {}".format(*WireLoop.rotation_limits),
    goal=WireLoop.goal,
    levels="; ".join(
        f"{index}: {degrees(level.rotation[0]):.0f} to {degrees(level.rotation[1]):.0f} degrees, "
        f"{1000 * level.radius:g} mm"
        for index, level in enumerate(WireLoop.levels)
    ),
)
