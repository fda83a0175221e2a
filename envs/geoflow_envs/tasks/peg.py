"""TiltedPegInsert: put a cuboid peg into a tilted socket and let go; the env, its scene, its symmetries."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, degrees, pi, radians, sin
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import mujoco
import numpy as np
from numpy.typing import NDArray

from .. import poses, scene
from ..poses import Array
from ..rendering import FrameRenderer
from ..robot import CONTROL_HZ, HOME, MAX_ANGULAR_SPEED, MAX_OPENING, MAX_SPEED, ROBOTS, WORKSPACE
from ..spaces import PoseBox

if TYPE_CHECKING:
    from .peg_expert import PegExpert

PEG = np.array([0.010, 0.016, 0.060])  # half lengths; the peg's z axis is its long axis [m]
DEPTH = 0.060  # of the socket [m]
WALL = 0.008  # thickness of its walls [m]
_BALL = DEPTH + WALL + 0.012  # of the stand's ball joint below the mouth [m]
VIA = 0.150  # height of the peg above its seat where the insertion starts, along the socket's axis [m]
GRASP_HEIGHT = 0.030  # of the TCP above the peg's centre, toward the end that stays outside [m]
LEAN = radians(25)  # of the hand out of the peg's normal, away from the socket

DOWN = poses.pose(rotvec=(pi, 0, 0))  # a hand that points down, as the arm's does at home

# The peg looks the same after half turns about its axes (D2); insertion i seats the frame peg * SYMMETRIES[i].
SYMMETRIES: tuple[Array, ...] = (
    poses.IDENTITY,
    poses.pose(rotvec=(pi, 0, 0)),
    poses.pose(rotvec=(0, pi, 0)),
    poses.pose(rotvec=(0, 0, pi)),
)


@dataclass(frozen=True)
class Level:
    """One rung of the ladder: clearance per side [m], range of the socket's tilt [rad], chamfered mouth."""

    clearance: float
    tilt: tuple[float, float]
    chamfer: bool = False


LEVELS: tuple[Level, ...] = (
    Level(0.008, (0.0, radians(30)), chamfer=True),
    Level(0.005, (0.0, radians(60))),
    Level(0.0025, (0.0, radians(60))),
    Level(0.001, (0.0, radians(90))),
)


@dataclass(frozen=True)
class Mode:
    """One way to do the task: which insertion (index into SYMMETRIES) with which grasp (T_peg_tcp)."""

    symmetry: int
    T_peg_tcp: Array


@dataclass(frozen=True)
class State:
    """What the task and its expert see: poses in the world, the finger opening [m]."""

    tcp: Array
    opening: float
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
    """T_peg_tcp of a hand that comes from the side at `quarter` quarter turns about a peg with its end down.

    `swap` exchanges the fingers; `lean` turns the hand about its closing direction, away from the socket.
    """
    side = poses.compose(poses.pose((0, 0, height)), poses.pose(rotvec=(0, 0, quarter * pi / 2)))
    # TCP z (approach) = -x leaning to -z, TCP y (closing) = y.
    facing = poses.compose(side, poses.pose(rotvec=(0, -(pi / 2 + lean), 0)))
    return poses.compose(facing, poses.pose(rotvec=(0, 0, pi))) if swap else facing


MODES: tuple[Mode, ...] = tuple(
    Mode(symmetry, poses.compose(SYMMETRIES[symmetry], grasp(quarter, swap)))
    for symmetry in range(4)
    for quarter in range(4)
    for swap in (False, True)
)


def fit(peg: Array, socket: Array) -> Fit:
    """The fit under the symmetry that needs the least turning."""
    turns = [poses.norm(poses.rotvec(socket, poses.compose(peg, symmetry))) for symmetry in SYMMETRIES]
    symmetry = int(np.argmin(turns))
    local = poses.between(socket, poses.compose(peg, SYMMETRIES[symmetry]))
    tip = poses.transform(local, (0, 0, -PEG[2]))
    return Fit(
        -float(tip[2]), poses.axis_angle(poses.IDENTITY, local), float(np.hypot(tip[0], tip[1])), symmetry
    )


def lowest_point(T: Array, half: Array) -> float:
    """Height of the lowest corner of a box in the world [m]."""
    return float(T[2] - np.abs(poses.matrix(T)[2]) @ half)


