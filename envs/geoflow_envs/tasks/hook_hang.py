"""HookHang: hang a ring with a handle on one of three tilted hooks and let go; the env, its scene, its modes."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, degrees, hypot, pi, radians, sin, tan
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import poses, scene
from ..poses import Array
from ..robot import MAX_OPENING
from .base import Level, PoseTask, State, backed, raised
from .datasheet import datasheet

if TYPE_CHECKING:
    from .hook_hang_expert import HookExpert

HOOKS = 3
ROD, LENGTH = 0.005, 0.070  # radius of a hook's rod and how far it stands out [m]
TUBE, HEIGHT = 0.0035, 0.005  # half thickness of the ring in the plane, half height of ring and handle [m]
HANDLE = np.array([0.036, 0.006, HEIGHT])  # half lengths; x points away from the ring [m]
NECK = 0.004  # between the ring's middle line and the handle [m]
HANG_DEPTH = 0.045  # of the ring's lower face under the hook's tip where the hand lets go [m]
VIA = 0.110  # height of the ring above that where it starts to come down, along the hook [m]
GRASP_DEPTH = 0.004  # of the TCP above the handle's middle, toward the hand [m]
ROLLS = 4  # directions of the handle about a hook that are tried
_PALM = np.array([0.022, 0.055]) + 0.020  # half widths of the hand with some room [m]
_POST = 0.012  # from a hook's root to the middle of the ball under it [m]

_ABOVE = poses.pose((0, 0, VIA))
FLIP = poses.pose(rotvec=(pi, 0, 0))  # the ring looks the same from its other face


@dataclass(frozen=True)
class HookLevel(Level):
    """One rung: range of the hooks' tilt from the vertical [rad], inner radius of the ring [m]."""

    radius: float


@dataclass(frozen=True)
class Mode:
    """One way to do the task: which hook, the handle's direction about it [rad], fingers exchanged or not."""

    hook: int
    roll: float
    swap: bool


MODES: tuple[Mode, ...] = tuple(
    Mode(hook, 2 * pi * step / ROLLS, swap)
    for hook in range(HOOKS)
    for step in range(ROLLS)
    for swap in (False, True)
)


@dataclass(frozen=True)
class HookState(State):
    """Poses in the world."""

    ring: Array
    hook_0: Array
    hook_1: Array
    hook_2: Array

    @property
    def hooks(self) -> tuple[Array, ...]:
        """Poses of the three hooks' roots, z along the rod."""
        return self.hook_0, self.hook_1, self.hook_2


def octagon(radius: float, mass: float, **look: object) -> str:
    """A ring of eight boxes about z; `radius` is that of the largest rod that passes [m]."""
    middle = radius + TUBE
    return "".join(
        scene.box(
            (TUBE, (middle + TUBE) * tan(pi / 8), HEIGHT),
            (middle * cos(angle), middle * sin(angle), 0),
            euler=f"0 0 {angle}",
            mass=mass / 8,
            **look,
        )
        for angle in (pi * index / 4 for index in range(8))
    )


def handle_middle(radius: float) -> float:
    """Distance of the handle's middle from the ring's [m]."""
    return radius + 2 * TUBE + NECK + float(HANDLE[0])


def handled_ring(radius: float, mass: float) -> str:
    """Geoms of a ring with a handle along x."""
    neck = scene.box(
        (NECK, 0.005, HEIGHT), (radius + 2 * TUBE + NECK / 2, 0, 0), mass=0.1 * mass, material="peg"
    )
    handle = scene.box(HANDLE.tolist(), (handle_middle(radius), 0, 0), mass=0.45 * mass, material="peg_end")
    return octagon(radius, 0.45 * mass, material="peg", class_="slippery") + neck + handle


def grasp(radius: float, below: bool, swap: bool) -> Array:
    """T_ring_tcp of a hand over the ring's face (z, or -z with `below`) that holds the handle's middle."""
    side = FLIP if below else poses.IDENTITY
    facing = poses.compose(side, poses.pose((handle_middle(radius), 0, GRASP_DEPTH), (pi, 0, 0)))
    return poses.compose(facing, poses.pose(rotvec=(0, 0, pi))) if swap else facing


