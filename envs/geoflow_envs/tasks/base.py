"""What every task shares: poses observed and commanded, scenes drawn until the robot can do them."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import degrees, nan, pi, radians
from typing import Any, ClassVar, Generic, TypeVar

import gymnasium as gym
import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import poses, scene
from ..instructions import INSTRUCTIONS, LENGTH, NOT_AS_TOLD, encode
from ..poses import Array
from ..rendering import FrameRenderer
from ..robot import CONTROL_HZ, HOME, MAX_OPENING, ROBOTS, WORKSPACE
from ..sensors import CameraSensors
from ..spaces import PoseBox, checked_action
from .motion import Expert

DOWN = poses.pose(rotvec=(pi, 0, 0))  # a hand that points down, as the arm's does at home
SPLITS = ("train", "range", "frame")
OBSERVATIONS = ("state", "pixels", "both")
DRAWS = 200  # of a scene before a reset gives up
_PALM = (0.022, 0.055, 0.022)  # half lengths of the hand's widest part [m] ...
_PALM_BACK = 0.078  # ... and how far behind the TCP it sits [m]
_MIDDLE = np.array(
    [WORKSPACE[:, 0].mean(), 0.0, 0.0]
)  # of the table, about which a free robot's frame turns [m]


@dataclass(frozen=True)
class Level:
    """One rung of the ladder: the range of the task's rotation [rad]; tasks add what else gets harder."""

    rotation: tuple[float, float]


@dataclass(frozen=True)
class State:
    """What a task and its expert see. A task adds one field for each body whose pose it observes.

    A field has the name of its body and holds its pose in the world; `PoseTask.vectors` names the exceptions.
    With two hands `tcp` is (2, 7) and `opening` (2,), the left one first.
    """

    tcp: Array
    opening: Any


S = TypeVar("S", bound=State)