class TiltedPegInsert(gym.Env[dict[str, Any], NDArray[Any]]):
    """Grasp a peg from the table, put it into a tilted socket and let go.

    The peg ({peg} mm) lies on a random face at a random yaw; the socket ({depth:.0f} mm deep,
    rectangular) stands at a random place, tilt, azimuth and roll. With `in_hand=True` the peg starts in
    the gripper, at a random pose in the air and held a little differently each time. The peg has the
    symmetry D2, so {symmetries} insertions are right, each with several grasps.

    Action, Box ({action},) float32, at {hz} Hz:

    | index | meaning | unit, frame |
    |---|---|---|
    | 0-2 | TCP position | m, world, clipped to {workspace} |
    | 3-6 | TCP rotation, quaternion w x y z | world; norm 0.9 to 1.1, normalised |
    | 7 | gripper | -1 opens, +1 closes |

    The commanded pose moves toward the action by at most {speed:.2f} m/s and {turn:.2f} rad/s. TCP: between
    the finger pads, z out of the hand, y along the closing direction (MJCF body `hand`).

    Observation, Dict of float32:

    | key | shape | meaning | MJCF |
    |---|---|---|---|
    | tcp | 7 | TCP pose in the world (x y z qw qx qy qz, m) | body `hand` |
    | gripper | 1 | finger opening: -1 fully open, +1 closed | joints `finger_left`, `finger_right` |
    | peg | 7 | pose of the peg's centre in the world, z its long axis | body `peg` |
    | socket | 7 | pose of the mouth's centre in the world, z out of the socket | body `socket` |

    A fully inserted peg has the socket's pose, up to the symmetry.

    Levels (clearance per side, tilt of the socket): {levels}.
    `clearance` [m] and `tilt_range` [degrees] override them. Robots: `free`, a gripper that flies, and
    `panda`, a 7-DoF arm. `width`, `height` and `camera` ({cameras}) shape the frames of `render_mode="rgb_array"`.

    Success ends the episode with the reward 1 (else 0): the peg stands deeper than {success_depth:.0f} mm, its
    axis within {success_tilt:.0f} degrees and its lower end within {success_lateral:.0f} mm of the socket's axis,
    and the TCP is farther than {retreat:.0f} mm from the peg's centre: released and retreated, since a hand that
    holds the peg cannot be so far. In a socket with more than {firm:.0f} mm of clearance a released peg leans
    against the rim; there the limits are {loose_tilt:.1f} times the clearance over the depth [rad] and
    {loose_lateral:.1f} times the clearance, about what the walls allow.

    Other ends: a physics warning of MuJoCo (the state is then worthless) or the peg under the table
    terminate; {steps} steps ({steps_in_hand} with `in_hand`) truncate, `max_episode_steps` changes that. `info`
    holds `is_success`, `mode` (nearest of the insertions) and `failure`, at an end without success one
    of `no_grasp` (never lifted), `dropped`, `misaligned`, `not_deep_enough` (aligned but not seated, or
    seated and not let go), `physics`. Reset rejects scenes the robot cannot reach (the workspace for
    `free`, IK along the key poses for `panda`); its `info["mode_count"]` counts the ways that remain.

    Version history: v0, first.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": CONTROL_HZ}  # noqa: RUF012
    control_hz = CONTROL_HZ
    observation_kinds: dict[str, str] = {"tcp": "pose", "gripper": "vector", "peg": "pose", "socket": "pose"}  # noqa: RUF012
    success_depth, success_tilt, success_lateral, retreat = 0.045, radians(8), 0.008, 0.09
    firm_clearance, loose_tilt, loose_lateral = 0.005, 2.2, 1.5
    steps_full, steps_in_hand = 400, 260

    def __init__(
        self,
        level: int = 1,
        robot: str = "free",
        in_hand: bool = False,
        clearance: float | None = None,
        tilt_range: Sequence[float] | None = None,
        render_mode: str | None = None,
        width: int = 640,
        height: int = 480,
        camera: str = "front",
    ) -> None:
        """Build the scene; raises ValueError for a knob out of its range."""
        if isinstance(level, bool) or level not in range(len(LEVELS)):
            raise ValueError(f"level must be one of 0, 1, 2, 3; got {level!r}.")
        if robot not in ROBOTS:
            raise ValueError(f"robot must be one of {', '.join(map(repr, ROBOTS))}; got {robot!r}.")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be None or 'rgb_array'; got {render_mode!r}.")
        if clearance is not None and not 0.0005 <= clearance <= 0.02:
            raise ValueError(f"clearance is per side in metres, from 0.0005 to 0.02; got {clearance!r}.")
        if tilt_range is not None and not (
            len(tilt_range) == 2 and 0 <= tilt_range[0] <= tilt_range[1] <= 90
        ):
            raise ValueError(
                f"tilt_range must be two angles in degrees, 0 <= low <= high <= 90; got {tilt_range!r}."
            )
        if camera not in scene.CAMERAS:
            raise ValueError(f"camera must be one of {', '.join(map(repr, scene.CAMERAS))}; got {camera!r}.")
        chosen = LEVELS[level]
        self.level, self.in_hand, self.render_mode = level, bool(in_hand), render_mode
        self.clearance = chosen.clearance if clearance is None else float(clearance)
        self.tilt_range = (
            chosen.tilt if tilt_range is None else (radians(tilt_range[0]), radians(tilt_range[1]))
        )
        self.tilt_limit, self.lateral_limit = self.success_tilt, self.success_lateral
        if self.clearance > self.firm_clearance:  # a released peg leans as far as the walls let it
            self.tilt_limit = self.loose_tilt * self.clearance / DEPTH
            self.lateral_limit = self.loose_lateral * self.clearance
        self.episode_steps = self.steps_in_hand if in_hand else self.steps_full

        embodiment = ROBOTS[robot]
        bodies = (*embodiment.bodies, *_task_bodies(self.clearance, chosen.chamfer))
        self.model = mujoco.MjModel.from_xml_string(
            scene.mjcf(bodies, embodiment.sections, "tilted_peg_insert")
        )
        self.data = mujoco.MjData(self.model)
        self.robot = embodiment(self.model)
        self._peg = self.model.body("peg").id
        self._peg_joint = self.model.joint("peg_free").qposadr[0]
        self._socket = self.model.body("socket").mocapid[0]
        self._stand = self.model.body("stand").mocapid[0]
        self._frames = FrameRenderer(self.model, width, height, camera)

        self.action_space = PoseBox(WORKSPACE[0], WORKSPACE[1], extras=1)
        bound = np.array(
            [10.0] * 3 + [1.01] * 4, np.float32
        )  # metres; a rounded quaternion may exceed 1 a little
        pose_box = gym.spaces.Box(-bound, bound)
        self.observation_space = gym.spaces.Dict(
            {
                "tcp": pose_box,
                "gripper": gym.spaces.Box(-1.5, 1.5, (1,), np.float32),
                "peg": pose_box,
                "socket": pose_box,
            }
        )
        self.episode = 0  # counts resets, so that an expert notices a new scene
        self.modes: tuple[Mode, ...] = ()
        self._lifted = False

    # --- gymnasium ---

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
        """A new scene that the robot can reach."""
        super().reset(seed=seed)
        for _ in range(200):
            if self._try_scene():
                break
        else:
            raise RuntimeError(
                "no reachable scene in 200 draws with tilt_range "
                f"{tuple(round(degrees(angle), 1) for angle in self.tilt_range)} degrees; widen it."
            )
        self.episode += 1
        self._lifted = self.in_hand
        info = {
            "is_success": False,
            "failure": "",
            "mode": self.fit().symmetry,
            "mode_count": len(self.modes),
        }
        return self._observation(), info

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[dict[str, NDArray[np.float32]], float, bool, bool, dict[str, Any]]:
        """One control step; raises ValueError, with the state untouched, for what is no pose action."""
        target = self._checked(action)
        self.robot.step(self.data, target[:7], target[7])
        mujoco.mj_kinematics(self.model, self.data)  # poses of now, not of one physics step ago
        state = self.state()
        self._lifted = self._lifted or (
            state.peg[2] > 0.05 and poses.norm(state.peg[:3] - state.tcp[:3]) < 0.08
        )
        fit = self.fit()
        success = not self._broken() and self.seated(fit) and self._retreated(state)
        terminated = success or self._broken() or bool(state.peg[2] < -0.02)
        info = {"is_success": success, "failure": "", "mode": fit.symmetry}
        if terminated and not success:
            info["failure"] = self.failure_kind()
        return self._observation(), float(success), terminated, False, info

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """A frame (height, width, 3), or None without a render_mode."""
        return self._frames.render(self.data) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Free the renderer."""
        self._frames.close()

    # --- what the expert and the evaluation read ---

    def expert(self, choice: str = "greedy", seed: int | None = None) -> PegExpert:
        """The closed-loop expert; `choice` "greedy" turns least, "random" draws among the feasible ways."""
        from .peg_expert import PegExpert

        return PegExpert(self, choice, seed)

    def state(self) -> State:
        """The present state in float64."""
        data, peg = self.data, self._peg
        return State(
            self.robot.tcp(data),
            self.robot.opening(data),
            np.concatenate([data.xpos[peg], data.xquat[peg]]),
            np.concatenate([data.mocap_pos[self._socket], data.mocap_quat[self._socket]]),
        )

    def fit(self) -> Fit:
        """How the peg stands to the socket now."""
        state = self.state()
        return fit(state.peg, state.socket)

    def seated(self, fit: Fit) -> bool:
        """Whether the peg stands in the socket as success asks, whoever holds it."""
        return (
            fit.depth > self.success_depth and fit.tilt < self.tilt_limit and fit.lateral < self.lateral_limit
        )

    def failure_kind(self) -> str:
        """What stands between the present state and success."""
        state, fit = self.state(), self.fit()
        if self._broken():
            return "physics"
        if self.seated(fit):
            return "not_deep_enough"  # seated, and the hand has not let go
        if not self._lifted:
            return "no_grasp"
        in_mouth = fit.depth > 0 and fit.lateral < self.lateral_limit
        if not in_mouth and poses.norm(state.peg[:3] - state.tcp[:3]) > 0.075:
            return "dropped"
        aligned = fit.tilt < self.tilt_limit and fit.lateral < self.lateral_limit
        return "not_deep_enough" if aligned else "misaligned"

    def feasible_modes(self, state: State) -> tuple[Mode, ...]:
        """The ways from a free peg, grasped from above, through the socket to the retreated hand."""
        return tuple(
            mode for mode in MODES if self._grasp_from_above(state, mode) and self._possible(state, mode)
        )

    def feasible_insertions(self, state: State) -> tuple[Mode, ...]:
        """The ways to insert the peg as it is held: the end near the hand stays outside."""
        T_peg_tcp = poses.between(state.peg, state.tcp)
        upper = (0, 3) if T_peg_tcp[2] > 0 else (1, 2)
        modes = (Mode(symmetry, T_peg_tcp) for symmetry in upper)
        return tuple(mode for mode in modes if self._reachable(state, [], mode))

    # --- inside ---

    def _checked(self, action: NDArray[np.float32]) -> Array:
        values = np.asarray(action, dtype=np.float64)
        if values.shape != (8,):
            raise ValueError(
                f"an action has shape (8,): x y z qw qx qy qz gripper; got {values.shape}. "
                "One step takes one action, not a chunk."
            )
        if not np.isfinite(values).all():
            raise ValueError(f"an action must be finite; got {values.tolist()}.")
        length = float(np.linalg.norm(values[3:7]))
        if not 0.9 <= length <= 1.1:
            raise ValueError(
                f"the action's quaternion (qw qx qy qz, entries 3 to 6) must have a norm within [0.9, 1.1]; "
                f"got {length:.3g}. Normalise it first."
            )
        values = values.copy()
        values[3:7] /= length
        return values

    def _observation(self) -> dict[str, NDArray[np.float32]]:
        state = self.state()
        return {
            "tcp": state.tcp.astype(np.float32),
            "gripper": np.array([1 - 2 * state.opening / MAX_OPENING], np.float32),
            "peg": state.peg.astype(np.float32),
            "socket": state.socket.astype(np.float32),
        }

    def _broken(self) -> bool:
        return any(self.data.warning.number)

    def _retreated(self, state: State) -> bool:
        return poses.norm(state.tcp[:3] - state.peg[:3]) > self.retreat

    def _try_scene(self) -> bool:
        """Draw a scene into `data`; true if the robot can do the task in it."""
        mujoco.mj_resetData(self.model, self.data)
        socket = self._draw_socket()
        if self.in_hand:
            drawn = self._draw_in_hand(socket)
        else:
            drawn = self._draw_on_table(socket)
        if drawn is None:
            return False
        tcp, peg = drawn
        half = _held_half(poses.between(peg, tcp)) if self.in_hand else MAX_OPENING
        self.data.mocap_pos[self._socket], self.data.mocap_quat[self._socket] = socket[:3], socket[3:]
        self.data.mocap_pos[self._stand] = poses.transform(socket, (0, 0, -_BALL))
        self.data.qpos[self._peg_joint : self._peg_joint + 7] = peg
        self.robot.reset(self.data, tcp, half, 1.0 if self.in_hand else -1.0)
        state = State(tcp, half, peg, socket)
        self.modes = self.feasible_insertions(state) if self.in_hand else self.feasible_modes(state)
        if not self.modes:
            return False
        mujoco.mj_step(self.model, self.data, nstep=50)  # the peg settles on the table or in the pads
        mujoco.mj_kinematics(self.model, self.data)
        self.data.time = 0.0
        if self.in_hand and poses.norm(self.state().peg[:3] - peg[:3]) > 0.01:
            return False
        return not self._broken()

    def _draw_socket(self) -> Array:
        rng = self.np_random
        position = rng.uniform((0.42, -0.18, 0.14), (0.58, 0.18, 0.20))
        tilt, azimuth, roll = rng.uniform(*self.tilt_range), rng.uniform(-pi, pi), rng.uniform(-pi, pi)
        turn = poses.compose(poses.pose(rotvec=(0, 0, azimuth)), poses.pose(rotvec=(0, tilt, 0)))
        return poses.compose(poses.pose(position), poses.compose(turn, poses.pose(rotvec=(0, 0, roll))))

    def _draw_on_table(self, socket: Array) -> tuple[Array, Array] | None:
        rng = self.np_random
        xy, yaw, face = rng.uniform((0.36, -0.28), (0.64, 0.28)), rng.uniform(-pi, pi), int(rng.integers(4))
        if np.hypot(*(xy - socket[:2])) < 0.20:
            return None
        height = PEG[0] if face % 2 == 0 else PEG[1]
        lying = poses.compose(poses.pose(rotvec=(0, pi / 2, 0)), poses.pose(rotvec=(0, 0, face * pi / 2)))
        peg = poses.compose(poses.pose((*xy, height), (0, 0, yaw)), lying)
        home = np.asarray(HOME) + rng.uniform(-0.04, 0.04, 3)
        down = poses.compose(
            poses.compose(poses.pose(home), DOWN), poses.pose(rotvec=rng.uniform(-0.15, 0.15, 3))
        )
        return down, peg

    def _draw_in_hand(self, socket: Array) -> tuple[Array, Array] | None:
        rng = self.np_random
        position = rng.uniform((0.38, -0.24, 0.24), (0.62, 0.24, 0.42))
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
        if clear_of_socket < 0.16 or lowest_point(peg, PEG) < 0.08:
            return None
        return tcp, peg

    def _grasp_from_above(self, state: State, mode: Mode) -> bool:
        approach = poses.rotate(poses.compose(state.peg, mode.T_peg_tcp), (0, 0, 1))
        return bool(approach[2] < -0.6)

    def _possible(self, state: State, mode: Mode) -> bool:
        at_peg = poses.compose(state.peg, mode.T_peg_tcp)
        keys = [_backed(at_peg, 0.10), at_peg, _raised(at_peg, 0.12)]
        return self._reachable(state, keys, mode)

    def _reachable(self, state: State, keys: Sequence[Array], mode: Mode) -> bool:
        """Whether the hand can go by `keys` to the seat: clear of the table there, reached all the way."""
        keys = [*keys, *_insertion(state.socket, mode)]
        for key in keys:
            approach = poses.rotate(key, (0, 0, 1))
            if (
                approach[2] > 0.35
                or lowest_point(_backed(key, 0.078), np.array([0.022, 0.055, 0.022])) < 0.03
            ):
                return False
        keys = [state.tcp, *keys]
        path = [keys[0]]
        for key in keys[1:]:
            while True:
                path.append(poses.advance(path[-1], key, 0.08, 0.4))
                if (
                    poses.norm(path[-1][:3] - key[:3]) < 1e-6
                    and poses.norm(poses.rotvec(path[-1], key)) < 1e-6
                ):
                    break
        return self.robot.reachable(path, poses.transform(state.socket, (0, 0, -DEPTH / 2)))


