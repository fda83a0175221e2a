"""Feedback laws that experts are made of: look ahead toward a goal, come around an obstacle, close in on a grasp.

None counts steps or reads a velocity, so that an action is a function of what is seen. A goal stands off by a
height that is a continuous function of the misalignment: it sinks as the hand lines up and rises when pushed off.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, pi, radians
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import poses
from ..poses import Array
from ..robot import MAX_OPENING

if TYPE_CHECKING:
    from .base import PoseTask

AHEAD = (
    0.018  # how far the commanded TCP leads the present one [m]; the controller lags 20 ms, so about 0.25 m/s
)
AHEAD_ANGLE = 0.11  # [rad], about 1.5 rad/s
AHEAD_CAREFUL = 0.009  # where things are about to touch [m]
ARM = 0.05  # metres of misalignment per radian
OPEN, CLOSE = -1.0, 1.0


class Expert(ABC):
    """Call `act()` before each step; it reads the simulation's present state.

    Its only memory is `mode`, the way to do the task that it has chosen, forgotten when a new scene begins.
    """

    def __init__(self, env: PoseTask[Any], choice: str = "greedy", seed: int | None = None) -> None:
        """`choice`: "greedy" or "random" (seeded by `seed`); raises ValueError for another."""
        if choice not in ("greedy", "random"):
            raise ValueError(f"choice must be 'greedy' or 'random'; got {choice!r}.")
        self.task, self.choice = env, choice
        self.rng = np.random.default_rng(seed)
        self.mode: Any = None
        self._episode = -1

    def act(self) -> NDArray[np.float32]:
        """The action, (8,) or (16,) with two hands, for the present state."""
        if self._episode != self.task.episode:
            self.mode, self._episode = None, self.task.episode
        goal, command = self.decide(self.task.state())
        return np.append(goal, command).astype(np.float32)

    @abstractmethod
    def decide(self, state: Any) -> tuple[Array, Any]:
        """The TCP pose to command and the gripper command; with two hands (2, 7) and (2,)."""

    def choose(self, modes: Sequence[Any], cost: Callable[[Any], float]) -> Any:
        """The cheapest of the modes that lead where the task was told to, or any of them."""
        modes = self.task.as_told(modes)
        if self.choice == "random":
            return modes[int(self.rng.integers(len(modes)))]
        return min(modes, key=cost)


def ramp(value: float, width: float) -> float:
    """0 below 0, 1 above `width`, linear between."""
    return min(1.0, max(0.0, value / width))


def advance(T: Array, goal: Array, ahead: float, moving: float = 1.0, turning: float = 1.0) -> Array:
    """One look-ahead toward a goal; `moving` scales the horizontal part, `turning` the rotation."""
    scaled = goal.copy()
    scaled[:2] = T[:2] + moving * (goal[:2] - T[:2])
    return poses.advance(T, scaled, ahead, AHEAD_ANGLE * turning)


def distance_in_plane(a: Array, b: Array) -> float:
    """Horizontal distance of two poses [m]."""
    return float(np.hypot(*(a[:2] - b[:2])))


def passing_distance(start: Array, goal: Array, obstacle: Array) -> float:
    """How near the straight way passes an obstacle in the table's plane before its last 2 cm [m]."""
    way, aside = goal[:2] - start[:2], obstacle[:2] - start[:2]
    length = float(np.hypot(*way))
    if length < 0.02:
        return float("inf")
    along = min(max(0.0, float(aside @ way) / length), length - 0.02)
    return float(np.hypot(*(aside - way * (along / length))))


@dataclass(frozen=True)
class Obstacle:
    """What stands in the way at a pose: the hand keeps `width` [m] off in the plane or passes `over` [m] above.

    With `beside` the grasp is at its side, and it is in the way only until the hand has lined up.
    """

    at: Array
    over: float
    width: float = 0.12
    beside: bool = False


def over_obstacle(T: Array, goal: Array, obstacle: Obstacle, weight: float = 1.0) -> float:
    """Raise the goal, in place, where the straight way passes an obstacle; the share of the way to go across now."""
    blocked = weight * ramp(obstacle.width - passing_distance(T, goal, obstacle.at), 0.04)
    goal[2] += blocked * max(0.0, float(obstacle.at[2] + obstacle.over - goal[2]))
    return max(1.0 - blocked, ramp(0.08 - float(goal[2] - T[2]), 0.06))


def side_grasp(quarter: int, swap: bool, height: float, lean: float) -> Array:
    """T_body_tcp of a hand that comes from the side at `quarter` quarter turns about the body's z axis.

    `height` is the TCP's on that axis [m], `swap` exchanges the fingers, and `lean` [rad] turns the hand about its
    closing direction: it points down the axis by so much.
    """
    side = poses.compose(poses.pose((0, 0, height)), poses.pose(rotvec=(0, 0, quarter * pi / 2)))
    # TCP z (approach) = -x leaning to -z, TCP y (closing) = y.
    facing = poses.compose(side, poses.pose(rotvec=(0, -(pi / 2 + lean), 0)))
    return poses.compose(facing, poses.pose(rotvec=(0, 0, pi))) if swap else facing


