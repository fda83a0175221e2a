"""HalfTurnStand: pull a bottle out of a holder, turn it upright, stand it on a mark; the env, its scene, its modes."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

from dataclasses import dataclass
from math import degrees, hypot, pi, radians
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import poses, scene
from ..poses import Array
from ..robot import MAX_OPENING
from . import base
from .base import PoseTask, backed, raised, turned_above
from .datasheet import datasheet
from .motion import side_grasp

if TYPE_CHECKING:
    from .half_turn_expert import HalfTurnExpert

BODY = np.array([0.020, 0.020, 0.055])  # half lengths of the bottle; z from its foot to its cap [m]
SHOULDER = 0.025  # height of the shoulder above the bottle's centre [m]
CAP = 0.013  # half width of the neck and cap, from the shoulder up [m]
FOOT = np.array([0.023, 0.023, 0.004])  # half lengths of the foot, which widens the lower end [m]
DEPTH = 0.026  # of the holder, into which the cap goes [m]
PLAY = 0.002  # of the cap in the holder, on each side [m]
WALL = 0.005  # thickness of its walls [m]
MARK = 0.036  # half width of the marked place [m]
VIA = 0.10  # height above the mark where the bottle comes down from [m]
GRASP_HEIGHT = -0.004  # of the TCP above the bottle's centre [m]
LEAN = radians(8)  # of the hand toward the foot: the way down when the bottle stands
_BALL = 0.050  # of the holder's ball joint below its mouth [m]

# The bottle looks the same after quarter turns about its axis (C4).
QUARTERS: tuple[Array, ...] = tuple(poses.pose(rotvec=(0, 0, turn * pi / 2)) for turn in (0, 1, 2, -1))
_TURNS = np.array(QUARTERS)[:, 3:]
GRASPS: tuple[Array, ...] = tuple(
    side_grasp(quarter, swap, GRASP_HEIGHT, LEAN) for quarter in range(4) for swap in (False, True)
)


@dataclass(frozen=True)
class Level(base.Level):
    """The rotation is from the start to upright; how far off the mark [m] and turned [rad] the bottle may stand."""

    offset: float
    turn: float


LEVELS: tuple[Level, ...] = (
    Level((radians(90), radians(120)), 0.020, radians(20)),
    Level((radians(90), radians(150)), 0.015, radians(12)),
    Level((radians(120), radians(180)), 0.012, radians(10)),
    Level((radians(150), radians(180)), 0.006, radians(5)),
)


@dataclass(frozen=True)
class Mode:
    """One way to do the task: which quarter turn on the mark (index into QUARTERS) with which grasp (T_bottle_tcp)."""

    quarter: int
    T_bottle_tcp: Array


@dataclass(frozen=True)
class State(base.State):
    """Adds the poses of the bottle, its holder and the mark."""

    bottle: Array
    holder: Array
    mark: Array


@dataclass(frozen=True)
class Stand:
    """How a bottle stands to the mark: height of its foot [m], offset in the plane [m], rotation [rad]."""

    height: float
    offset: float
    rotation: float
    quarter: int


def stand(bottle: Array, mark: Array) -> Stand:
    """The stand under the quarter turn that is nearest."""
    seen = poses.between(mark, bottle)
    turns = poses.angles_after(seen, _TURNS)
    foot = poses.transform(seen, (0, 0, -BODY[2]))
    return Stand(float(foot[2]), hypot(foot[0], foot[1]), min(turns), turns.index(min(turns)))


class HalfTurnStand(PoseTask[State]):
    """Pull an upside-down bottle out of a holder, turn it upright and stand it on a mark.

    The square bottle ({bottle} mm) starts with its cap in a holder at a random place, azimuth and roll, turned from
    upright by an angle of the level's range: 90 degrees lies, 180 hangs head down. The mark is the top of a
    pedestal at a random place, height and yaw. The bottle looks the same after quarter turns about its axis, so
    {modes} ends are right: `mode` says which. In this range Euler angles, rotation vectors and quaternion signs break.

    {action}

    Observation, Dict of float32:

    | key | shape | meaning | MJCF |
    |---|---|---|---|
    {hand}
    | bottle | 7 | pose of the bottle's centre in the world, z from its foot to its cap | body `bottle` |
    | holder | 7 | pose of the middle of its mouth in the world, z out of it | body `holder` |
    | mark | 7 | pose of the middle of the place in the world, z up | body `mark` |

    Levels (rotation from the start to upright, offset and rotation allowed on the mark): {levels}.
    `rotation_range` [degrees, 90 to 180] overrides the rotation. {knobs}

    Success ends the episode with the reward 1 (else 0): the bottle stands on the mark (its foot within
    {success_height:.0f} mm of it), its middle and its rotation, yaw among it, within the level's limits, and the TCP is
    farther than {retreat:.0f} mm from the bottle's centre: released and retreated.

    Other ends: a physics warning of MuJoCo or the bottle under the table terminate; {steps} steps truncate,
    `max_episode_steps` changes that. `info` holds `is_success`, `mode` (the nearest end) and `failure`, at an end
    without success one of {failures}: never pulled out, dropped, not upright or yawed, upright but beside the mark,
    in place but not let go, a broken simulation. Reset rejects scenes the robot cannot reach; its
    `info["mode_count"]` counts the ways (end, grasp) that remain.

    Version history: v0, first.
    """

    name, levels, state_type, held = "half_turn_stand", LEVELS, State, "bottle"
    failures = ("no_grasp", "dropped", "misaligned", "misplaced", "not_released", "physics")
    rotation_limits = (90, 180)
    success_height, retreat = 0.006, 0.09
    sentences = ("stand the bottle on the mark", "turn the bottle upright on the mark")

    def __init__(self, level: int = 1, robot: str = "free", **knobs: Any) -> None:
        """Build the scene; `knobs` are those of every task (`PoseTask`). Raises ValueError for one out of its range."""
        chosen: Level = self.chosen(level)
        self.offset_limit, self.turn_limit = chosen.offset, chosen.turn
        super().__init__(_task_bodies(), level, robot, **knobs)

    # --- the rules ---

    def stands(self, state: State) -> bool:
        """Whether the bottle stands on the mark as success asks, whoever holds it."""
        now = stand(state.bottle, state.mark)
        upright = abs(now.height) < self.success_height and now.rotation < self.turn_limit
        return upright and now.offset < self.offset_limit

    def succeeded(self, state: State) -> bool:
        return self.stands(state) and poses.norm(state.tcp[:3] - state.bottle[:3]) > self.retreat

    def mode(self, state: State) -> int:
        return stand(state.bottle, state.mark).quarter

    def shortfall(self, state: State) -> str:
        if self.stands(state):
            return "not_released"
        if not self.lifted:
            return "no_grasp"
        now = stand(state.bottle, state.mark)
        on_mark = abs(now.height) < self.success_height
        if not on_mark and poses.norm(state.tcp[:3] - state.bottle[:3]) > 0.05:
            return "dropped"
        return "misaligned" if now.rotation > self.turn_limit else "misplaced"

    def lifts(self, state: State) -> bool:
        near = poses.norm(state.bottle[:3] - state.tcp[:3]) < 0.05
        return near and not in_holder(state)

    def expert(self, choice: str = "greedy", seed: int | None = None) -> HalfTurnExpert:
        from .half_turn_expert import HalfTurnExpert

        return HalfTurnExpert(self, choice, seed)

    # --- the scene ---

    def draw_scene(self) -> State | None:
        rng = self.np_random
        tilt = pi - rng.uniform(*self.rotation)
        mouth = self.draw((0.40, -0.24, 0.17), (0.62, 0.24, 0.24), (0.04, 0.06, 0.02))
        azimuth, roll = rng.uniform(-pi, pi), rng.uniform(-pi, pi)
        turn = poses.compose(poses.pose(rotvec=(0, 0, azimuth)), poses.pose(rotvec=(0, tilt, 0)))
        holder = poses.compose(poses.pose(mouth), poses.compose(turn, poses.pose(rotvec=(0, 0, roll))))
        place = self.draw((0.40, -0.24, 0.06), (0.62, 0.24, 0.12), (0.04, 0.06, 0.02))
        mark = poses.pose(place, (0, 0, rng.uniform(-pi, pi)))
        bottle = poses.compose(holder, poses.pose((0, 0, BODY[2] - DEPTH), (pi, 0, 0)))
        if min(np.hypot(*(mark[:2] - T[:2])) for T in (holder, bottle)) < 0.20:
            return None
        return State(self.draw_hand(), MAX_OPENING, bottle, holder, mark)

    def place(self, state: State) -> None:
        super().place(state)
        self.put("stand", poses.pose(poses.transform(state.holder, (0, 0, -_BALL))))

    def feasible_modes(self, state: State) -> tuple[Mode, ...]:
        """The ways that begin with a grasp of the bottle where it is."""
        found = []
        for T_bottle_tcp in GRASPS:
            at = poses.compose(state.bottle, T_bottle_tcp)
            if poses.rotate(at, (0, 0, 1))[2] < 0.2:
                out = poses.compose(
                    state.holder, poses.compose(poses.pose((0, 0, 0.08)), poses.between(state.holder, at))
                )
                keys = [backed(at, 0.10), at, out]
                found += [mode for mode in _ends(T_bottle_tcp) if self._possible(state, keys, mode)]
        return tuple(found)

    def feasible_ends(self, state: State) -> tuple[Mode, ...]:
        """The ways that go on with the bottle as it is held."""
        T_bottle_tcp = poses.between(state.bottle, state.tcp)
        return tuple(mode for mode in _ends(T_bottle_tcp) if self._possible(state, [], mode))

    # --- inside ---

    def _possible(self, state: State, keys: list[Array], mode: Mode) -> bool:
        T_end_tcp = poses.compose(poses.inverse(QUARTERS[mode.quarter]), mode.T_bottle_tcp)
        end = poses.compose(state.mark, poses.compose(poses.pose((0, 0, BODY[2])), T_end_tcp))
        turned = turned_above(keys[-1] if keys else state.tcp, end)
        keys = [*keys, turned, raised(end, VIA), end, backed(end, 0.08)]
        ball = poses.transform(state.holder, (0, 0, -_BALL))
        return self.reachable(state.tcp, keys, np.array([state.mark[:3], ball, ball * (1, 1, 0.5)]))


def in_holder(state: State) -> bool:
    """Whether the cap's end is within the holder."""
    end = poses.transform(poses.between(state.holder, state.bottle), (0, 0, BODY[2]))
    return bool(np.hypot(end[0], end[1]) < 0.02 and -DEPTH - 0.01 < end[2] < 0.002)


