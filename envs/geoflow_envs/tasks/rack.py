"""RackSlot: stand a thin plate into one of the slots of a tilted rack and let go; the env, its scene, its modes."""

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
from .motion import ARM, side_grasp

if TYPE_CHECKING:
    from .rack_expert import RackExpert

PLATE = np.array([0.010, 0.026, 0.060])  # half lengths of the plate's bounding box; z toward its handle [m]
BLADE = np.array([0.004, 0.026, 0.045])  # half lengths of the blade, the part for the slot [m]
HANDLE = np.array([0.010, 0.016, 0.018])  # half lengths of the handle [m]
HANDLE_HEIGHT = float(PLATE[2] - HANDLE[2])  # of its middle above the plate's centre [m]
DEPTH = 0.040  # of a slot [m]
WALL = 0.005  # thickness of its walls [m]
VIA = 0.120  # height of the plate above its seat where the insertion starts, along the slot [m]
LEAN = radians(25)  # of the hand out of the plate's normal, away from the rack
SPACING = 0.050  # between the slots' middles [m]
_BALL = 0.065  # of the stand's ball joint below the middle slot's mouth [m]

# The plate looks the same after a half turn about its handle's axis.
FLIPS: tuple[Array, ...] = (poses.IDENTITY, poses.pose(rotvec=(0, 0, pi)))
_TURNS = np.array(FLIPS)[:, 3:]
GRASPS: tuple[Array, ...] = tuple(
    side_grasp(quarter, swap, HANDLE_HEIGHT, LEAN) for quarter in range(4) for swap in (False, True)
)


@dataclass(frozen=True)
class Level(base.Level):
    """The rotation is the rack's tilt; clearance per side [m], angle between neighbouring slots [rad], chamfer."""

    clearance: float
    fan: float
    chamfer: bool = False


LEVELS: tuple[Level, ...] = (
    Level((0.0, radians(15)), 0.004, 0.0, chamfer=True),
    Level((0.0, radians(30)), 0.003, radians(12), chamfer=True),
    Level((0.0, radians(45)), 0.0025, radians(18)),
    Level((0.0, radians(60)), 0.001, radians(24)),
)


@dataclass(frozen=True)
class Mode:
    """One way to do the task: which slot, which flip of the plate (index into FLIPS), which grasp (T_plate_tcp)."""

    slot: int
    flip: int
    T_plate_tcp: Array


@dataclass(frozen=True)
class State(base.State):
    """Adds the poses of the plate and the rack."""

    plate: Array
    rack: Array


@dataclass(frozen=True)
class Fit:
    """How a plate stands to the nearest slot: depth [m], rotation [rad], offset of the blade's end [m]."""

    depth: float
    rotation: float
    lateral: float
    slot: int
    flip: int


def slots(fan: float) -> tuple[Array, ...]:
    """T_rack_slot of three slots side by side along x, the outer two leaning outward by `fan`; origin at the mouth."""
    return tuple(
        poses.pose((side * SPACING, 0, -0.5 * SPACING * abs(np.sin(fan) * side)), (0, side * fan, 0))
        for side in (-1, 0, 1)
    )


def fit(plate: Array, rack: Array, T_rack_slots: tuple[Array, ...]) -> Fit:
    """The fit to the slot and flip that are nearest, an end's way and a rotation (times ARM) added up."""
    seen, fits = poses.between(rack, plate), []
    for index, T_rack_slot in enumerate(T_rack_slots):
        local = poses.between(T_rack_slot, seen)
        x, y, z = poses.transform(local, (0, 0, -PLATE[2])).tolist()  # the same under a flip
        for flip, rotation in enumerate(poses.angles_after(local, _TURNS)):
            fits.append(Fit(-z, rotation, hypot(x, y), index, flip))
    return min(fits, key=lambda fit: fit.lateral + max(0.0, -fit.depth) + ARM * fit.rotation)


