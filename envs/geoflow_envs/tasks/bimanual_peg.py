"""BimanualPeg: two hands bring a peg and a hole together in the air; the env, its scene, its symmetries."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import degrees, pi, radians
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import poses, scene
from ..poses import Array
from ..robot import FreePair
from . import base
from .base import PoseTask, clear_of_table
from .datasheet import datasheet
from .motion import across, side_grasp
from .peg import PEG, SYMMETRIES, fit

if TYPE_CHECKING:
    from .bimanual_peg_expert import BimanualExpert

DEPTH = 0.040  # of the hole [m]
WALL = 0.008  # thickness of its walls [m]
HANDLE = np.array([0.012, 0.012, 0.024])  # half lengths of what the right hand holds the block by [m]
HELD_AT = -(DEPTH + WALL + float(HANDLE[2]))  # of the handle's middle on the block's z axis [m]
VIA = 0.150  # of the peg's centre before the mouth while the two line up [m]
MEETING = np.array([[0.36, -0.16, 0.20], [0.62, 0.16, 0.38]])  # box in which the two meet [m]
_NEAR, _FAR = (
    0.15,
    0.21,
)  # the way between the two says how to line up when it is long, their axes when short [m]
_TABLE_Z = 0.035  # a body whose origin is lower lies on the table [m]
_LOST = 0.05  # of a body from where it was held [m]


@dataclass(frozen=True)
class Level(base.Level):
    """The rotation is what is missing, at the start, to the nearest insertion; clearance per side [m], chamfer."""

    clearance: float
    chamfer: bool = False


@dataclass(frozen=True)
class State(base.State):
    """Adds the poses of the peg, in the left hand, and of the block's mouth, in the right."""

    peg: Array
    block: Array


def hold_peg(quarter: int, swap: bool, height: float = 0.0, lean: float = 0.0) -> Array:
    """T_peg_tcp of the left hand, which comes from the side to the peg's middle (`side_grasp`)."""
    return side_grasp(quarter, swap, height, lean)


def hold_block(quarter: int, height: float = 0.0, lean: float = 0.0) -> Array:
    """T_block_tcp of the right hand, in line with the hole behind it; `quarter` quarter turns about that line."""
    return poses.compose(
        poses.pose((0, 0, HELD_AT + height), (0, 0, quarter * pi / 2)), poses.pose(rotvec=(0, lean, 0))
    )


def meeting_axis(peg: Array, block: Array) -> Array:
    """Unit vector out of the hole along which the two come together: from block to peg, or, near, their own axis.

    `peg` is seen under its symmetry, with the z axis that ends along the hole's.
    """
    way = peg[:3] - poses.transform(block, (0, 0, -DEPTH))
    apart = poses.norm(way)
    own = poses.rotate(block, (0, 0, 1)) + poses.rotate(peg, (0, 0, 1))
    far = min(1.0, max(0.0, (apart - _NEAR) / (_FAR - _NEAR)))
    axis = far * way / max(apart, 1e-6) + (1 - far) * own / 2
    return axis / max(poses.norm(axis), 1e-6)


def meeting(peg: Array, block: Array, apart: float) -> tuple[Array, Array]:
    """Where peg (under its symmetry) and block go: in line, the peg's centre `apart` [m] from the mouth.

    Each gives way by half, within `MEETING`. The peg turns only its axis; about it the block turns.
    """
    axis = meeting_axis(peg, block)
    middle = np.clip(0.5 * (peg[:3] + block[:3]), MEETING[0], MEETING[1])
    peg_goal, block_goal = _aligned(peg, axis), _aligned(block, axis)
    x = poses.rotate(poses.between(block_goal, peg_goal), (1, 0, 0))
    block_goal = poses.integrate(block_goal, (0, 0, float(np.arctan2(x[1], x[0]))))
    peg_goal[:3], block_goal[:3] = middle + 0.5 * apart * axis, middle - 0.5 * apart * axis
    return peg_goal, block_goal


def _aligned(T: Array, axis: Array) -> Array:
    """The pose turned in place, as little as it takes, until its z axis is along a unit vector of the world."""
    wanted = poses.rotate(poses.inverse(T), axis)
    sine = float(np.hypot(wanted[0], wanted[1]))
    angle = float(np.arctan2(sine, wanted[2]))
    turn = np.array([-wanted[1], wanted[0], 0.0]) / sine if sine > 1e-9 else np.array([1.0, 0.0, 0.0])
    return poses.integrate(T, angle * turn)