def height_on(hook: Array, ring: Array, radius: float) -> float | None:
    """How high on a hook's rod the plane of a ring is [m]; None where the rod is not in the ring."""
    if poses.norm(hook[:3] - ring[:3]) > LENGTH + radius + TUBE:
        return None
    local = poses.between(ring, hook)
    root, tip = local[:3], _tip(local)
    if (root[2] > 0) == (tip[2] > 0):
        return None
    part = root[2] / (root[2] - tip[2])
    crossing = root + part * (tip - root)
    return float(part * LENGTH) if hypot(crossing[0], crossing[1]) < radius + TUBE else None


class HookHang(PoseTask[HookState]):
    """Hang a ring with a handle on one of three tilted hooks and let go.

    The ring lies on the table at a random yaw, either face up; its handle is {handle} mm. Three hooks, rods
    {rod:.0f} mm thick that stand {length:.0f} mm out of a ball, have random places, tilts and azimuths. Any hook is
    right, with the handle in any direction about it.

    {action}

    Observation, Dict of float32:

    | key | shape | meaning | MJCF |
    |---|---|---|---|
    {hand}
    | ring | 7 | pose of the ring's centre in the world, z through the ring, x to the handle | body `ring` |
    | hook_0, hook_1, hook_2 | 7 each | pose of a rod's root in the world, z to its tip | body of that name |

    A ring on a hook has its centre near the hook's z axis; half turns of the ring about x change nothing.

    Levels (tilt of the hooks from the vertical, inner radius of the ring): {levels}.
    `rotation_range` [degrees, {limits}] overrides the tilt, `radius` [m] the inner radius. {knobs}

    Success ends the episode with the reward 1 (else 0): a rod passes through the ring, which is at least
    {margin:.0f} mm below its tip and moves by less than {speed:.2f} m/s and {spin:.0f} rad/s, and the TCP is farther
    than {retreat:.0f} mm from the handle's middle: released, hanging. A physics warning of MuJoCo or the ring under
    the table terminate; {steps} steps truncate, `max_episode_steps` changes that. `info` holds `is_success`, `mode`
    (the hook in the ring, or the nearest) and `failure`, at an end without success one of {failures}. Reset rejects
    scenes the robot cannot do; its `info["mode_count"]` counts the ways that remain (hook, direction of the handle,
    fingers).

    Version history: v0, first.
    """

    name = "hook_hang"
    levels = (
        HookLevel((0.0, radians(20)), 0.024),
        HookLevel((radians(10), radians(40)), 0.020),
        HookLevel((radians(20), radians(60)), 0.016),
        HookLevel((radians(40), radians(75)), 0.012),
    )
    state_type = HookState
    held = "ring"
    steps = 320
    failures = ("no_grasp", "dropped", "not_on_hook", "not_released", "physics")
    rotation_limits = (0, 80)
    margin, speed, spin, retreat = 0.012, 0.05, 1.0, 0.08
    sentences = ("hang the ring on a hook", "hang up the ring")
    goals = tuple(
        (f"hang the ring on the {which} hook", f"the {which} hook is for the ring")
        for which in ("left", "middle", "right")
    )

    def __init__(
        self, level: int = 1, robot: str = "free", radius: float | None = None, **knobs: Any
    ) -> None:
        """Build the scene; raises ValueError for a knob out of its range."""
        if radius is not None and not 0.008 <= radius <= 0.03:
            raise ValueError(f"radius is the ring's inner one in metres, from 0.008 to 0.03; got {radius!r}.")
        self.radius: float = self.chosen(level).radius if radius is None else float(radius)
        super().__init__(_bodies(self.radius), level, robot, **knobs)
        start = self.model.joint("ring_free").dofadr[0]
        self._ring_velocity = slice(start, start + 6)

    # --- the task ---

    def draw_scene(self) -> HookState | None:
        """Three hooks in a row and a ring in front of them."""
        rng = self.np_random
        hooks = []
        for index in range(HOOKS):
            position = self.draw((0.50, -0.02, 0.10), (0.60, 0.02, 0.17), (0.03, 0.02, 0.02))
            position[1] += 0.21 * (index - 1)
            tilt, azimuth, roll = rng.uniform(*self.rotation), rng.uniform(-pi, pi), rng.uniform(-pi, pi)
            lean = poses.compose(poses.pose(position, (0, 0, azimuth)), poses.pose(rotvec=(0, tilt, 0)))
            hooks.append(poses.compose(lean, poses.pose(rotvec=(0, 0, roll))))
        middle, yaw = self.draw((0.33, -0.24), (0.42, 0.24), (0.03, 0.06)), rng.uniform(-pi, pi)
        ring = poses.pose((*middle, HEIGHT), (0, 0, yaw))
        if rng.integers(2):
            ring = poses.compose(ring, FLIP)
        ring = poses.compose(ring, poses.pose((-handle_middle(self.radius) / 2, 0, 0)))
        ends = [poses.transform(ring, (x, 0, 0)) for x in (0, 0.04, 0.08, 0.12)]
        posts = [point for hook in hooks for point in (hook[:3], _tip(hook))]
        if min(np.hypot(*(end - post)[:2]) for end in ends for post in posts) < 0.09:
            return None
        return HookState(self.draw_hand(), MAX_OPENING, ring, *hooks)

    def place(self, state: HookState) -> None:
        """The ring, the hooks and the posts under them."""
        super().place(state)
        for index, hook in enumerate(state.hooks):
            self.put(f"post_{index}", poses.pose(poses.transform(hook, (0, 0, -_POST))))

    def feasible_modes(self, state: HookState) -> tuple[Mode, ...]:
        """The ways to grasp the ring from above and to hang it, clear of the other hooks."""
        below, others = self.below(state), _others(state.hooks)
        modes = []
        for swap in (False, True):
            T_ring_tcp = grasp(self.radius, below, swap)
            at_ring = poses.compose(state.ring, T_ring_tcp)
            if poses.rotate(at_ring, (0, 0, 1))[2] > -0.6:
                continue
            keys = [backed(at_ring, 0.10), at_ring, raised(at_ring, 0.12)]
            modes += [
                mode
                for mode in MODES
                if mode.swap == swap and self._possible(state, mode, T_ring_tcp, below, keys, others)
            ]
        return tuple(modes)

    def feasible_hooks(self, state: HookState) -> tuple[Mode, ...]:
        """The ways to hang the ring as it is held."""
        T_ring_tcp = poses.between(state.ring, state.tcp)
        below, others = bool(T_ring_tcp[2] < 0), _others(state.hooks)
        modes = (mode for mode in MODES if not mode.swap)
        return tuple(mode for mode in modes if self._possible(state, mode, T_ring_tcp, below, [], others))

    def succeeded(self, state: HookState) -> bool:
        """The ring hangs on a hook, at rest and let go."""
        return self.on_hook(state) is not None and self._released(state) and self._rests()

    def goal_of(self, way: Mode) -> int:
        """How many hooks stand further left than the way's, as the robot looks at them: 0 for the left one."""
        return _left_of(self.state(), way.hook)

    def goal_at(self, state: HookState) -> int:
        """0 where the ring is on the left hook, or nearest to it."""
        return _left_of(state, self.mode(state))

    def mode(self, state: HookState) -> int:
        """The hook in the ring, or the nearest one."""
        on = self.on_hook(state)
        if on is not None:
            return on[0]
        middles = [poses.transform(hook, (0, 0, LENGTH / 2)) for hook in state.hooks]
        off = [poses.norm(state.ring[:3] - middle) for middle in middles]
        return off.index(min(off))

    def shortfall(self, state: HookState) -> str:
        """What stands between the state and success."""
        if self.on_hook(state) is not None:
            return "not_released"
        if not self.lifted:
            return "no_grasp"
        middle = poses.transform(state.ring, (handle_middle(self.radius), 0, 0))
        return "dropped" if poses.norm(middle - state.tcp[:3]) > 0.05 else "not_on_hook"

    def expert(self, choice: str = "greedy", seed: int | None = None) -> HookExpert:
        """The closed-loop expert; `choice` "greedy" turns least, "random" draws among the feasible ways."""
        from .hook_hang_expert import HookExpert

        return HookExpert(self, choice, seed)

    def on_hook(self, state: HookState) -> tuple[int, float] | None:
        """Which hook passes through the ring, and how far under its tip the ring is [m]."""
        for index, hook in enumerate(state.hooks):
            height = height_on(hook, state.ring, self.radius)
            if height is not None and LENGTH - height > self.margin:
                return index, LENGTH - height
        return None

    def below(self, state: HookState) -> bool:
        """Whether the ring lies with its z down, so that a hand from above holds it over -z."""
        return bool(poses.rotate(state.ring, (0, 0, 1))[2] < 0)

    # --- inside ---

    def _released(self, state: HookState) -> bool:
        middle = poses.transform(state.ring, (handle_middle(self.radius), 0, 0))
        return poses.norm(middle - state.tcp[:3]) > self.retreat

    def _rests(self) -> bool:
        velocity = self.data.qvel[self._ring_velocity]
        return poses.norm(velocity[:3]) < self.speed and poses.norm(velocity[3:]) < self.spin

    def _possible(
        self,
        state: HookState,
        mode: Mode,
        T_ring_tcp: Array,
        below: bool,
        keys: Sequence[Array],
        others: Sequence[Array],
    ) -> bool:
        seat = seat_on(state.hooks[mode.hook], mode.roll)
        T_seat_tcp = poses.compose(FLIP, T_ring_tcp) if below else T_ring_tcp
        hanging = poses.compose(seat, T_seat_tcp)
        via = poses.compose(poses.compose(seat, _ABOVE), T_seat_tcp)
        keys = [*keys, raised(via, 0.04), via, hanging, backed(hanging, 0.08)]
        root = state.hooks[mode.hook][:3]
        return self.reachable(state.tcp, keys, root) and _clear([hanging, via], others[mode.hook])