def _held_half(T_peg_tcp: Array) -> float:
    """Half the width of the peg between the pads [m]."""
    closing = poses.rotate(T_peg_tcp, (0, 1, 0))
    return float(PEG[0] if abs(closing[0]) > abs(closing[1]) else PEG[1])


def _backed(T_w_tcp: Array, distance: float) -> Array:
    """The TCP pose moved back along its approach direction."""
    return poses.compose(T_w_tcp, poses.pose((0, 0, -distance)))


def _raised(T: Array, height: float) -> Array:
    """The pose moved up in the world."""
    raised = T.copy()
    raised[2] += height
    return raised


def _insertion(socket: Array, mode: Mode) -> list[Array]:
    """TCP poses over the socket, at the seat and retreated."""
    T_seat_tcp = poses.compose(SYMMETRIES[mode.symmetry], mode.T_peg_tcp)  # a half turn is its own inverse
    seat = poses.compose(socket, T_seat_tcp)
    via = poses.compose(poses.compose(socket, poses.pose((0, 0, VIA))), T_seat_tcp)
    return [_raised(via, 0.08), via, seat, _backed(seat, 0.08)]


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
        scene.placed_body("socket", _socket(clearance, chamfer)),
        scene.placed_body(
            "stand",
            '<geom type="cylinder" size=".013 .13" pos="0 0 -.13" material="stand"/>'
            '<geom type="sphere" size=".017" material="joint" class="visual"/>',
        ),
    )