class BimanualPeg(PoseTask[State]):
    """Two hands bring a peg and a block with a hole together in the air, and put the one into the other.

    The left hand holds the peg ({peg} mm) by its middle, the right one the block (its hole is {depth:.0f} mm deep,
    rectangular) by a handle behind it, each a little differently each time. Only their relative pose matters: where
    they meet is free, and the peg has the symmetry D2, so {symmetries} insertions are right, of either end.

    {action}

    Observation, Dict of float32:

    | key | shape | meaning | MJCF |
    |---|---|---|---|
    {hand}
    | peg | 7 | pose of the peg's centre in the world, z its long axis | body `peg` |
    | block | 7 | pose of the middle of the hole's mouth in the world, z out of the hole | body `block` |

    A fully inserted peg has the block's rotation, up to the symmetry.

    Levels (clearance per side, rotation to the nearest insertion): {levels}.
    `clearance` [m] and `rotation_range` [degrees, {limits}] override them. {knobs}

    Success ends the episode with the reward 1 (else 0): the peg stands deeper than {success_depth:.0f} mm, its axis
    within {success_tilt:.0f} degrees (or twice the clearance over the depth [rad], if that is more) and its end within
    {success_lateral:.0f} mm (or {loose_lateral:.1f} times the clearance) of the hole's axis. Both hands may still hold
    on. Other ends: a physics warning of MuJoCo, or the peg or the block on the table, terminate; {steps} steps
    truncate, `max_episode_steps` changes that. `info` holds `is_success`, `mode` (nearest of the insertions) and
    `failure`, at an end without success one of {failures}: lost from a hand, not aligned, aligned but not inserted, a
    broken simulation. Reset rejects scenes in which a hand would meet the table or leave the workspace; its
    `info["mode_count"]` counts the ways that remain.

    Version history: v0, first.
    """

    name = "bimanual_peg"
    robots: ClassVar[Mapping[str, Any]] = {"free": FreePair}
    levels = (
        Level((0.0, radians(30)), 0.008, chamfer=True),
        Level((0.0, radians(60)), 0.005),
        Level((radians(30), radians(90)), 0.0025),
        Level((radians(60), radians(110)), 0.001),
    )
    state_type, held = State, "peg"
    steps = 240
    failures = ("dropped", "misaligned", "not_deep_enough", "physics")
    rotation_limits = (0, 110)
    success_depth, success_tilt, success_lateral, loose_lateral = 0.030, radians(4), 0.003, 1.5

    def __init__(
        self, level: int = 1, robot: str = "free", clearance: float | None = None, **knobs: Any
    ) -> None:
        """Build the scene; `knobs` are those of every task (`PoseTask`). Raises ValueError for one out of its range."""
        if clearance is not None and not 0.0005 <= clearance <= 0.012:
            raise ValueError(f"clearance is per side in metres, from 0.0005 to 0.012; got {clearance!r}.")
        chosen: Level = self.chosen(level)
        self.clearance = chosen.clearance if clearance is None else float(clearance)
        knobs.setdefault("cameras", ("front", "wrist_left", "wrist_right"))
        super().__init__(_task_bodies(self.clearance, chosen.chamfer), level, robot, **knobs)
        self._held_at: tuple[Array, Array] = (poses.IDENTITY, poses.IDENTITY)

    # --- the rules ---

    def succeeded(self, state: State) -> bool:
        """The peg is in the hole."""
        return fit(state.peg, state.block).depth > self.success_depth and self.aligned(state)

    def aligned(self, state: State) -> bool:
        """Whether the peg's axis and its end are in line with the hole."""
        now = fit(state.peg, state.block)
        tilt = max(self.success_tilt, 2 * self.clearance / DEPTH)
        return now.tilt < tilt and now.lateral < max(
            self.success_lateral, self.loose_lateral * self.clearance
        )

    def mode(self, state: State) -> int:
        """The insertion that is nearest."""
        return fit(state.peg, state.block).symmetry

    def failed(self, state: State) -> bool:
        """Something lies on the table."""
        return bool(min(state.peg[2], state.block[2]) < _TABLE_Z)

    def lifts(self, state: State) -> bool:
        """Both are in the hands from the start."""
        return True

    def shortfall(self, state: State) -> str:
        """What stands between the state and success."""
        for body, tcp, T_body_tcp in zip((state.peg, state.block), state.tcp, self._held_at, strict=True):
            if poses.norm(poses.between(body, tcp)[:3] - T_body_tcp[:3]) > _LOST:
                return "dropped"
        return "not_deep_enough" if self.aligned(state) else "misaligned"

    def expert(self, choice: str = "greedy", seed: int | None = None) -> BimanualExpert:
        """The closed-loop expert; `choice` "greedy" turns least, "random" draws among the feasible ways."""
        from .bimanual_peg_expert import BimanualExpert

        return BimanualExpert(self, choice, seed)

    # --- the scene ---

    def draw_scene(self) -> State | None:
        """Two hands apart, the left one's peg turned by the level's angle out of an insertion."""
        rng = self.np_random
        left = self.draw((0.38, 0.16, 0.20), (0.56, 0.28, 0.34), (0.05, 0.05, 0.04))
        right = self.draw((0.38, -0.28, 0.20), (0.56, -0.16, 0.34), (0.05, 0.05, 0.04))
        # The hole looks about to where the peg is.
        looks = _aligned(
            poses.pose(right, rng.uniform(-pi, pi, 3)), (left - right) / poses.norm(left - right)
        )
        block = poses.integrate(poses.integrate(looks, (0, 0, rng.uniform(-pi, pi))), _turn(rng, radians(50)))
        inserted = poses.compose(block, SYMMETRIES[int(rng.integers(4))])
        angle = rng.uniform(*self.rotation)
        peg = poses.integrate(np.append(left, inserted[3:]), _turn(rng, angle, angle))
        turns = [poses.norm(poses.rotvec(block, poses.compose(peg, symmetry))) for symmetry in SYMMETRIES]
        if min(turns) < angle - 1e-6:  # another insertion is nearer
            return None
        varied = rng.uniform(-1, 1, 4)
        T_peg_tcp = hold_peg(
            int(rng.integers(4)), bool(rng.integers(2)), 0.006 * varied[0], radians(12) * varied[1]
        )
        T_block_tcp = hold_block(int(rng.integers(4)), 0.004 * varied[2], radians(8) * varied[3])
        tcp = np.stack([poses.compose(peg, T_peg_tcp), poses.compose(block, T_block_tcp)])
        if not all(clear_of_table(T) for T in tcp):
            return None
        self._held_at = T_peg_tcp, T_block_tcp
        return State(tcp, np.array([PEG[across(T_peg_tcp)], HANDLE[0]]), peg, block)

    def feasible_modes(self, state: State) -> tuple[int, ...]:
        """The insertions (indices into SYMMETRIES) whose way keeps both hands off the table and in the workspace."""
        return tuple(mode for mode in range(len(SYMMETRIES)) if self._possible(state, mode))

    def _possible(self, state: State, mode: int) -> bool:
        peg = poses.compose(state.peg, SYMMETRIES[mode])
        lined_up = meeting(peg, state.block, VIA)
        inserted = meeting(*lined_up, float(PEG[2]) - DEPTH)
        nothing = np.empty((0, 3))
        bodies = zip(state.tcp, (peg, state.block), lined_up, inserted, strict=True)
        return all(
            self.reachable(tcp, [poses.compose(goal, poses.between(body, tcp)) for goal in goals], nothing)
            for tcp, body, *goals in bodies
        )


