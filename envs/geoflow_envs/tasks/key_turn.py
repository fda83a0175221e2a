"""KeyTurn: put a key into a tilted lock and turn it, a screw motion; the env, its scene, its symmetries."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import cos, degrees, hypot, pi, radians, sin
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import poses, scene
from ..poses import Array
from .base import DOWN, Level, PoseTask, State, raised
from .datasheet import datasheet

if TYPE_CHECKING:
    from .key_turn_expert import KeyExpert

BLADE = np.array([0.006, 0.0022, 0.020])  # half lengths of what goes into the lock; z is the key's axis [m]
BOW = np.array([0.016, 0.0055, 0.016])  # half lengths of what the fingers hold [m]
DEPTH = 2 * float(BLADE[2])  # of the slot [m]
BOX = np.array([BOW[0], BOW[1], BOW[2] + BLADE[2]])  # half lengths of a box around the whole key [m]
WALL = 0.006  # thickness of the slot's walls [m]
VIA = 0.110  # height of the key above its seat where the insertion starts, along the lock's axis [m]
GRASP_HEIGHT = float(BOW[2])  # of the TCP above the key's shoulder [m]
OVERTURN = radians(10)  # the hand must be able to go this much beyond the angle: a key has play in its slot
_BALL = DEPTH + 0.016  # of the stand's ball joint below the mouth [m]
_DIAL = 0.026  # radius of the dial around the lock [m]
_SECTION = (
    '<contact><exclude body1="rotor" body2="stand"/></contact>'  # the rotor turns over the stand's ball
)
_TABLE_Z = 0.03  # a key whose shoulder is lower lies on the table [m]

FLIP = poses.pose(rotvec=(0, 0, pi))  # the blade looks the same after a half turn about its axis
_TURNS = np.array([poses.IDENTITY, FLIP])[:, 3:]


@dataclass(frozen=True)
class KeyLevel(Level):
    """One rung: range of the angle to turn [rad], clearance per side [m], range of the lock's tilt [rad]."""

    clearance: float
    tilt: tuple[float, float]


@dataclass(frozen=True)
class Mode:
    """One way to do the task: blade as it is or half a turn on (0 or 1), then turned by +1 or -1."""

    symmetry: int
    direction: int

    @property
    def index(self) -> int:
        """Its number in `info["mode"]`."""
        return 2 * self.symmetry + (self.direction < 0)


MODES: tuple[Mode, ...] = tuple(Mode(symmetry, direction) for symmetry in (0, 1) for direction in (1, -1))


@dataclass(frozen=True)
class KeyState(State):
    """Poses in the world; the lock's hinge and the angle it must pass [rad]."""

    key: Array
    lock: Array
    hinge: float
    turn: float

    @property
    def rotor(self) -> Array:
        """Pose of the part of the lock that turns."""
        return poses.integrate(self.lock, (0, 0, self.hinge))


@dataclass(frozen=True)
class Fit:
    """How a key stands to the slot: depth [m], angle of the axes [rad], offset of the tip [m]."""

    depth: float
    tilt: float
    lateral: float
    symmetry: int


def fit(key: Array, rotor: Array) -> Fit:
    """The fit under the symmetry that needs the least turning."""
    local = poses.between(rotor, key)  # the axis and the tip are the same after the half turn
    tip = poses.transform(local, (0, 0, -DEPTH))
    turns = poses.angles_after(local, _TURNS)
    tilt = poses.axis_angle(poses.IDENTITY, local)
    return Fit(-float(tip[2]), tilt, hypot(tip[0], tip[1]), turns.index(min(turns)))


def grasp(swap: bool, height: float = GRASP_HEIGHT, aside: float = 0.0, lean: float = 0.0) -> Array:
    """T_key_tcp of a hand in line with the key, that closes across the bow's thin side.

    `swap` exchanges the fingers; `aside` moves the hand along the bow, `lean` turns it about the closing direction.
    """
    facing = poses.compose(poses.pose((aside, 0, height), (pi, 0, 0)), poses.pose(rotvec=(0, lean, 0)))
    return poses.compose(facing, FLIP) if swap else facing