def _socket(clearance: float, chamfer: bool) -> str:
    """Walls and floor around a cavity of the peg's section plus the clearance; the origin is the mouth."""
    x, y = PEG[0] + clearance, PEG[1] + clearance
    look = {"material": "socket", "class_": "slippery"}
    walls = "".join(
        scene.box((WALL / 2, y + WALL, DEPTH / 2), (side * (x + WALL / 2), 0, -DEPTH / 2), **look)
        + scene.box((x, WALL / 2, DEPTH / 2), (0, side * (y + WALL / 2), -DEPTH / 2), **look)
        for side in (1, -1)
    )
    floor = scene.box((x + WALL, y + WALL, WALL / 2), (0, 0, -DEPTH - WALL / 2), **look)
    return walls + floor + (_chamfer(x, y, look) if chamfer else "")


def _chamfer(x: float, y: float, look: dict[str, str]) -> str:
    """Four plates that rise outward at 45 degrees from the mouth's edges."""
    half, thin = 0.008, 0.002
    out = (half - thin) * cos(pi / 4)  # the inner edge of a plate's upper face lies on the mouth's edge
    up = (half - thin) * sin(pi / 4)
    plates = ""
    for side in (1, -1):
        plates += scene.box(
            (half, y + 2 * out, thin),
            (side * (x + out + 2 * thin * cos(pi / 4)), 0, up),
            euler=f"0 {-side * pi / 4} 0",
            **look,
        )
        plates += scene.box(
            (x + 2 * out, half, thin),
            (0, side * (y + out + 2 * thin * cos(pi / 4)), up),
            euler=f"{side * pi / 4} 0 0",
            **look,
        )
    return plates


