"""TiltedPegInsert: put a cuboid peg into a tilted socket and let go; the env, its scene, its symmetries."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, degrees, hypot, pi, radians, sin
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import poses, scene
from ..poses import Array
from ..robot import MAX_OPENING
from . import base
from .base import DOWN, PoseTask, backed, raised
from .datasheet import datasheet
from .motion import across, side_grasp

if TYPE_CHECKING:
    from .peg_expert import PegExpert

PEG = np.array([0.010, 0.016, 0.060])  # half lengths; the peg's z axis is its long axis [m]
DEPTH = 0.060  # of the socket [m]
WALL = 0.008  # thickness of its walls [m]
_BALL = DEPTH + WALL + 0.012  # of the stand's ball joint below the mouth [m]
VIA = 0.150  # height of the peg above its seat where the insertion starts, along the socket's axis [m]
GRASP_HEIGHT = 0.030  # of the TCP above the peg's centre, toward the end that stays outside [m]
LEAN = radians(25)  # of the hand out of the peg's normal, away from the socket

# The peg looks the same after half turns about its axes (D2); insertion i seats the frame peg * SYMMETRIES[i].
SYMMETRIES: tuple[Array, ...] = (
    poses.IDENTITY,
    poses.pose(rotvec=(pi, 0, 0)),
    poses.pose(rotvec=(0, pi, 0)),
    poses.pose(rotvec=(0, 0, pi)),
)
_TURNS = np.array(SYMMETRIES)[:, 3:]


@dataclass(frozen=True)
class Level(base.Level):
    """The rotation is the socket's tilt; clearance per side [m], chamfered mouth."""

    clearance: float
    chamfer: bool = False


LEVELS: tuple[Level, ...] = (
    Level((0.0, radians(30)), 0.008, chamfer=True),
    Level((0.0, radians(60)), 0.005),
    Level((0.0, radians(60)), 0.0025),
    Level((0.0, radians(90)), 0.001),
)


@dataclass(frozen=True)
class Mode:
    """One way to do the task: which insertion (index into SYMMETRIES) with which grasp (T_peg_tcp)."""

    symmetry: int
    T_peg_tcp: Array


@dataclass(frozen=True)
class State(base.State):
    """Adds the poses of the peg and the socket."""

    peg: Array
    socket: Array


@dataclass(frozen=True)
class Fit:
    """How a peg stands to its socket: depth [m], angle of the axes [rad], offset of the lower end [m]."""

    depth: float
    tilt: float
    lateral: float
    symmetry: int


def grasp(quarter: int, swap: bool, height: float = GRASP_HEIGHT, lean: float = LEAN) -> Array:
    """T_peg_tcp of a hand that comes from the side, leaning away from the socket (`side_grasp`)."""
    return side_grasp(quarter, swap, height, lean)


MODES: tuple[Mode, ...] = tuple(
    Mode(symmetry, poses.compose(SYMMETRIES[symmetry], grasp(quarter, swap)))
    for symmetry in range(4)
    for quarter in range(4)
    for swap in (False, True)
)


def fit(peg: Array, socket: Array) -> Fit:
    """The fit under the symmetry that needs the least turning."""
    seen = poses.between(socket, peg)
    turns = poses.angles_after(seen, _TURNS)
    symmetry = turns.index(min(turns))
    local = poses.compose(seen, SYMMETRIES[symmetry])
    tip = poses.transform(local, (0, 0, -PEG[2]))
    return Fit(-float(tip[2]), poses.axis_angle(poses.IDENTITY, local), hypot(tip[0], tip[1]), symmetry)