class PoseTask(gym.Env[dict[str, Any], NDArray[Any]], ABC, Generic[S]):
    """A tabletop task whose action is an absolute TCP pose and a gripper command, or two poses and two commands.

    A task states what differs, by attributes and a few methods:

    | what | where |
    |---|---|
    | ladder | `levels`, one `Level` each |
    | observed poses | fields of `state_type`; `vectors` names those that are no poses, with their lengths |
    | a new scene | `draw_scene`; `place` if bodies follow that are not observed |
    | ways to do it | `feasible_modes`; a scene without any is drawn again |
    | rules | `succeeded`, `mode`, `shortfall`, `failures`, `steps` |
    | expert | `expert` |
    | what it can be told | `sentences`; `goals` with `goal_of` and `goal_at`, if it has ends to choose from |
    | hands | `robots`, names and embodiments, if not one hand |

    Knobs of every task (a task's constructor passes them on):

    - `level`, `robot` ("free" flies, "panda" is a 7-DoF arm);
    - `rotation_range`: two angles in degrees that override the level's;
    - `split`: "train"; "range", with positions that training never shows; "frame", the whole scene moved by a
      rigid transform in the plane (the free robot: 60 to 180 degrees either way about the table's middle;
      the arm: 10 to 30 about its base);
    - `observations`: "state" (all poses), "pixels" (TCP, gripper and cameras) or "both"; then `cameras`,
      `image_size` (pixels a side), `depth`, `segmentation` and `point_cloud` (the number of points) say what is seen;
    - `instruction`: "none"; "task", a sentence that says what to do; "goal", one that asks for one of `goals`, drawn
      among those that can be reached: the expert then goes for it, and another end is the failure "not_as_told";
    - `said`: a sentence that is observed in place of the right one, "" for silence: what is asked for stays;
    - `render_mode`, `width`, `height`, `camera` shape the frames of `render()`.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": CONTROL_HZ}  # noqa: RUF012
    control_hz = CONTROL_HZ

    name: ClassVar[str]  # of the MJCF model
    robots: ClassVar[Mapping[str, Any]] = ROBOTS
    levels: ClassVar[Sequence[Level]]
    state_type: ClassVar[type[Any]]
    vectors: ClassVar[Mapping[str, int]] = {}
    held: ClassVar[str]  # the state's field that the hand is to grasp
    lift: ClassVar[float] = 0.05  # height of its centre above which it counts as lifted [m]
    steps: ClassVar[int] = 400
    failures: ClassVar[tuple[str, ...]]
    sentences: ClassVar[Sequence[str]] = ()  # that say what to do, all the same thing
    goals: ClassVar[Sequence[Sequence[str]]] = ()  # sentences for each of the ends that can be asked for
    rotation_knob: ClassVar[str] = "rotation_range"
    rotation_limits: ClassVar[tuple[float, float]] = (0, 90)  # [degrees]

    def __init__(
        self,
        bodies: Sequence[str],
        level: int,
        robot: str,
        *,
        sections: Sequence[str] = (),
        rotation_range: Sequence[float] | None = None,
        split: str = "train",
        observations: str = "state",
        cameras: Sequence[str] = ("front", "wrist"),
        image_size: int = 84,
        depth: bool = False,
        segmentation: bool = False,
        point_cloud: int = 0,
        instruction: str = "none",
        said: str | None = None,
        render_mode: str | None = None,
        width: int = 640,
        height: int = 480,
        camera: str = "front",
    ) -> None:
        """Build the scene of MJCF `bodies` and `sections`; raises ValueError for a knob out of its range."""
        chosen = self.chosen(level)
        _one_of("robot", robot, self.robots)
        _one_of("split", split, SPLITS)
        _one_of("observations", observations, OBSERVATIONS)
        _one_of("camera", camera, scene.CAMERAS)
        _one_of("instruction", instruction, self._instructions())
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be None or 'rgb_array'; got {render_mode!r}.")
        for side, pixels, most in (("width", width, 1280), ("height", height, 960)):
            if pixels not in range(16, most + 1):
                raise ValueError(f"{side} is in pixels, from 16 to {most}; got {pixels!r}.")
        self.level, self.split, self.render_mode = level, split, render_mode
        self.rotation: tuple[float, float] = (
            chosen.rotation if rotation_range is None else self._angles(rotation_range)
        )
        self.episode_steps = self.steps

        embodiment = self.robots[robot]
        self.arms = len(embodiment.sides)
        document = scene.mjcf((*embodiment.bodies, *bodies), (*embodiment.sections, *sections), self.name)
        self.model = mujoco.MjModel.from_xml_string(document)
        self.data = mujoco.MjData(self.model)
        self.robot = embodiment(self.model)
        self.poses = tuple(
            field.name for field in fields(self.state_type)[2:] if field.name not in self.vectors
        )
        self._body = {name: self.model.body(name).id for name in self.poses}
        self._frames = FrameRenderer(self.model, width, height, camera)
        self._sensors: CameraSensors | None = None
        if observations != "state":
            self._sensors = CameraSensors(
                self.model, cameras, image_size, depth, segmentation, point_cloud, self.poses
            )
        elif depth or segmentation or point_cloud:
            raise ValueError(
                "depth, segmentation and point_cloud are seen by cameras: "
                "give observations='pixels' or observations='both' with them; got 'state'."
            )
        self._privileged = observations != "pixels"

        self.action_space = PoseBox(WORKSPACE[0], WORKSPACE[1], extras=self.arms, arms=self.arms)
        self.hands = tuple(f"tcp{side}" for side in embodiment.sides)
        self.observation_kinds: dict[str, str] = dict.fromkeys(self.hands, "pose") | {"gripper": "vector"}
        if self._privileged:
            self.observation_kinds |= dict.fromkeys(self.poses, "pose") | dict.fromkeys(
                self.vectors, "vector"
            )
        if self._sensors is not None:
            self.observation_kinds |= self._sensors.kinds
        self.camera_places = self._sensors.places if self._sensors is not None else {}
        self.instruction, self.sentence = instruction, ""
        if said is not None and instruction == "none":
            raise ValueError(f"said={said!r} is observed with instruction='task' or 'goal'; got 'none'.")
        self._said = None if said is None else encode(said)
        self.told: int | None = None  # which of `goals` was asked for
        if instruction != "none":
            self.observation_kinds["instruction"] = "text"
        self.observation_space = gym.spaces.Dict(
            {name: self._space(name, kind) for name, kind in self.observation_kinds.items()}
        )
        self.episode = 0  # counts resets, so that an expert notices a new scene
        self.modes: tuple[Any, ...] = ()
        self._lifted = False

    # --- what a task states ---

    @abstractmethod
    def draw_scene(self) -> S | None:
        """A start drawn from `np_random` and `draw`; an opening below `MAX_OPENING` starts the hand closed.

        None where the draw is no good (bodies overlap, say); the next draw follows.
        """

    @abstractmethod
    def feasible_modes(self, state: S) -> tuple[Any, ...]:
        """The ways in which the robot can do the task from here."""

    @abstractmethod
    def succeeded(self, state: S) -> bool:
        """Whether the task is done."""

    @abstractmethod
    def mode(self, state: S) -> int:
        """Which of the right ends is nearest, as `info["mode"]` says."""

    @abstractmethod
    def shortfall(self, state: S) -> str:
        """What an end without success lacked, one of `failures`; "physics" is told before it."""

    @abstractmethod
    def expert(self, choice: str = "greedy", seed: int | None = None) -> Expert:
        """The closed-loop expert; `choice` "greedy" turns least, "random" draws among the feasible ways."""

    def goal_of(self, way: Any) -> int:
        """Which of `goals` a feasible way leads to."""
        raise NotImplementedError(f"{type(self).__name__} has goals, and must say which a way leads to.")

    def goal_at(self, state: S) -> int:
        """Which of `goals` is nearest."""
        raise NotImplementedError(f"{type(self).__name__} has goals, and must say which is nearest.")

    def place(self, state: S) -> None:
        """Put each observed body where the state says; a task with more bodies puts those too."""
        for name in self.poses:
            self.put(name, getattr(state, name))

    def value(self, name: str) -> Array | float:
        """The present value of a state field: the pose of its body, unless a task with `vectors` says other."""
        return self.body_pose(name)

    def failed(self, state: S) -> bool:
        """Whether the episode is beyond repair: what was to be grasped fell off the table."""
        return bool(getattr(state, self.held)[2] < -0.02)

    def lifts(self, state: S) -> bool:
        """Whether the hand has the object off the table now."""
        grasped = getattr(state, self.held)
        return bool(grasped[2] > self.lift and poses.norm(grasped[:3] - state.tcp[:3]) < 0.08)

    # --- gymnasium ---

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """A new scene that the robot can do; `info["mode_count"]` counts the ways."""
        super().reset(seed=seed)
        for _ in range(DRAWS):
            if self._try_scene():
                break
        else:
            raise RuntimeError(
                f"no reachable scene in {DRAWS} draws with {self.rotation_knob} "
                f"{tuple(round(degrees(angle), 1) for angle in self.rotation)} degrees; widen it."
            )
        self.episode += 1
        self._tell()
        state = self.state()
        info = {
            "is_success": False,
            "failure": "",
            "mode": self.mode(state),
            "mode_count": len(self.as_told(self.modes)),
        }
        return self._observation(state), info | self._told()

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """One control step; raises ValueError, with the state untouched, for what is no pose action."""
        self.robot.obey(self.data, checked_action(action, self.arms))
        mujoco.mj_kinematics(self.model, self.data)  # poses of now, not of one physics step ago
        state = self.state()
        self._lifted = self._lifted or self.lifts(state)
        done = not self._broken() and self.succeeded(state)
        success = done and (self.told is None or self.goal_at(state) == self.told)
        terminated = done or self._broken() or self.failed(state)
        info = {"is_success": success, "failure": "", "mode": self.mode(state)} | self._told()
        if terminated and not success:
            info["failure"] = self.failure_kind()
        return self._observation(state), float(success), terminated, False, info

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """A frame (height, width, 3), or None without a render_mode."""
        return self._frames.render(self.data) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Free the renderers."""
        self._frames.close()
        if self._sensors is not None:
            self._sensors.close()

    # --- what the expert, the evaluation and the tasks read ---

    def state(self) -> S:
        """The present state in float64, a `state_type`."""
        names = [field.name for field in fields(self.state_type)[2:]]
        return self.state_type(
            self.robot.tcp(self.data), self.robot.opening(self.data), *(self.value(name) for name in names)
        )

    def failure_kind(self) -> str:
        """What stands between the present state and success."""
        if self._broken():
            return "physics"
        state = self.state()
        done = self.told is not None and self.succeeded(state)
        return NOT_AS_TOLD if done and self.goal_at(state) != self.told else self.shortfall(state)

    def as_told(self, ways: Sequence[Any]) -> tuple[Any, ...]:
        """The ways to the goal that was asked for; all of them where none was, or where none leads there."""
        kept = () if self.told is None else tuple(way for way in ways if self.goal_of(way) == self.told)
        return kept or tuple(ways)

    @property
    def lifted(self) -> bool:
        """Whether the hand has had the object off the table in this episode."""
        return self._lifted

    @classmethod
    def chosen(cls, level: int) -> Any:
        """The `Level` of that number; raises ValueError for another."""
        if isinstance(level, bool) or level not in range(len(cls.levels)):
            valid = ", ".join(map(str, range(len(cls.levels))))
            raise ValueError(f"level must be one of {valid}; got {level!r}.")
        return cls.levels[level]

    def body_pose(self, name: str) -> Array:
        """Pose of an observed body in the world."""
        body = self._body[name]
        return np.concatenate([self.data.xpos[body], self.data.xquat[body]])

    def put(self, name: str, T: Array) -> None:
        """Place a free or a placed body."""
        mocap = self.model.body(name).mocapid[0]
        if mocap >= 0:
            self.data.mocap_pos[mocap], self.data.mocap_quat[mocap] = T[:3], T[3:]
        else:
            start = self.model.joint(f"{name}_free").qposadr[0]
            self.data.qpos[start : start + 7] = T

    def draw(self, low: ArrayLike, high: ArrayLike, beyond: ArrayLike) -> Array:
        """Uniform between `low` and `high`; with split="range", up to `beyond` outside in at least one entry."""
        rng = self.np_random
        low, high, beyond = (np.asarray(bound, float) for bound in (low, high, beyond))
        if self.split != "range":
            return rng.uniform(low, high)
        drawn = rng.uniform(low - beyond, high + beyond)
        index = rng.choice(np.flatnonzero(beyond))
        step = beyond[index] * rng.uniform(0.1, 1.0)
        drawn[index] = high[index] + step if rng.integers(2) else low[index] - step
        return drawn

    def draw_hand(self) -> Array:
        """A TCP pose near home, pointing down."""
        rng = self.np_random
        home = np.asarray(HOME) + rng.uniform(-0.04, 0.04, 3)
        down = poses.compose(poses.pose(home), DOWN)
        return poses.compose(down, poses.pose(rotvec=rng.uniform(-0.15, 0.15, 3)))

    def reachable(self, start: Array, keys: Sequence[Array], obstacle: Array) -> bool:
        """Whether the hand can go from `start` by TCP poses `keys`: clear of the table there, reached all the way.

        The arm must keep off the point or points `obstacle`, (3,) or (n, 3) [m].
        """
        return all(clear_of_table(key) for key in keys) and self.robot.reachable([start, *keys], obstacle)

    # --- inside ---

    def _angles(self, given: Sequence[float]) -> tuple[float, float]:
        low, high = self.rotation_limits
        try:
            start, end = (float(angle) for angle in given)
        except (TypeError, ValueError):
            start = end = nan
        if not low <= start <= end <= high:
            raise ValueError(
                f"{self.rotation_knob} must be two angles in degrees, {low} <= low <= high <= {high}; got {given!r}."
            )
        return radians(start), radians(end)

    @classmethod
    def _instructions(cls) -> tuple[str, ...]:
        """Which of `INSTRUCTIONS` the task has sentences for."""
        return tuple(
            kind for kind, there in zip(INSTRUCTIONS, (True, cls.sentences, cls.goals), strict=True) if there
        )

    def _tell(self) -> None:
        """Draw what the scene is told, if it is told anything; a scene is the same for any instruction."""
        self.told, sentences = None, self.sentences
        if self.instruction == "none":
            return
        if self.instruction == "goal":
            reachable = sorted({self.goal_of(way) for way in self.modes})
            self.told = int(self.np_random.choice(reachable))
            sentences = self.goals[self.told]
        self.sentence = sentences[int(self.np_random.integers(len(sentences)))]

    def _told(self) -> dict[str, Any]:
        """What of the instruction an info says: the sentence, and the number of the goal it asks for."""
        if self.instruction == "none":
            return {}
        return {"instruction": self.sentence} | ({} if self.told is None else {"told": self.told})

    def _space(self, name: str, kind: str) -> gym.spaces.Box:
        if kind == "text":
            return gym.spaces.Box(0, 255, (LENGTH,), np.uint8)
        if self._sensors is not None and name in self._sensors.spaces:
            return self._sensors.spaces[name]
        if kind == "pose":  # metres; a rounded quaternion may exceed 1 a little
            bound = np.array([10.0] * 3 + [1.01] * 4, np.float32)
            return gym.spaces.Box(-bound, bound)
        if name == "gripper":
            return gym.spaces.Box(-1.5, 1.5, (self.arms,), np.float32)
        return gym.spaces.Box(-10.0, 10.0, (self.vectors[name],), np.float32)

    def _observation(self, state: S | None = None) -> dict[str, NDArray[Any]]:
        """What is observed of a state, the present one."""
        state = self.state() if state is None else state
        tcps = state.tcp.astype(np.float32).reshape(-1, 7)
        observation: dict[str, NDArray[Any]] = dict(zip(self.hands, tcps, strict=True))
        observation["gripper"] = np.array(1 - 2 * state.opening / MAX_OPENING, np.float32).reshape(-1)
        if self._privileged:
            for name in (*self.poses, *self.vectors):
                observation[name] = np.asarray(getattr(state, name), np.float32).reshape(-1)
        if self._sensors is not None:
            observation |= self._sensors.observe(self.data)
        if self.instruction != "none":
            said = encode(self.sentence) if self._said is None else self._said.copy()
            observation["instruction"] = said
        return observation

    def _broken(self) -> bool:
        return any(self.data.warning.number)

    def _try_scene(self) -> bool:
        """Draw a scene into `data`; true if the robot can do the task in it."""
        mujoco.mj_resetData(self.model, self.data)
        start = self.draw_scene()
        if start is not None and self.split == "frame":
            start = self._moved(start)
        if start is None:
            return False
        grasped = bool(np.all(start.opening < MAX_OPENING))
        self.place(start)
        self.robot.reset(self.data, start.tcp, start.opening, 1.0 if grasped else -1.0)
        mujoco.mj_step(self.model, self.data, nstep=50)  # bodies settle on the table or in the pads
        mujoco.mj_kinematics(self.model, self.data)
        self.data.time = 0.0
        self._lifted = grasped
        settled = all(
            poses.norm(self.body_pose(name)[:3] - getattr(start, name)[:3]) < 0.01 for name in self.poses
        )
        if not settled or self._broken():
            return False
        self.modes = self.feasible_modes(start)
        return bool(self.modes)

    def _moved(self, start: S) -> S | None:
        """The start moved by a rigid transform in the plane; None if that leaves the workspace."""
        rng = self.np_random
        sign = 1 if rng.integers(2) else -1
        if self.robot.fixed_base:
            move = poses.pose(rotvec=(0, 0, sign * rng.uniform(radians(10), radians(30))))
        else:
            shift = (*rng.uniform(-0.05, 0.05, 2), 0.0)
            turn = poses.pose(_MIDDLE + shift, (0, 0, sign * rng.uniform(radians(60), pi)))
            move = poses.compose(turn, poses.pose(-_MIDDLE))
        moved = replace(
            start,
            tcp=np.array([poses.compose(move, T) for T in start.tcp.reshape(-1, 7)]).reshape(start.tcp.shape),
            **{name: poses.compose(move, getattr(start, name)) for name in self.poses},
        )
        low, high = WORKSPACE[0, :2] + 0.02, WORKSPACE[1, :2] - 0.02
        placed = np.vstack([moved.tcp, *(getattr(moved, name) for name in self.poses)])[:, :2]
        inside = bool(((placed > low) & (placed < high)).all())
        return moved if inside else None


def clear_of_table(T_w_tcp: Array) -> bool:
    """Whether a hand at this pose keeps its palm off the table and does not point up."""
    height, w, x, y, z = T_w_tcp[2:].tolist()
    # How far the hand's axes rise, the last row of its rotation matrix.
    rises = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)
    below = sum(abs(rise) * half for rise, half in zip(rises, _PALM, strict=True))
    return rises[2] <= 0.35 and height - _PALM_BACK * rises[2] - below >= 0.03


def backed(T_w_tcp: Array, distance: float) -> Array:
    """The TCP pose moved back along its approach direction."""
    moved = T_w_tcp.copy()
    moved[:3] -= distance * poses.rotate(T_w_tcp, (0, 0, 1))
    return moved


def turned_above(T: Array, goal: Array) -> Array:
    """A little above a pose with a goal's rotation: a held thing turns there before it travels."""
    above = raised(T, 0.06)
    above[3:] = goal[3:]
    return above


def raised(T: Array, height: float) -> Array:
    """The pose moved up in the world."""
    up = T.copy()
    up[2] += height
    return up


def _one_of(name: str, given: object, valid: Sequence[str] | Mapping[str, Any]) -> None:
    if not isinstance(given, str) or given not in valid:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, valid))}; got {given!r}.")
