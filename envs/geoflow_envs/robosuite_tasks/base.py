"""A robosuite env as a task of ours: world poses of its grip site are observed and commanded."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar, Generic, TypeVar

import gymnasium as gym
import mujoco
import numpy as np
from numpy.typing import NDArray

from .. import poses
from ..poses import Array
from ..rendering import FrameRenderer
from ..spaces import PoseBox, checked_action
from ..tasks.base import State
from ..wrappers import ActionConvention
from .library import load

CONTROL_HZ = 20
LEAD, LEAD_ANGLE = 0.05, 0.5
"""How far the goal of robosuite's controller may lead the TCP [m], [rad]: its own largest delta. Its rotation error
is a sine and vanishes toward half a turn, so that a far goal would not be reached at all."""
SETTLE = 12  # control steps of a reset in which bodies come to rest
MAX_OPENING = 0.04  # of each finger of the Panda's hand [m]
_VISUAL = 1  # the geom group of what robosuite wants to be seen; 0 is what collides

S = TypeVar("S", bound=State)


class RobosuiteTask(gym.Env[dict[str, Any], NDArray[Any]], ABC, Generic[S]):
    """One of robosuite's envs with Panda arms; its scenes, its physics and its word on success are robosuite's.

    A task states what differs: `source`, `sides`, `bodies` (the observed poses: field of `state_type` -> MJCF body),
    `workspace`, `steps`, `failures`, the methods `ways`, `mode` and `shortfall`,
    and `expert` if it has one.

    The grip site is the TCP. robosuite observes its position as `robot0_eef_pos` and its rotation as
    `robot0_eef_quat_site` (x y z w); `robot0_eef_quat` is the rotation of another body.

    Knobs: `render_mode` (None or "rgb_array"), `width`, `height` and `camera` (of the model) of the frames.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": CONTROL_HZ}  # noqa: RUF012
    control_hz = CONTROL_HZ

    source: ClassVar[str]  # robosuite's name of the env
    options: ClassVar[Mapping[str, Any]] = {}  # of its constructor
    sides: ClassVar[Sequence[str]] = ("",)  # of the arms, in our order
    order: ClassVar[Sequence[int]] = (0,)  # robosuite's number of each of them
    bodies: ClassVar[Mapping[str, str]]
    state_type: ClassVar[type[Any]]
    workspace: ClassVar[Array]  # corners of the box of TCP targets [m]
    steps: ClassVar[int]
    failures: ClassVar[Sequence[str]]

    def __init__(
        self,
        *,
        render_mode: str | None = None,
        width: int = 640,
        height: int = 480,
        camera: str = "agentview",
    ) -> None:
        """Build robosuite's env; raises DependencyNotInstalled without it, ValueError for a knob out of its range."""
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be None or 'rgb_array'; got {render_mode!r}.")
        self.render_mode, self.episode_steps = render_mode, self.steps
        self.arms = len(self.sides)
        self.sim_env = self._build(load())
        self.model: mujoco.MjModel = self.sim_env.sim.model._model
        self.data: mujoco.MjData = self.sim_env.sim.data._data
        cameras = [self.model.cam(number).name for number in range(self.model.ncam)]
        if camera not in cameras:
            raise ValueError(f"camera must be one of {', '.join(map(repr, cameras))}; got {camera!r}.")
        offscreen = self.model.vis.global_
        offscreen.offwidth, offscreen.offheight = width, height
        self._frames = FrameRenderer(self.model, width, height, camera, groups=(_VISUAL,))

        hands = [self.sim_env.robots[number] for number in self.order]
        self._sites = [hand.eef_site_id["right"] for hand in hands]
        self._fingers = [
            [self.model.joint(joint).qposadr[0] for joint in hand.gripper["right"].joints] for hand in hands
        ]
        self.hands = tuple(f"tcp{side}" for side in self.sides)
        self._convention = ActionConvention("rotvec", gripper="closed_positive")
        self.action_space = PoseBox(*self.workspace, extras=self.arms, arms=self.arms)
        self.poses = tuple(self.bodies)
        self._body = {name: self.model.body(body).id for name, body in self.bodies.items()}
        self.observation_kinds: dict[str, str] = {
            **dict.fromkeys(self.hands, "pose"),
            "gripper": "vector",
            **dict.fromkeys(self.poses, "pose"),
        }
        bound = np.array(
            [10.0] * 3 + [1.01] * 4, np.float32
        )  # metres; a rounded quaternion may exceed 1 a little
        self.observation_space = gym.spaces.Dict(
            {
                name: gym.spaces.Box(-bound, bound)
                if kind == "pose"
                else gym.spaces.Box(-1.5, 1.5, (self.arms,), np.float32)
                for name, kind in self.observation_kinds.items()
            }
        )
        self.episode = 0  # counts resets, so that an expert notices a new scene
        self.lifted = False  # whether `lifts` was true in this episode

    # --- what a task states ---

    @abstractmethod
    def ways(self, state: S) -> tuple[Any, ...]:
        """The ways in which the task can be done from here."""

    @abstractmethod
    def mode(self, state: S) -> int:
        """Which of the right ends is nearest, as `info["mode"]` says."""

    @abstractmethod
    def shortfall(self, state: S) -> str:
        """What an end without success lacked, one of `failures`; "physics" is told before it."""

    def failed(self, state: S) -> bool:
        """Whether the episode is beyond repair."""
        return False

    def lifts(self, state: S) -> bool:
        """Whether the hand has what it is to grasp off its place now."""
        return False

    # --- gymnasium ---

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """A scene of robosuite's own distribution, after bodies have come to rest with the hands open."""
        super().reset(seed=seed)
        # Its samplers hold the generator itself, so a new one in its place would not reach them.
        drawn = np.random.default_rng(int(self.np_random.integers(2**63)))
        self.sim_env.rng.bit_generator.state = drawn.bit_generator.state
        self.sim_env.reset()
        hold = np.append(self._tcps(), [-1.0] * self.arms)
        for _ in range(SETTLE):
            self._obey(hold)
        self.episode += 1
        self.lifted = False
        state = self.state()
        info = {
            "is_success": False,
            "failure": "",
            "mode": self.mode(state),
            "mode_count": len(self.ways(state)),
        }
        return self._observation(), info

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """One control step; raises ValueError, with the state untouched, for what is no pose action."""
        self._obey(checked_action(action, self.arms))
        state = self.state()
        self.lifted = self.lifted or self.lifts(state)
        success = not self._broken() and bool(self.sim_env._check_success())
        terminated = success or self._broken() or self.failed(state)
        info = {"is_success": success, "failure": "", "mode": self.mode(state)}
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

    def state(self) -> S:
        """The present state in float64, a `state_type`."""
        tcps = self._tcps()
        openings = np.array([0.5 * np.abs(self.data.qpos[fingers]).sum() for fingers in self._fingers])
        hands = (tcps[0], float(openings[0])) if self.arms == 1 else (tcps, openings)
        return self.state_type(*hands, *(self.body_pose(field.name) for field in fields(self.state_type)[2:]))

    def body_pose(self, name: str) -> Array:
        """Pose of an observed body in the world."""
        body = self._body[name]
        return np.concatenate([self.data.xpos[body], self.data.xquat[body]])

    def failure_kind(self) -> str:
        """What stands between the present state and success."""
        return "physics" if self._broken() else self.shortfall(self.state())

    def as_told(self, ways: Sequence[Any]) -> tuple[Any, ...]:
        """All ways: these tasks are told nothing."""
        return tuple(ways)

    # --- inside ---

    def _build(self, suite: Any) -> Any:
        """robosuite's env: state only, absolute poses of the grip site in the world, one model for all episodes."""
        config = suite.load_composite_controller_config(controller="BASIC")
        arm = config["body_parts"]["right"] | {"input_type": "absolute", "input_ref_frame": "world"}
        config["body_parts"] = {"right": arm}
        return suite.make(
            self.source,
            robots=["Panda"] * self.arms,
            controller_configs=config,
            control_freq=CONTROL_HZ,
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            use_object_obs=False,
            ignore_done=True,
            hard_reset=False,  # building the model anew takes a second
            renderer="mujoco",
            seed=0,
            **self.options,
        )

    def _obey(self, action: Array) -> None:
        """One control step of robosuite toward checked poses; the goals keep near the TCPs."""
        targets, commands = action[: 7 * self.arms].reshape(-1, 7), action[7 * self.arms :]
        goals = [self._goal(*arm) for arm in zip(self._tcps(), targets, commands, self._fingers, strict=True)]
        self.sim_env.step(np.concatenate([goals[self.order.index(arm)] for arm in range(self.arms)]))
        mujoco.mj_kinematics(self.model, self.data)  # poses of now, not of one physics step ago

    def _goal(self, tcp: Array, target: Array, command: float, fingers: Sequence[int]) -> Array:
        """robosuite's numbers for one arm: position, rotation vector, and +1 to close, if it has a gripper."""
        aim = np.append(np.clip(target[:3], *self.workspace), target[3:])
        near = poses.advance(tcp, aim, LEAD, LEAD_ANGLE)
        goal = self._convention.to_foreign(np.append(near, np.clip(command, -1, 1)))
        return goal if fingers else goal[:-1]

    def _tcps(self) -> Array:
        """Poses of the grip sites in the world (arms, 7)."""
        return np.array([self._site_pose(site) for site in self._sites])

    def _site_pose(self, site: int) -> Array:
        T = np.append(self.data.site_xpos[site], np.empty(4))
        mujoco.mju_mat2Quat(T[3:], self.data.site_xmat[site])
        return T

    def _broken(self) -> bool:
        return any(self.data.warning.number)

    def _observation(self) -> dict[str, NDArray[Any]]:
        state = self.state()
        seen: dict[str, Any] = dict(zip(self.hands, np.reshape(state.tcp, (-1, 7)), strict=True))
        seen["gripper"] = np.reshape(1 - 2 * state.opening / MAX_OPENING, -1)
        seen |= {name: getattr(state, name) for name in self.poses}
        return {name: np.asarray(value, np.float32) for name, value in seen.items()}