class TiltedPegInsert(PoseTask[State]):
    """Grasp a peg from the table, put it into a tilted socket and let go.

    The peg ({peg} mm) lies on a random face at a random yaw; the socket ({depth:.0f} mm deep,
    rectangular) stands at a random place, tilt, azimuth and roll. With `in_hand=True` the peg starts in
    the gripper, at a random pose in the air and held a little differently each time. The peg has the
    symmetry D2, so {symmetries} insertions are right, each with several grasps.

    {action}

    Observation, Dict of float32:

    | key | shape | meaning | MJCF |
    |---|---|---|---|
    {hand}
    | peg | 7 | pose of the peg's centre in the world, z its long axis | body `peg` |
    | socket | 7 | pose of the mouth's centre in the world, z out of the socket | body `socket` |

    A fully inserted peg has the socket's pose, up to the symmetry.

    Levels (clearance per side, tilt of the socket): {levels}.
    `clearance` [m] and `tilt_range` [degrees] (`rotation_range` is the same) override them. {knobs}

    Success ends the episode with the reward 1 (else 0): the peg stands deeper than {success_depth:.0f} mm, its
    axis within {success_tilt:.0f} degrees and its lower end within {success_lateral:.0f} mm of the socket's axis,
    and the TCP is farther than {retreat:.0f} mm from the peg's centre: released and retreated, since a hand that
    holds the peg cannot be so far. In a socket with more than {firm:.0f} mm of clearance a released peg leans
    against the rim; there the limits are {loose_tilt:.1f} times the clearance over the depth [rad] and
    {loose_lateral:.1f} times the clearance, about what the walls allow.

    Other ends: a physics warning of MuJoCo (the state is then worthless) or the peg under the table
    terminate; {steps} steps ({steps_in_hand} with `in_hand`) truncate, `max_episode_steps` changes that. `info`
    holds `is_success`, `mode` (nearest of the insertions) and `failure`, at an end without success one
    of {failures}: never lifted, dropped, not aligned, aligned but not seated (or seated and not let go), a
    broken simulation. Reset rejects scenes the robot cannot reach (the workspace for
    `free`, IK along the key poses for `panda`); its `info["mode_count"]` counts the ways that remain.

    Version history: v0, first.
    """

    name, levels, state_type, held = "tilted_peg_insert", LEVELS, State, "peg"
    failures = ("no_grasp", "dropped", "misaligned", "not_deep_enough", "physics")
    rotation_knob = "tilt_range"
    success_depth, success_tilt, success_lateral, retreat = 0.045, radians(8), 0.008, 0.09
    firm_clearance, loose_tilt, loose_lateral = 0.005, 2.2, 1.5
    steps, steps_in_hand = 400, 260
    sentences = ("insert the peg into the socket", "put the peg into the hole")

    def __init__(
        self,
        level: int = 1,
        robot: str = "free",
        in_hand: bool = False,
        clearance: float | None = None,
        tilt_range: Sequence[float] | None = None,
        **knobs: Any,
    ) -> None:
        """Build the scene; `knobs` are those of every task (`PoseTask`). Raises ValueError for one out of its range."""
        if clearance is not None and not 0.0005 <= clearance <= 0.02:
            raise ValueError(f"clearance is per side in metres, from 0.0005 to 0.02; got {clearance!r}.")
        chosen: Level = self.chosen(level)
        self.in_hand = bool(in_hand)
        self.clearance = chosen.clearance if clearance is None else float(clearance)
        self.tilt_limit, self.lateral_limit = self.success_tilt, self.success_lateral
        if self.clearance > self.firm_clearance:  # a released peg leans as far as the walls let it
            self.tilt_limit = self.loose_tilt * self.clearance / DEPTH
            self.lateral_limit = self.loose_lateral * self.clearance
        if tilt_range is not None:
            knobs["rotation_range"] = tilt_range
        super().__init__(_task_bodies(self.clearance, chosen.chamfer), level, robot, **knobs)
        self.episode_steps = self.steps_in_hand if in_hand else self.steps
        self._peg_joint = self.model.joint("peg_free").qposadr[0]

    # --- what the expert and the evaluation read ---

    def expert(self, choice: str = "greedy", seed: int | None = None) -> PegExpert:
        """The closed-loop expert; `choice` "greedy" turns least, "random" draws among the feasible ways."""
        from .peg_expert import PegExpert

        return PegExpert(self, choice, seed)

    def fit(self) -> Fit:
        """How the peg stands to the socket now."""
        state = self.state()
        return fit(state.peg, state.socket)

    def seated(self, fit: Fit) -> bool:
        """Whether the peg stands in the socket as success asks, whoever holds it."""
        return (
            fit.depth > self.success_depth and fit.tilt < self.tilt_limit and fit.lateral < self.lateral_limit
        )

    # --- the rules ---

    def succeeded(self, state: State) -> bool:
        retreated = poses.norm(state.tcp[:3] - state.peg[:3]) > self.retreat
        return self.seated(fit(state.peg, state.socket)) and retreated

    def mode(self, state: State) -> int:
        return fit(state.peg, state.socket).symmetry

    def shortfall(self, state: State) -> str:
        stands = fit(state.peg, state.socket)
        if self.seated(stands):
            return "not_deep_enough"  # seated, and the hand has not let go
        if not self.lifted:
            return "no_grasp"
        in_mouth = stands.depth > 0 and stands.lateral < self.lateral_limit
        if not in_mouth and poses.norm(state.peg[:3] - state.tcp[:3]) > 0.075:
            return "dropped"
        aligned = stands.tilt < self.tilt_limit and stands.lateral < self.lateral_limit
        return "not_deep_enough" if aligned else "misaligned"

    # --- the scene ---

    def draw_scene(self) -> State | None:
        socket = self._draw_socket()
        drawn = self._draw_in_hand(socket) if self.in_hand else self._draw_on_table(socket)
        if drawn is None:
            return None
        tcp, peg = drawn
        half = _held_half(poses.between(peg, tcp)) if self.in_hand else MAX_OPENING
        return State(tcp, half, peg, socket)

    def place(self, state: State) -> None:
        super().place(state)
        self.put("stand", poses.pose(poses.transform(state.socket, (0, 0, -_BALL))))

    def feasible_modes(self, state: State) -> tuple[Mode, ...]:
        """The ways from a free peg, grasped from above, or from the hand, through the socket to the retreated hand."""
        if self.in_hand:
            return self.feasible_insertions(state)
        return self.feasible_grasps(state)

    def feasible_grasps(self, state: State) -> tuple[Mode, ...]:
        """The ways that begin with a grasp of the peg where it is, from above."""
        return tuple(
            mode for mode in MODES if self._grasp_from_above(state, mode) and self._possible(state, mode)
        )

    def feasible_insertions(self, state: State) -> tuple[Mode, ...]:
        """The ways to insert the peg as it is held: the end near the hand stays outside."""
        T_peg_tcp = poses.between(state.peg, state.tcp)
        upper = (0, 3) if T_peg_tcp[2] > 0 else (1, 2)
        modes = (Mode(symmetry, T_peg_tcp) for symmetry in upper)
        return tuple(mode for mode in modes if self._all_reachable(state, [], mode))

    # --- inside ---

    def _draw_socket(self) -> Array:
        rng = self.np_random
        position = self.draw((0.42, -0.18, 0.14), (0.58, 0.18, 0.20), (0.04, 0.06, 0.02))
        tilt, azimuth, roll = rng.uniform(*self.rotation), rng.uniform(-pi, pi), rng.uniform(-pi, pi)
        turn = poses.compose(poses.pose(rotvec=(0, 0, azimuth)), poses.pose(rotvec=(0, tilt, 0)))
        return poses.compose(poses.pose(position), poses.compose(turn, poses.pose(rotvec=(0, 0, roll))))

    def _draw_on_table(self, socket: Array) -> tuple[Array, Array] | None:
        rng = self.np_random
        xy = self.draw((0.36, -0.28), (0.64, 0.28), (0.05, 0.06))
        yaw, face = rng.uniform(-pi, pi), int(rng.integers(4))
        if np.hypot(*(xy - socket[:2])) < 0.20:
            return None
        height = PEG[0] if face % 2 == 0 else PEG[1]
        lying = poses.compose(poses.pose(rotvec=(0, pi / 2, 0)), poses.pose(rotvec=(0, 0, face * pi / 2)))
        peg = poses.compose(poses.pose((*xy, height), (0, 0, yaw)), lying)
        return self.draw_hand(), peg

    def _draw_in_hand(self, socket: Array) -> tuple[Array, Array] | None:
        rng = self.np_random
        position = self.draw((0.38, -0.24, 0.24), (0.62, 0.24, 0.42), (0.05, 0.06, 0.03))
        tilt, azimuth, yaw = rng.uniform(0, radians(40)), rng.uniform(-pi, pi), rng.uniform(-pi / 2, pi / 2)
        lean = (tilt * cos(azimuth), tilt * sin(azimuth), 0)
        tcp = poses.compose(
            poses.pose(position, lean),
            poses.compose(DOWN, poses.pose(rotvec=(0, 0, yaw))),
        )
        held = grasp(
            int(rng.integers(4)),
            bool(rng.integers(2)),
            height=GRASP_HEIGHT + rng.uniform(-0.006, 0.006),
            lean=LEAN + rng.uniform(-radians(15), radians(15)),
        )
        T_peg_tcp = poses.compose(SYMMETRIES[int(rng.integers(4))], held)
        peg = poses.compose(tcp, poses.inverse(T_peg_tcp))
        clear_of_socket = min(np.linalg.norm(peg[:3] - socket[:3]), np.linalg.norm(tcp[:3] - socket[:3]))
        if clear_of_socket < 0.16 or poses.lowest_point(peg, PEG) < 0.08:
            return None
        return tcp, peg

    def _grasp_from_above(self, state: State, mode: Mode) -> bool:
        approach = poses.rotate(poses.compose(state.peg, mode.T_peg_tcp), (0, 0, 1))
        return bool(approach[2] < -0.6)

    def _possible(self, state: State, mode: Mode) -> bool:
        at_peg = poses.compose(state.peg, mode.T_peg_tcp)
        return self._all_reachable(state, [backed(at_peg, 0.10), at_peg, raised(at_peg, 0.12)], mode)

    def _all_reachable(self, state: State, keys: Sequence[Array], mode: Mode) -> bool:
        obstacle = poses.transform(state.socket, (0, 0, -DEPTH / 2))
        return self.reachable(state.tcp, [*keys, *_insertion(state.socket, mode)], obstacle)