def seat_on(hook: Array, roll: float) -> Array:
    """Pose of a ring (its z along the hook's) where the hand lets it go."""
    return poses.compose(hook, poses.pose((0, 0, LENGTH - HANG_DEPTH + HEIGHT), (0, 0, roll)))


def _tip(hook: Array) -> Array:
    return poses.transform(hook, (0, 0, LENGTH))


def _others(hooks: Sequence[Array]) -> list[Array]:
    """For each hook, points on the rods of the others and on the posts under them (n, 3) [m]."""
    below = [(0.0, 0.0, -depth) for depth in (0.04, 0.08)]
    points = [
        [poses.transform(hook, (0, 0, part * LENGTH)) for part in (0, 0.5, 1)] + list(hook[:3] + below)
        for hook in hooks
    ]
    return [np.concatenate(points[:index] + points[index + 1 :]) for index in range(len(hooks))]


def _clear(tcps: Sequence[Array], points: Array) -> bool:
    """Whether a hand keeps off points (n, 3) at each of some poses."""
    local = np.concatenate([(points - tcp[:3]) @ poses.matrix(tcp) for tcp in tcps])
    aside = (np.abs(local[:, :2]) < _PALM).all(axis=1)
    return not (aside & (local[:, 2] > -0.16) & (local[:, 2] < 0.03)).any()