class RackSlot(PoseTask[State]):
    """Grasp a thin plate by its handle, stand it into any slot of a tilted rack and let go.

    The plate (a blade of {blade} mm with a handle of {handle} mm) lies on one of its two faces at a random
    yaw; the rack, at a random place, tilt, azimuth and roll, has {slots} slots, {depth:.0f} mm deep and side by side,
    whose neighbours lean apart. The plate looks the same after a half turn about its handle, so {modes} ends are
    right: mode = 2 slot + flip.

    {action}

    Observation, Dict of float32:

    | key | shape | meaning | MJCF |
    |---|---|---|---|
    {hand}
    | plate | 7 | pose of the plate's centre in the world, z to its handle, x its normal | body `plate` |
    | rack | 7 | pose of the middle slot's mouth in the world, z out of it, x across the slots | body `rack` |

    Slot i is `compose(rack, env.unwrapped.slots[i])`, its x the blade's normal.

    Levels (clearance per side, angle between neighbouring slots, tilt of the rack): {levels}.
    `rotation_range` [degrees] overrides the tilt. {knobs}

    Success ends the episode with the reward 1 (else 0): the walls of one slot bracket the blade, deeper than
    {success_depth:.0f} mm, turned less than {success_rotation:.0f} degrees from the slot (or {loose:.1f} times the
    clearance over the depth [rad], where the walls allow more), and the TCP is farther than {retreat:.0f} mm from the
    handle's middle: released and retreated.

    Other ends: a physics warning of MuJoCo or the plate under the table terminate; {steps} steps truncate,
    `max_episode_steps` changes that. `info` holds `is_success`, `mode` (the nearest end) and `failure`, at an end
    without success one of {failures}: never lifted, dropped, not aligned, aligned but not seated, seated but not let
    go, a broken simulation. Reset rejects scenes the robot cannot reach; its `info["mode_count"]` counts the ways
    (slot, flip, grasp) that remain.

    Version history: v0, first.
    """

    name, levels, state_type, held = "rack_slot", LEVELS, State, "plate"
    failures = ("no_grasp", "dropped", "misaligned", "not_deep_enough", "not_released", "physics")
    success_depth, success_rotation, loose, retreat = 0.030, radians(8), 2.4, 0.09
    sentences = ("stand the plate into the rack", "put the plate into a slot")
    goals = tuple(
        (f"stand the plate into the {which} slot", f"put the plate into slot {number}")
        for which, number in (("first", "one"), ("second", "two"), ("third", "three"))
    )

    def __init__(self, level: int = 1, robot: str = "free", **knobs: Any) -> None:
        """Build the scene; `knobs` are those of every task (`PoseTask`). Raises ValueError for one out of its range."""
        chosen: Level = self.chosen(level)
        self.clearance, self.slots = chosen.clearance, slots(chosen.fan)
        self.rotation_limit = max(self.success_rotation, self.loose * self.clearance / DEPTH)
        super().__init__(_task_bodies(self.slots, chosen), level, robot, **knobs)
        self._fit: tuple[State, Fit] | None = None

    # --- the rules ---

    def fit(self, state: State) -> Fit:
        """How the plate stands to the nearest slot."""
        if self._fit is None or self._fit[0] is not state:  # asked twice a step
            self._fit = state, fit(state.plate, state.rack, self.slots)
        return self._fit[1]

    def seated(self, fit: Fit) -> bool:
        """Whether the plate stands in a slot as success asks, whoever holds it."""
        return fit.depth > self.success_depth and self._aligned(fit)

    def succeeded(self, state: State) -> bool:
        return self.seated(self.fit(state)) and self._distance(state) > self.retreat

    def mode(self, state: State) -> int:
        stands = self.fit(state)
        return len(FLIPS) * stands.slot + stands.flip

    def goal_of(self, way: Mode) -> int:
        return way.slot

    def goal_at(self, state: State) -> int:
        return self.fit(state).slot

    def shortfall(self, state: State) -> str:
        stands = self.fit(state)
        if self.seated(stands):
            return "not_released"
        if not self.lifted:
            return "no_grasp"
        in_mouth = stands.depth > 0 and stands.lateral < 0.02
        if not in_mouth and self._distance(state) > 0.05:
            return "dropped"
        return "not_deep_enough" if self._aligned(stands) else "misaligned"

    def expert(self, choice: str = "greedy", seed: int | None = None) -> RackExpert:
        from .rack_expert import RackExpert

        return RackExpert(self, choice, seed)

    # --- the scene ---

    def draw_scene(self) -> State | None:
        rng = self.np_random
        position = self.draw((0.43, -0.17, 0.12), (0.57, 0.17, 0.17), (0.04, 0.06, 0.02))
        tilt, azimuth, roll = rng.uniform(*self.rotation), rng.uniform(-pi, pi), rng.uniform(-pi, pi)
        turn = poses.compose(poses.pose(rotvec=(0, 0, azimuth)), poses.pose(rotvec=(0, tilt, 0)))
        rack = poses.compose(poses.pose(position), poses.compose(turn, poses.pose(rotvec=(0, 0, roll))))
        xy, yaw = self.draw((0.34, -0.30), (0.66, 0.30), (0.04, 0.06)), rng.uniform(-pi, pi)
        if np.hypot(*(xy - rack[:2])) < 0.25:
            return None
        # On its face the plate rests on its handle and on the end of its blade.
        rest = np.arctan2(HANDLE[0] - BLADE[0], PLATE[2] + HANDLE_HEIGHT - HANDLE[2])
        lying = poses.compose(poses.pose(rotvec=(0, pi / 2 - rest, 0)), FLIPS[int(rng.integers(2))])
        height = HANDLE[0] - (HANDLE_HEIGHT - HANDLE[2]) * np.sin(rest)
        plate = poses.compose(poses.pose((*xy, height + 0.0005), (0, 0, yaw)), lying)
        return State(self.draw_hand(), MAX_OPENING, plate, rack)

    def place(self, state: State) -> None:
        super().place(state)
        self.put("stand", poses.pose(poses.transform(state.rack, (0, 0, -_BALL))))

    def feasible_modes(self, state: State) -> tuple[Mode, ...]:
        """The ways that begin with a grasp of the plate where it is, from above."""
        found = []
        for T_plate_tcp in GRASPS:
            at = poses.compose(state.plate, T_plate_tcp)
            if poses.rotate(at, (0, 0, 1))[2] < -0.6:
                keys = [backed(at, 0.10), at, raised(at, 0.12)]
                found += [mode for mode in _ends(T_plate_tcp) if self._possible(state, keys, mode)]
        return tuple(found)

    def feasible_insertions(self, state: State) -> tuple[Mode, ...]:
        """The ways that go on with the plate as it is held."""
        T_plate_tcp = poses.between(state.plate, state.tcp)
        return tuple(mode for mode in _ends(T_plate_tcp) if self._possible(state, [], mode))

    def slot(self, state: State, index: int) -> Array:
        """Pose of a slot's mouth in the world."""
        return poses.compose(state.rack, self.slots[index])

    # --- inside ---

    def _aligned(self, fit: Fit) -> bool:
        return fit.rotation < self.rotation_limit and fit.lateral < 0.012

    def _distance(self, state: State) -> float:
        return poses.norm(state.tcp[:3] - poses.transform(state.plate, (0, 0, HANDLE_HEIGHT)))

    def _possible(self, state: State, keys: list[Array], mode: Mode) -> bool:
        T_seat_tcp = poses.compose(FLIPS[mode.flip], mode.T_plate_tcp)  # a half turn is its own inverse
        mouth = self.slot(state, mode.slot)
        seat = poses.compose(mouth, poses.compose(poses.pose((0, 0, PLATE[2] - DEPTH)), T_seat_tcp))
        via = poses.compose(mouth, poses.compose(poses.pose((0, 0, PLATE[2] - DEPTH + VIA)), T_seat_tcp))
        turned = turned_above(keys[-1] if keys else state.tcp, via)
        keys = [*keys, turned, raised(via, 0.08), via, seat, backed(seat, 0.08)]
        ends = [(0, side * BLADE[1], -DEPTH / 2) for side in (-1, 1)]
        corners = [poses.transform(self.slot(state, slot), end) for slot in (0, 2) for end in ends]
        return self.reachable(state.tcp, keys, np.array(corners))