class KeyTurn(PoseTask[KeyState]):
    """Put a key into a tilted lock and turn it by a given angle, either way: a screw motion.

    The key (blade {blade} mm, bow {bow} mm) starts in the gripper at a random pose in the air, held a little
    differently each time; the lock ({depth:.0f} mm deep) stands at a random place, tilt, azimuth and roll. Its slot
    turns on a hinge with friction. The blade fits after a half turn too and both senses open, so {modes} ways are
    right.

    {action}

    Observation, Dict of float32:

    | key | shape | meaning | MJCF |
    |---|---|---|---|
    {hand}
    | key | 7 | pose of the key's shoulder in the world, z from the blade to the bow | body `key` |
    | lock | 7 | pose of the mouth's centre in the world, z out of the lock; does not turn | body `lock` |
    | hinge | 1 | angle of the slot about the lock's z [rad] | joint `hinge` |
    | turn | 1 | angle that the hinge must pass, either way [rad] | two green pins |

    A fully inserted key has the lock's pose turned by the hinge, up to the half turn.

    Levels (angle to turn, clearance per side, tilt of the lock): {levels}.
    `rotation_range` [degrees, {limits}] overrides the angle to turn, `tilt_range` [degrees] the tilt of the lock,
    `clearance` [m] the clearance. {knobs}

    Success ends the episode with the reward 1 (else 0): the hinge has passed the angle and the key is deeper than
    {success_depth:.0f} mm. A physics warning of MuJoCo or the key on the table terminate; {steps} steps truncate,
    `max_episode_steps` changes that. `info` holds `is_success`, `mode` (2 s + d: s = 1 for the half turn nearer to
    the slot, d = 1 for a negative angle) and `failure`, at an end without success one of {failures}. Reset rejects
    scenes the robot cannot do; its `info["mode_count"]` counts the ways that remain.

    Version history: v0, first.
    """

    name = "key_turn"
    levels = (
        KeyLevel((radians(45), radians(60)), 0.003, (0.0, radians(20))),
        KeyLevel((radians(60), radians(90)), 0.002, (0.0, radians(40))),
        KeyLevel((radians(90), radians(120)), 0.0015, (0.0, radians(60))),
        KeyLevel((radians(90), radians(150)), 0.001, (radians(30), radians(80))),
    )
    state_type = KeyState
    vectors: ClassVar[Mapping[str, int]] = {"hinge": 1, "turn": 1}
    held = "key"
    steps = 260
    failures = ("dropped", "misaligned", "not_deep_enough", "not_turned", "physics")
    rotation_limits = (10, 150)
    success_depth = 0.032
    sentences = ("turn the key in the lock", "unlock it with the key")
    goals = (
        ("turn the key to the left", "turn the key counterclockwise"),
        ("turn the key to the right", "turn the key clockwise"),
    )

    def __init__(
        self,
        level: int = 1,
        robot: str = "free",
        clearance: float | None = None,
        tilt_range: Sequence[float] | None = None,
        **knobs: Any,
    ) -> None:
        """Build the scene; raises ValueError for a knob out of its range."""
        chosen = self.chosen(level)
        if clearance is not None and not 0.0005 <= clearance <= 0.005:
            raise ValueError(f"clearance is per side in metres, from 0.0005 to 0.005; got {clearance!r}.")
        if tilt_range is not None and not (
            len(tilt_range) == 2 and 0 <= tilt_range[0] <= tilt_range[1] <= 90
        ):
            raise ValueError(
                f"tilt_range must be two angles in degrees, 0 <= low <= high <= 90; got {tilt_range!r}."
            )
        self.clearance = chosen.clearance if clearance is None else float(clearance)
        self.tilt_range: tuple[float, float] = (
            chosen.tilt if tilt_range is None else (radians(tilt_range[0]), radians(tilt_range[1]))
        )
        super().__init__(_bodies(self.clearance), level, robot, sections=(_SECTION,), **knobs)
        self._hinge = self.model.joint("hinge").qposadr[0]
        self._turn = 0.0

    # --- the task ---

    def draw_scene(self) -> KeyState | None:
        """A lock on its stand and a key in the hand, far enough from it."""
        rng = self.np_random
        position = self.draw((0.42, -0.18, 0.13), (0.58, 0.18, 0.20), (0.04, 0.06, 0.0))
        tilt, azimuth, roll = rng.uniform(*self.tilt_range), rng.uniform(-pi, pi), rng.uniform(-pi, pi)
        lean = poses.compose(poses.pose(rotvec=(0, 0, azimuth)), poses.pose(rotvec=(0, tilt, 0)))
        lock = poses.compose(poses.pose(position), poses.compose(lean, poses.pose(rotvec=(0, 0, roll))))

        position = self.draw((0.38, -0.24, 0.26), (0.62, 0.24, 0.42), (0.04, 0.06, 0.0))
        tilt, azimuth, yaw = rng.uniform(0, radians(40)), rng.uniform(-pi, pi), rng.uniform(-pi / 2, pi / 2)
        leaning = poses.pose(position, (tilt * cos(azimuth), tilt * sin(azimuth), 0))
        tcp = poses.compose(leaning, poses.compose(DOWN, poses.pose(rotvec=(0, 0, yaw))))
        T_key_tcp = grasp(
            bool(rng.integers(2)),
            GRASP_HEIGHT + rng.uniform(-0.003, 0.003),
            rng.uniform(-0.003, 0.003),
            rng.uniform(-radians(8), radians(8)),
        )
        key = poses.compose(tcp, poses.inverse(T_key_tcp))
        tip = poses.transform(key, (0, 0, -DEPTH))
        if min(poses.norm(tip - lock[:3]), poses.norm(tcp[:3] - lock[:3])) < 0.12 or tip[2] < 0.10:
            return None
        return KeyState(tcp, float(BOW[1]), key, lock, 0.0, rng.uniform(*self.rotation))

    def place(self, state: KeyState) -> None:
        """The key, the lock, its stand, and the pins on the dial at the angles that open it."""
        super().place(state)
        self._turn = state.turn
        self.put("stand", poses.pose(poses.transform(state.lock, (0, 0, -_BALL))))
        for name, sign in (("pin_left", 1), ("pin_right", -1)):
            self.put(name, poses.integrate(state.lock, (0, 0, sign * state.turn)))

    def value(self, name: str) -> Array | float:
        """Present value of a state field."""
        if name == "hinge":
            return float(self.data.qpos[self._hinge])
        return self._turn if name == "turn" else self.body_pose(name)

    def feasible_modes(self, state: KeyState) -> tuple[Mode, ...]:
        """The insertions and senses of turning that the hand reaches with the key as it holds it."""
        T_key_tcp = poses.between(state.key, state.tcp)
        return tuple(mode for mode in MODES if self._possible(state, mode, T_key_tcp))

    def succeeded(self, state: KeyState) -> bool:
        """The hinge has passed the angle with the key in the slot."""
        return abs(state.hinge) >= state.turn and self._seated(fit(state.key, state.rotor))

    def failed(self, state: KeyState) -> bool:
        """The key lies on the table."""
        return bool(state.key[2] < _TABLE_Z)

    def mode(self, state: KeyState) -> int:
        """Which half turn of the blade is nearer to the slot, and which way the hinge has turned."""
        return Mode(fit(state.key, state.rotor).symmetry, -1 if state.hinge < 0 else 1).index

    def goal_of(self, way: Mode) -> int:
        """0 for a turn to the left, by a positive angle."""
        return way.index % 2

    def goal_at(self, state: KeyState) -> int:
        """0 where the hinge has turned to the left."""
        return self.mode(state) % 2

    def shortfall(self, state: KeyState) -> str:
        """What stands between the state and success."""
        now = fit(state.key, state.rotor)
        if self._seated(now):
            return "not_turned"
        if not self.in_slot(now) and poses.norm(state.key[:3] - state.tcp[:3]) > 0.06:
            return "dropped"
        aligned = now.tilt < radians(10) and now.lateral < self.clearance + 0.003
        return "not_deep_enough" if aligned else "misaligned"

    def expert(self, choice: str = "greedy", seed: int | None = None) -> KeyExpert:
        """The closed-loop expert; `choice` "greedy" turns least, "random" draws among the feasible ways."""
        from .key_turn_expert import KeyExpert

        return KeyExpert(self, choice, seed)

    def in_slot(self, now: Fit) -> bool:
        """Whether the tip is in the slot, however deep."""
        return now.depth > 0 and now.lateral < self.clearance + 0.003

    # --- inside ---

    def _seated(self, now: Fit) -> bool:
        return now.depth > self.success_depth and self.in_slot(now)

    def _possible(self, state: KeyState, mode: Mode, T_key_tcp: Array) -> bool:
        held = poses.compose(FLIP, T_key_tcp) if mode.symmetry else T_key_tcp
        keys = []
        for height, angle in ((VIA, 0.0), (0.0, 0.0), (0.0, 0.5), (0.0, 1.0)):
            turn = mode.direction * angle * (state.turn + OVERTURN)
            seat = poses.compose(state.lock, poses.pose((0, 0, height), (0, 0, turn)))
            keys.append(poses.compose(seat, held))
        keys.insert(0, raised(keys[0], 0.06))
        middle = poses.transform(state.lock, (0, 0, -DEPTH / 2))
        return self.reachable(state.tcp, keys, middle)