def _held_half(T_peg_tcp: Array) -> float:
    """Half the width of the peg between the pads [m]."""
    return float(PEG[across(T_peg_tcp)])


def _insertion(socket: Array, mode: Mode) -> list[Array]:
    """TCP poses over the socket, at the seat and retreated."""
    T_seat_tcp = poses.compose(SYMMETRIES[mode.symmetry], mode.T_peg_tcp)  # a half turn is its own inverse
    seat = poses.compose(socket, T_seat_tcp)
    via = poses.compose(poses.compose(socket, poses.pose((0, 0, VIA))), T_seat_tcp)
    return [raised(via, 0.08), via, seat, backed(seat, 0.08)]


def _task_bodies(clearance: float, chamfer: bool) -> tuple[str, ...]:
    peg = scene.box(PEG.tolist(), name="peg", mass=0.15, material="peg", class_="slippery")
    for side in (1, -1):  # pale bands, so that a picture shows where the ends are
        peg += scene.box(
            (PEG[0] + 0.0003, PEG[1] + 0.0003, 0.004),
            (0, 0, side * (PEG[2] - 0.006)),
            material="peg_end",
            class_="visual",
        )
    return (
        scene.free_body("peg", peg),
        scene.placed_body("socket", scene.well(PEG[0] + clearance, PEG[1] + clearance, DEPTH, WALL, chamfer)),
        scene.placed_body(
            "stand",
            '<geom type="cylinder" size=".013 .13" pos="0 0 -.13" material="stand"/>'
            '<geom type="sphere" size=".017" material="joint" class="visual"/>',
        ),
    )


datasheet(
    TiltedPegInsert,
    peg=" x ".join(f"{2000 * half:.0f}" for half in PEG),
    depth=1000 * DEPTH,
    symmetries=len(SYMMETRIES),
    levels="; ".join(
        f"{index}: {1000 * level.clearance:g} mm{' with a chamfered mouth' if level.chamfer else ''}, "
        f"up to {degrees(level.rotation[1]):.0f} degrees"
        for index, level in enumerate(LEVELS)
    ),
    success_depth=1000 * TiltedPegInsert.success_depth,
    success_tilt=degrees(TiltedPegInsert.success_tilt),
    success_lateral=1000 * TiltedPegInsert.success_lateral,
    retreat=1000 * TiltedPegInsert.retreat,
    firm=1000 * TiltedPegInsert.firm_clearance,
    loose_tilt=TiltedPegInsert.loose_tilt,
    loose_lateral=TiltedPegInsert.loose_lateral,
    steps_in_hand=TiltedPegInsert.steps_in_hand,
)
