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

from .. import poses
from ..poses import Array
from .base import lowest_point
from .motion import (
    AHEAD,
    AHEAD_CAREFUL,
    ARM,
    CLOSE,
    Expert,
    advance,
    distance_in_plane,
    grasp,
    ramp,
    release,
)
from .peg import MODES, PEG, SYMMETRIES, VIA, Mode, State, fit

if TYPE_CHECKING:
    from .peg import TiltedPegInsert

OVER = 0.13  # of the hand above the socket when it passes [m]
RELEASE_DEPTH = 0.056  # a held peg is pushed at least this deep [m]


class PegExpert(Expert):
    """Grasps the peg the chosen way, inserts it and lets go."""

    def __init__(self, env: TiltedPegInsert, choice: str = "greedy", seed: int | None = None) -> None:
        """`choice`: "greedy" or "random" (seeded by `seed`); raises ValueError for another."""
        super().__init__(env, choice, seed)
        self.env = env
        self.mode: Mode | None = None

    def decide(self, state: State) -> tuple[Array, float]:
        held, stands = _held(state), fit(state.peg, state.socket)
        if self.env.seated(stands) and (not held or stands.depth > RELEASE_DEPTH):
            return release(state.tcp, state.opening, PEG[1] if _across_wide(state) else PEG[0])
        return (self._insert(state), CLOSE) if held else self._grasp(state)

    def _choice(self, modes: tuple[Mode, ...], state: State, grasped: bool) -> Mode:
        return self.choose(modes, lambda mode: _turning(state, mode, grasped))

    def _insert(self, state: State) -> Array:
        T_peg_tcp = poses.between(state.peg, state.tcp)
        upper = (0, 3) if T_peg_tcp[2] > 0 else (1, 2)
        if self.mode is None or self.mode.symmetry not in upper:
            modes = self.env.feasible_insertions(state) or tuple(Mode(s, T_peg_tcp) for s in upper)
            self.mode = self._choice(modes, state, grasped=True)
        peg = poses.compose(state.peg, SYMMETRIES[self.mode.symmetry])
        local = poses.between(state.socket, peg)
        tip = poses.transform(local, (0, 0, -PEG[2]))
        off_axis = float(np.hypot(tip[0], tip[1]))
        misalignment = off_axis + ARM * poses.norm(poses.rotvec(local, poses.IDENTITY))
        play = self.env.clearance
        height = np.interp(misalignment, (0.5 * play, 0.95 * play, play + 0.004, 0.05), (0, 0.061, 0.07, VIA))
        goal = poses.compose(state.socket, poses.pose((0, 0, float(height))))

        # Far from the socket's axis: come over it from above, and turn only when clear of the table.
        near = ramp(0.12 - float(np.hypot(local[0], local[1])), 0.06) * float(local[2] > -0.01)
        goal[2] += min(0.10, max(0.0, distance_in_plane(goal, peg) - 0.06))
        climbed = max(near, ramp(0.16 - float(goal[2] - peg[2]), 0.10))
        clear = max(near, ramp(lowest_point(peg, PEG) - 0.01, 0.04))
        from_rim = max(float(tip[2]), off_axis)
        ahead = float(np.interp(from_rim, (0.010, 0.040), (AHEAD_CAREFUL, AHEAD)))
        return poses.compose(advance(peg, goal, ahead, climbed, clear), poses.between(peg, state.tcp))

    def _grasp(self, state: State) -> tuple[Array, float]:
        if self.mode is None or not self._from_above(state, self.mode):
            modes = self.env.feasible_grasps(state) or self._most_from_above(state)
            self.mode = self._choice(modes, state, grasped=False)
        at = poses.compose(state.peg, self.mode.T_peg_tcp)
        half = PEG[1] if abs(poses.rotate(self.mode.T_peg_tcp, (0, 1, 0))[1]) > 0.5 else PEG[0]
        return grasp(state.tcp, state.opening, at, half, state.socket, OVER)

    def _from_above(self, state: State, mode: Mode) -> bool:
        return _approach_height(state, mode) < -0.2

    def _most_from_above(self, state: State) -> tuple[Mode, ...]:
        best = min(_approach_height(state, mode) for mode in MODES)
        return tuple(mode for mode in MODES if _approach_height(state, mode) < best + 0.1)


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