def _bodies(clearance: float) -> tuple[str, ...]:
    key = scene.box(BLADE.tolist(), (0, 0, -BLADE[2]), mass=0.02, material="peg_end", class_="slippery")
    key += scene.box(BOW.tolist(), (0, 0, BOW[2]), mass=0.04, material="peg")
    key += '<geom type="cylinder" size=".009 .0022" pos="0 0 .036" euler="1.5708 0 0" material="peg" class="visual"/>'
    pin = scene.box((0.003, 0.0015, 0.004), (_DIAL + 0.006, 0, 0.003), rgba=".25 .75 .35 1", class_="visual")
    return (
        scene.free_body("key", key),
        scene.placed_body("lock", _dial() + _rotor(clearance)),
        scene.placed_body(
            "stand",
            '<geom type="cylinder" size=".013 .13" pos="0 0 -.13" material="stand"/>'
            '<geom type="sphere" size=".017" material="joint" class="visual"/>',
        ),
        scene.placed_body("pin_left", pin),
        scene.placed_body("pin_right", pin),
    )


def _dial() -> str:
    """A ring of plates around the rotor, on three struts from the block it stands in."""
    count = 16
    plates = "".join(
        scene.box(
            (0.003, _DIAL * pi / count, 0.004),
            (_DIAL * cos(angle), _DIAL * sin(angle), -0.005),
            euler=f"0 0 {angle}",
            material="stand",
            class_="visual",
        )
        for angle in (2 * pi * index / count for index in range(count))
    )
    block = f'<geom type="cylinder" size="{_DIAL} .003" pos="0 0 {-DEPTH - 0.012:.4f}" material="stand"'
    struts = "".join(
        f'<geom type="capsule" fromto="{_DIAL * cos(angle):.5f} {_DIAL * sin(angle):.5f} -.006 '
        f'{_DIAL * cos(angle):.5f} {_DIAL * sin(angle):.5f} {-DEPTH - 0.012:.4f}" size=".002" material="stand" '
        'class="visual"/>'
        for angle in (pi / 2, pi / 2 + 2 * pi / 3, pi / 2 - 2 * pi / 3)
    )
    return plates + block + ' class="visual"/>' + struts