TiltedPegInsert.__doc__ = (TiltedPegInsert.__doc__ or "").format(
    peg=" x ".join(f"{2000 * half:.0f}" for half in PEG),
    depth=1000 * DEPTH,
    symmetries=len(SYMMETRIES),
    action=8,
    hz=CONTROL_HZ,
    workspace=f"{WORKSPACE[0].tolist()} .. {WORKSPACE[1].tolist()}",
    speed=MAX_SPEED,
    turn=MAX_ANGULAR_SPEED,
    levels="; ".join(
        f"{index}: {1000 * level.clearance:g} mm{' with a chamfered mouth' if level.chamfer else ''}, "
        f"up to {degrees(level.tilt[1]):.0f} degrees"
        for index, level in enumerate(LEVELS)
    ),
    success_depth=1000 * TiltedPegInsert.success_depth,
    success_tilt=degrees(TiltedPegInsert.success_tilt),
    success_lateral=1000 * TiltedPegInsert.success_lateral,
    retreat=1000 * TiltedPegInsert.retreat,
    firm=1000 * TiltedPegInsert.firm_clearance,
    loose_tilt=TiltedPegInsert.loose_tilt,
    loose_lateral=TiltedPegInsert.loose_lateral,
    cameras=", ".join(f"`{name}`" for name in scene.CAMERAS),
    steps=TiltedPegInsert.steps_full,
    steps_in_hand=TiltedPegInsert.steps_in_hand,
)