def _left_of(state: HookState, hook: int) -> int:
    """How many hooks stand further left, toward +y, than one of them."""
    return sum(bool(other[1] > state.hooks[hook][1]) for other in state.hooks)


def _bodies(radius: float) -> tuple[str, ...]:
    stop = radius + 0.005  # of the ball that a ring does not pass
    hook = (
        f'<geom type="capsule" fromto="0 0 0 0 0 {LENGTH}" size="{ROD}" material="socket" class="slippery"/>'
        f'<geom type="sphere" size="{stop}" pos="0 0 {-_POST}" material="joint" class="slippery"/>'
        f'<geom type="sphere" size="{ROD + 0.0015}" pos="0 0 {LENGTH}" material="peg_end" class="visual"/>'
    )
    post = '<geom type="cylinder" size=".010 .13" pos="0 0 -.13" material="stand"/>'
    return (
        scene.free_body("ring", handled_ring(radius, 0.08)),
        *(scene.placed_body(f"hook_{index}", hook) for index in range(HOOKS)),
        *(scene.placed_body(f"post_{index}", post) for index in range(HOOKS)),
    )


datasheet(
    HookHang,
    handle=" x ".join(f"{2000 * half:g}" for half in HANDLE),
    rod=2000 * ROD,
    length=1000 * LENGTH,
    limits="{} to {}".format(*HookHang.rotation_limits),
    margin=1000 * HookHang.margin,
    speed=HookHang.speed,
    spin=HookHang.spin,
    retreat=1000 * HookHang.retreat,
    levels="; ".join(
        f"{index}: {degrees(level.rotation[0]):.0f} to {degrees(level.rotation[1]):.0f} degrees, "
        f"{1000 * level.radius:g} mm"
        for index, level in enumerate(HookHang.levels)
    ),
)
