"""The expert of TiltedPegInsert: a feedback law of the present state, with a chosen mode as its only memory.

Both phases are funnels. The height above the goal is a continuous function of the misalignment m: far off,
the goal is a pose in front of the peg (or of the socket); as m vanishes the goal sinks to the grasp (or to
the seat), and it rises again when something pushes the peg off. No step is counted and no velocity or force
is read, so the action is a function of the observation and the mode, and a network can learn it together
with its corrections.
"""

from __future__ import annotations

from math import cos, radians
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .. import poses
from ..poses import Array
from ..robot import MAX_OPENING
from .peg import MODES, PEG, SYMMETRIES, VIA, Mode, State, lowest_point

if TYPE_CHECKING:
    from .peg import TiltedPegInsert

AHEAD = (
    0.018  # how far the commanded TCP leads the present one [m]; the controller lags 20 ms, so about 0.25 m/s
)
AHEAD_ANGLE = 0.11  # [rad], about 1.5 rad/s
AHEAD_CAREFUL = (
    0.009  # where the peg meets the rim and within the socket, and where the fingers meet the peg [m]
)
ARM = 0.05  # metres of misalignment per radian
RELEASE_DEPTH = 0.056  # a held peg is pushed at least this deep [m]
OPEN, CLOSE = -1.0, 1.0


class PegExpert:
    """Call `act()` before each step; it reads the simulation's present state."""

    def __init__(self, env: TiltedPegInsert, choice: str = "greedy", seed: int | None = None) -> None:
        """`choice`: "greedy" or "random" (seeded by `seed`); raises ValueError for another."""
        if choice not in ("greedy", "random"):
            raise ValueError(f"choice must be 'greedy' or 'random'; got {choice!r}.")
        self.env, self.choice = env, choice
        self.rng = np.random.default_rng(seed)
        self.mode: Mode | None = None
        self._episode = -1

    def act(self) -> NDArray[np.float32]:
        """The action (8,) for the present state."""
        if self._episode != self.env.episode:
            self.mode, self._episode = None, self.env.episode
        state = self.env.state()
        held = _held(state)
        fit = self.env.fit()
        if self.env.seated(fit) and (not held or fit.depth > RELEASE_DEPTH):
            goal, command = self._release(state), OPEN
        elif held:
            goal, command = self._insert(state), CLOSE
        else:
            goal, command = self._grasp(state)
        return np.append(goal, command).astype(np.float32)

    def _choose(self, modes: tuple[Mode, ...], state: State, grasped: bool) -> Mode:
        if self.choice == "random":
            return modes[int(self.rng.integers(len(modes)))]
        return min(modes, key=lambda mode: _turning(state, mode, grasped))

    def _release(self, state: State) -> Array:
        """Stand still until the fingers are off the peg, then back out along the approach direction."""
        half = PEG[1] if _across_wide(state) else PEG[0]
        free = np.clip((state.opening - half - 0.003) / 0.004, 0.0, 1.0)
        return poses.compose(state.tcp, poses.pose((0, 0, -AHEAD * float(free))))

    def _insert(self, state: State) -> Array:
        T_peg_tcp = poses.between(state.peg, state.tcp)
        upper = (0, 3) if T_peg_tcp[2] > 0 else (1, 2)
        if self.mode is None or self.mode.symmetry not in upper:
            modes = self.env.feasible_insertions(state) or tuple(Mode(s, T_peg_tcp) for s in upper)
            self.mode = self._choose(modes, state, grasped=True)
        peg = poses.compose(state.peg, SYMMETRIES[self.mode.symmetry])
        local = poses.between(state.socket, peg)
        tip = poses.transform(local, (0, 0, -PEG[2]))
        off_axis = float(np.hypot(tip[0], tip[1]))
        misalignment = off_axis + ARM * poses.norm(poses.rotvec(local, poses.IDENTITY))
        play = self.env.clearance
        height = np.interp(misalignment, (0.5 * play, 0.95 * play, play + 0.004, 0.05), (0, 0.061, 0.07, VIA))
        goal = poses.compose(state.socket, poses.pose((0, 0, float(height))))

        # Far from the socket's axis: come over it from above, and turn only when clear of the table.
        near = _ramp(0.12 - float(np.hypot(local[0], local[1])), 0.06) * float(local[2] > -0.01)
        goal[2] += min(0.10, max(0.0, float(np.hypot(*(goal[:2] - peg[:2]))) - 0.06))
        climbed = max(near, _ramp(0.16 - float(goal[2] - peg[2]), 0.10))
        clear = max(near, _ramp(lowest_point(peg, PEG) - 0.01, 0.04))
        from_rim = max(float(tip[2]), off_axis)
        ahead = float(np.interp(from_rim, (0.010, 0.040), (AHEAD_CAREFUL, AHEAD)))
        return poses.compose(_advance(peg, goal, ahead, climbed, clear), poses.between(peg, state.tcp))

    def _grasp(self, state: State) -> tuple[Array, float]:
        if self.mode is None or not self._from_above(state, self.mode):
            modes = self.env.feasible_modes(state) or self._most_from_above(state)
            self.mode = self._choose(modes, state, grasped=False)
        grasp = poses.compose(state.peg, self.mode.T_peg_tcp)
        off = poses.between(grasp, state.tcp)
        angle = poses.norm(poses.rotvec(grasp, state.tcp))
        half = PEG[1] if abs(poses.rotate(self.mode.T_peg_tcp, (0, 1, 0))[1]) > 0.5 else PEG[0]
        closing = MAX_OPENING - state.opening > 0.003  # fingers under way may stand a little less exactly
        reach, turn = (0.014, 0.20) if closing and state.opening > half - 0.003 else (0.006, 0.08)
        if poses.norm(off[:3]) < reach and angle < turn:
            return _advance(state.tcp, grasp, AHEAD_CAREFUL), CLOSE
        standoff = float(
            np.interp(np.hypot(off[0], off[1]) + ARM * angle, (0.003, 0.012, 0.10), (0, 0.05, 0.10))
        )
        if closing:  # open the fingers before they come around the peg
            standoff = max(standoff, 0.05)
        goal = poses.compose(grasp, poses.pose((0, 0, -standoff)))
        goal[2] += min(0.08, max(0.0, float(np.hypot(*(goal[:2] - state.tcp[:2]))) - 0.05))
        # With the socket in the way: up first, then across.
        blocked = _ramp(0.12 - _passing_distance(state.tcp, goal, state.socket), 0.04)
        goal[2] += blocked * max(0.0, float(state.socket[2] + 0.13 - goal[2]))
        climbed = max(1.0 - blocked, _ramp(0.08 - float(goal[2] - state.tcp[2]), 0.06))
        ahead = float(np.interp(poses.norm(off[:3]), (0.010, 0.040), (AHEAD_CAREFUL, AHEAD)))
        return _advance(state.tcp, goal, ahead, climbed), OPEN

    def _from_above(self, state: State, mode: Mode) -> bool:
        return _approach_height(state, mode) < -0.2

    def _most_from_above(self, state: State) -> tuple[Mode, ...]:
        best = min(_approach_height(state, mode) for mode in MODES)
        return tuple(mode for mode in MODES if _approach_height(state, mode) < best + 0.1)