def _rotor(clearance: float) -> str:
    """Walls and floor around a slot of the blade's section plus the clearance, on a hinge with friction."""
    x, y = BLADE[0] + clearance, BLADE[1] + clearance
    look = {"material": "socket", "class_": "slippery"}
    walls = "".join(
        scene.box((WALL / 2, y + WALL, DEPTH / 2), (side * (x + WALL / 2), 0, -DEPTH / 2), **look)
        + scene.box((x, WALL / 2, DEPTH / 2), (0, side * (y + WALL / 2), -DEPTH / 2), **look)
        for side in (1, -1)
    )
    floor = scene.box((x + WALL, y + WALL, 0.003), (0, 0, -DEPTH - 0.004), **look)
    pointer = scene.box(
        (0.004, 0.0012, 0.001), (x + WALL - 0.004, 0, 0.001), rgba=".98 .95 .85 1", class_="visual"
    )
    joint = (
        '<joint name="hinge" type="hinge" axis="0 0 1" frictionloss=".03" damping=".003" armature=".0002" '
        f'range="-2.96 2.96" {scene.FIRM_LIMIT}/>'
    )
    return f'<body name="rotor">{joint}{walls}{floor}{pointer}</body>'


datasheet(
    KeyTurn,
    blade=" x ".join(f"{2000 * half:g}" for half in BLADE),
    bow=" x ".join(f"{2000 * half:g}" for half in BOW),
    depth=1000 * DEPTH,
    modes=len(MODES),
    limits="{} to {}".format(*KeyTurn.rotation_limits),
    success_depth=1000 * KeyTurn.success_depth,
    levels="; ".join(
        f"{index}: {degrees(level.rotation[0]):.0f} to {degrees(level.rotation[1]):.0f} degrees, "
        f"{1000 * level.clearance:g} mm, {degrees(level.tilt[0]):.0f} to {degrees(level.tilt[1]):.0f} degrees"
        for index, level in enumerate(KeyTurn.levels)
    ),
)