def _turn(rng: np.random.Generator, high: float, low: float = 0.0) -> Array:
    """A rotation vector of random direction, `low` to `high` long [rad]."""
    direction = rng.standard_normal(3)
    return direction / poses.norm(direction) * rng.uniform(low, high)


def _task_bodies(clearance: float, chamfer: bool) -> Sequence[str]:
    peg = scene.box(PEG.tolist(), name="peg", mass=0.15, material="peg", class_="slippery")
    for side in (1, -1):  # pale bands, so that a picture shows where the ends are
        peg += scene.box(
            (PEG[0] + 0.0003, PEG[1] + 0.0003, 0.004),
            (0, 0, side * (PEG[2] - 0.006)),
            material="peg_end",
            class_="visual",
        )
    block = scene.well(PEG[0] + clearance, PEG[1] + clearance, DEPTH, WALL, chamfer)
    block += scene.box(HANDLE.tolist(), (0, 0, HELD_AT), mass=0.05, material="stand")
    return scene.free_body("peg", peg), scene.free_body("block", block)


datasheet(
    BimanualPeg,
    peg=" x ".join(f"{2000 * half:.0f}" for half in PEG),
    depth=1000 * DEPTH,
    symmetries=len(SYMMETRIES),
    limits="{} to {}".format(*BimanualPeg.rotation_limits),
    levels="; ".join(
        f"{index}: {1000 * level.clearance:g} mm{' with a chamfered mouth' if level.chamfer else ''}, "
        f"{degrees(level.rotation[0]):.0f} to {degrees(level.rotation[1]):.0f} degrees"
        for index, level in enumerate(BimanualPeg.levels)
    ),
    success_depth=1000 * BimanualPeg.success_depth,
    success_tilt=degrees(BimanualPeg.success_tilt),
    success_lateral=1000 * BimanualPeg.success_lateral,
    loose_lateral=BimanualPeg.loose_lateral,
)
