"""Feedback laws that experts are made of: look ahead toward a goal, come around an obstacle, close in on a grasp.

None counts steps or reads a velocity, so that an action is a function of what is seen. A goal stands off by a
height that is a continuous function of the misalignment: it sinks as the hand lines up and rises when pushed off.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
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
        """The action (8,) for the present state."""
        if self._episode != self.task.episode:
            self.mode, self._episode = None, self.task.episode
        goal, command = self.decide(self.task.state())
        return np.append(goal, command).astype(np.float32)

    @abstractmethod
    def decide(self, state: Any) -> tuple[Array, float]:
        """The TCP pose to command and the gripper command."""

    def choose(self, modes: Sequence[Any], cost: Callable[[Any], float]) -> Any:
        """The cheapest of the modes, or any of them."""
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


def grasp(
    tcp: Array, opening: float, at: Array, half: float, obstacle: Array, over: float
) -> tuple[Array, float]:
    """One step of grasping something `half` [m] thick on each side at the TCP pose `at`.

    The hand lines up in front of the grasp with open fingers, comes in along its approach direction, and closes
    where it stands right; with an `obstacle` (its pose) in the way it goes `over` [m] above it, up before across.
    """
    off = poses.between(at, tcp)
    angle = poses.norm(poses.rotvec(at, tcp))
    closing = MAX_OPENING - opening > 0.003  # fingers under way may stand a little less exactly
    reach, turn = (0.014, 0.20) if closing and opening > half - 0.003 else (0.006, 0.08)
    if poses.norm(off[:3]) < reach and angle < turn:
        return advance(tcp, at, AHEAD_CAREFUL), CLOSE
    standoff = float(np.interp(np.hypot(off[0], off[1]) + ARM * angle, (0.003, 0.012, 0.10), (0, 0.05, 0.10)))
    if closing:  # open the fingers before they come around the object
        standoff = max(standoff, 0.05)
    goal = poses.compose(at, poses.pose((0, 0, -standoff)))
    goal[2] += min(0.08, max(0.0, distance_in_plane(goal, tcp) - 0.05))
    blocked = ramp(0.12 - passing_distance(tcp, goal, obstacle), 0.04)
    goal[2] += blocked * max(0.0, float(obstacle[2] + over - goal[2]))
    climbed = max(1.0 - blocked, ramp(0.08 - float(goal[2] - tcp[2]), 0.06))
    ahead = float(np.interp(poses.norm(off[:3]), (0.010, 0.040), (AHEAD_CAREFUL, AHEAD)))
    return advance(tcp, goal, ahead, climbed), OPEN


def release(tcp: Array, opening: float, half: float) -> tuple[Array, float]:
    """Stand still until the fingers are off something `half` thick, then back out along the approach direction."""
    free = np.clip((opening - half - 0.003) / 0.004, 0.0, 1.0)
    return poses.compose(tcp, poses.pose((0, 0, -AHEAD * float(free)))), OPEN