def _ramp(value: float, width: float) -> float:
    """0 below 0, 1 above `width`, linear between."""
    return min(1.0, max(0.0, value / width))


def _advance(T: Array, goal: Array, ahead: float, moving: float = 1.0, turning: float = 1.0) -> Array:
    """One look-ahead toward a goal; `moving` scales the horizontal part, `turning` the rotation."""
    scaled = goal.copy()
    scaled[:2] = T[:2] + moving * (goal[:2] - T[:2])
    return poses.advance(T, scaled, ahead, AHEAD_ANGLE * turning)


def _passing_distance(start: Array, goal: Array, obstacle: Array) -> float:
    """How near the straight way passes an obstacle in the table's plane before its last 2 cm [m]."""
    way, aside = goal[:2] - start[:2], obstacle[:2] - start[:2]
    length = float(np.hypot(*way))
    if length < 0.02:
        return float("inf")
    along = min(max(0.0, float(aside @ way) / length), length - 0.02)
    return float(np.hypot(*(aside - way * (along / length))))


def _approach_height(state: State, mode: Mode) -> float:
    """z of the hand's approach direction at a grasp: -1 straight from above."""
    return float(poses.rotate(poses.compose(state.peg, mode.T_peg_tcp), (0, 0, 1))[2])


def _turning(state: State, mode: Mode, grasped: bool) -> float:
    """How far the hand turns: to the grasp (unless it has the peg), and from there to the seat [rad]."""
    at_peg = state.tcp if grasped else poses.compose(state.peg, mode.T_peg_tcp)
    seat = poses.compose(state.socket, poses.compose(SYMMETRIES[mode.symmetry], mode.T_peg_tcp))
    return poses.norm(poses.rotvec(state.tcp, at_peg)) + poses.norm(poses.rotvec(at_peg, seat))


def _across_wide(state: State) -> bool:
    """Whether the fingers close across the peg's wider side (its y axis)."""
    closing = poses.matrix(poses.between(state.peg, state.tcp))[:, 1]
    return abs(float(closing[1])) > abs(float(closing[0]))


def _held(state: State) -> bool:
    """Whether the pads press on two faces of the peg, by geometry alone."""
    T_peg_tcp = poses.between(state.peg, state.tcp)
    closing = np.abs(poses.matrix(T_peg_tcp)[:, 1])
    across = 1 if closing[1] > closing[0] else 0
    return bool(
        closing[across] > cos(radians(15))
        and state.opening < PEG[across] + 0.002
        and abs(T_peg_tcp[across]) < 0.006
        and abs(T_peg_tcp[1 - across]) < 0.015
        and abs(T_peg_tcp[2]) < PEG[2]
    )