def _ends(T_plate_tcp: Array) -> list[Mode]:
    return [Mode(slot, flip, T_plate_tcp) for slot in range(3) for flip in range(len(FLIPS))]


def _task_bodies(T_rack_slots: tuple[Array, ...], level: Level) -> tuple[str, ...]:
    blade = scene.box(
        BLADE.tolist(), (0, 0, BLADE[2] - PLATE[2]), mass=0.08, material="peg", class_="slippery"
    )
    handle = scene.box(
        HANDLE.tolist(), (0, 0, HANDLE_HEIGHT), mass=0.06, material="peg_end", class_="slippery"
    )
    rack = "".join(_slot(T, level) for T in T_rack_slots)
    bar = (SPACING + 0.012, 0.012, 0.006)
    rack += scene.box(bar, (0, 0, -_BALL + 0.006), material="stand", class_="visual")
    return (
        scene.free_body("plate", blade + handle),
        scene.placed_body("rack", rack),
        scene.placed_body(
            "stand",
            '<geom type="cylinder" size=".013 .13" pos="0 0 -.13" material="stand"/>'
            '<geom type="sphere" size=".017" material="joint" class="visual"/>',
        ),
    )


def _slot(T_rack_slot: Array, level: Level) -> str:
    """Walls and floor around a cavity of the blade's section plus the clearance."""
    inner = scene.well(BLADE[0] + level.clearance, BLADE[1] + level.clearance, DEPTH, WALL, level.chamfer)
    return scene.placed(T_rack_slot.tolist(), inner)


datasheet(
    RackSlot,
    blade=" x ".join(f"{2000 * half:.0f}" for half in BLADE),
    handle=" x ".join(f"{2000 * half:.0f}" for half in HANDLE),
    slots=3,
    modes=3 * len(FLIPS),
    depth=1000 * DEPTH,
    levels="; ".join(
        f"{index}: {1000 * level.clearance:g} mm{' with chamfered mouths' if level.chamfer else ''}, "
        f"{degrees(level.fan):.0f} degrees, up to {degrees(level.rotation[1]):.0f} degrees"
        for index, level in enumerate(LEVELS)
    ),
    success_depth=1000 * RackSlot.success_depth,
    success_rotation=degrees(RackSlot.success_rotation),
    loose=RackSlot.loose,
    retreat=1000 * RackSlot.retreat,
)