def datasheet(task: type[RobosuiteTask[Any]], **numbers: object) -> None:
    """Fill a task's docstring with the numbers of its code and the tables that all tasks share."""
    words = [side.replace("_", "") + " " if side else "" for side in task.sides]
    low, high = (corner.tolist() for corner in task.workspace)
    rows = ["| index | meaning | unit, frame |", "|---|---|---|"]
    for arm, word in enumerate(words):
        rows += [
            f"| {7 * arm}-{7 * arm + 2} | {word}TCP position | m, world, clipped to {low} .. {high} |",
            f"| {7 * arm + 3}-{7 * arm + 6} | {word}TCP rotation, quaternion w x y z | world; norm 0.9 to 1.1 |",
        ]
    rows += [
        f"| {7 * len(words) + arm} | {word}gripper | its sign: -1 opens, +1 closes |"
        for arm, word in enumerate(words)
    ]
    action = "\n    ".join([f"Action, Box ({8 * len(words)},), float32, at {CONTROL_HZ} Hz:\n", *rows]) + (
        f"\n\n    The goal of robosuite's controller (OSC_POSE, kp 150) leads the TCP by at most {LEAD} m and "
        f"{LEAD_ANGLE} rad.\n    TCP: robosuite's grip site, z out of the hand, x along the closing direction."
    )
    hand = [
        f"| tcp{side} | 7 | TCP pose in the world (x y z qw qx qy qz, m) | site `gripper{number}_right_grip_site` |"
        for side, number in zip(task.sides, task.order, strict=True)
    ]
    hand.append(f"| gripper | {len(words)} | finger opening: -1 fully open, +1 closed | finger joints |")
    task.__doc__ = (task.__doc__ or "").format(
        action=action,
        hand="\n    ".join(hand),
        steps=task.steps,
        failures=", ".join(f"`{kind}`" for kind in task.failures),
        **numbers,
    )