def grasp(
    tcp: Array, opening: float, at: Array, half: float, obstacles: Sequence[Obstacle]
) -> tuple[Array, float]:
    """One step of grasping something `half` [m] thick on each side at the TCP pose `at`.

    The hand lines up in front of the grasp with open fingers, comes in along its approach direction, and closes
    where it stands right; with an obstacle in the way it goes up before across.
    """
    off = poses.between(at, tcp)
    angle = poses.norm(poses.rotvec(at, tcp))
    closing = MAX_OPENING - opening > 0.003  # fingers under way may stand a little less exactly
    reach, turn = (0.014, 0.20) if closing and opening > half - 0.003 else (0.006, 0.08)
    if poses.norm(off[:3]) < reach and angle < turn:
        return advance(tcp, at, AHEAD_CAREFUL), CLOSE
    misalignment = np.hypot(off[0], off[1]) + ARM * angle
    standoff = float(np.interp(misalignment, (0.003, 0.012, 0.10), (0, 0.05, 0.10)))
    if closing:  # open the fingers before they come around the object
        standoff = max(standoff, 0.05)
    goal = poses.compose(at, poses.pose((0, 0, -standoff)))
    goal[2] += min(0.08, max(0.0, distance_in_plane(goal, tcp) - 0.05))
    climbed = 1.0
    for obstacle in obstacles:
        weight = ramp(float(misalignment) - 0.06, 0.04) if obstacle.beside else 1.0
        climbed = min(climbed, over_obstacle(tcp, goal, obstacle, weight))
    ahead = float(np.interp(poses.norm(off[:3]), (0.010, 0.040), (AHEAD_CAREFUL, AHEAD)))
    return advance(tcp, goal, ahead, climbed), OPEN


def insert(
    tcp: Array,
    body: Array,
    mouth: Array,
    half: Array,
    depth: float,
    play: float,
    via: float,
    obstacles: Sequence[Obstacle] = (),
) -> Array:
    """One step of bringing a held body's lower end `depth` [m] into a mouth with `play` [m] on each side.

    The body is a box of half lengths `half` (3,); it ends with its z axis along the mouth's. Far off it comes in from
    `via` [m] above its seat. A depth of 0 stands the body on a place.
    """
    local = poses.between(mouth, body)
    tip = poses.transform(local, (0, 0, -half[2]))
    off_axis = float(np.hypot(tip[0], tip[1]))
    misalignment = off_axis + ARM * poses.norm(poses.rotvec(local, poses.IDENTITY))
    height = np.interp(
        misalignment, (0.5 * play, 0.95 * play, play + 0.004, 0.05), (0, depth + 0.001, depth + 0.01, via)
    )
    goal = poses.compose(mouth, poses.pose((0, 0, half[2] - depth + float(height))))

    # Far from the mouth's axis: come over it from above, and turn only when clear of the table.
    near = ramp(0.12 - float(np.hypot(local[0], local[1])), 0.06) * float(local[2] > -0.01)
    goal[2] += min(0.10, max(0.0, distance_in_plane(goal, body) - 0.06))
    climbed = max(near, ramp(0.16 - float(goal[2] - body[2]), 0.10))
    for obstacle in obstacles:
        climbed = min(climbed, over_obstacle(body, goal, obstacle))
    clear = max(near, ramp(poses.lowest_point(body, half) - 0.01, 0.04))
    from_rim = max(float(tip[2]), off_axis)
    ahead = float(np.interp(from_rim, (0.010, 0.040), (AHEAD_CAREFUL, AHEAD)))
    return poses.compose(advance(body, goal, ahead, climbed, clear), poses.between(body, tcp))


def release(tcp: Array, opening: float, half: float) -> tuple[Array, float]:
    """Stand still until the fingers are off something `half` thick, then back out along the approach direction."""
    free = np.clip((opening - half - 0.003) / 0.004, 0.0, 1.0)
    return poses.compose(tcp, poses.pose((0, 0, -AHEAD * float(free)))), OPEN


def across(T_body_tcp: Array) -> int:
    """Which axis of the body the fingers close along: 0 (x) or 1 (y)."""
    closing = np.abs(poses.matrix(T_body_tcp)[:, 1])
    return 1 if closing[1] > closing[0] else 0


def grips(T_body_tcp: Array, opening: float, half: Array, span: tuple[float, float]) -> bool:
    """Whether the pads press on two faces of a body, by geometry alone.

    Args:
        T_body_tcp: The hand seen from the body.
        opening: Of each finger [m].
        half: Half lengths of the part between the pads; x and y count [m].
        span: Between which heights on the body's z axis the TCP is [m].
    """
    axis = across(T_body_tcp)
    return bool(
        abs(poses.matrix(T_body_tcp)[axis, 1]) > cos(radians(15))
        and opening < half[axis] + 0.002
        and abs(T_body_tcp[axis]) < 0.006
        and abs(T_body_tcp[1 - axis]) < 0.015
        and span[0] < T_body_tcp[2] < span[1]
    )