def _ends(T_bottle_tcp: Array) -> list[Mode]:
    return [Mode(quarter, T_bottle_tcp) for quarter in range(len(QUARTERS))]


def _task_bodies() -> tuple[str, ...]:
    trunk, neck = (SHOULDER + BODY[2]) / 2, (BODY[2] - SHOULDER) / 2
    look = {"class_": "slippery"}
    bottle = (
        scene.box((BODY[0], BODY[1], trunk), (0, 0, SHOULDER - trunk), mass=0.12, material="peg", **look)
        + scene.box(FOOT.tolist(), (0, 0, FOOT[2] - BODY[2]), mass=0.04, material="peg", **look)
        + scene.box((CAP, CAP, neck), (0, 0, SHOULDER + neck), mass=0.02, material="peg_end", **look)
    )
    frame = "".join(  # a pale square on the pedestal, so that a picture shows the yaw
        scene.box(size, (*at, 0.0003), material="peg_end", class_="visual")
        for side in (1, -1)
        for size, at in (
            ((0.002, FOOT[0] + 0.004, 0.0003), (side * (FOOT[0] + 0.004), 0)),
            ((FOOT[0] + 0.004, 0.002, 0.0003), (0, side * (FOOT[0] + 0.004))),
        )
    )
    mark = (
        scene.box((MARK, MARK, 0.006), (0, 0, -0.006), material="socket")
        + '<geom type="cylinder" size=".018 .10" pos="0 0 -.11" material="stand"/>'
        + frame
    )
    return (
        scene.free_body("bottle", bottle),
        scene.placed_body("holder", scene.well(CAP + PLAY, CAP + PLAY, DEPTH, WALL)),
        scene.placed_body("mark", mark),
        scene.placed_body(
            "stand",
            '<geom type="cylinder" size=".011 .13" pos="0 0 -.13" material="stand"/>'
            '<geom type="sphere" size=".017" material="joint" class="visual"/>',
        ),
    )


datasheet(
    HalfTurnStand,
    bottle=" x ".join(f"{2000 * half:.0f}" for half in BODY),
    modes=len(QUARTERS),
    levels="; ".join(
        f"{index}: {degrees(level.rotation[0]):.0f} to {degrees(level.rotation[1]):.0f} degrees, "
        f"{1000 * level.offset:g} mm and {degrees(level.turn):.0f} degrees"
        for index, level in enumerate(LEVELS)
    ),
    success_height=1000 * HalfTurnStand.success_height,
    retreat=1000 * HalfTurnStand.retreat,
)
