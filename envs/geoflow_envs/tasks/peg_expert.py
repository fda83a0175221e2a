"""The expert of TiltedPegInsert: a feedback law of the present state, with a chosen mode as its only memory.

Both phases are funnels. The height above the goal is a continuous function of the misalignment m: far off,
the goal is a pose in front of the peg (or of the socket); as m vanishes the goal sinks to the grasp (or to
the seat), and it rises again when something pushes the peg off. No step is counted and no velocity or force
is read, so the action is a function of the observation and the mode, and a network can learn it together
with its corrections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import poses
from ..poses import Array
from .motion import CLOSE, Expert, Obstacle, across, grasp, grips, insert, release
from .peg import DEPTH, MODES, PEG, SYMMETRIES, VIA, Mode, State, fit

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
            return release(state.tcp, state.opening, PEG[across(poses.between(state.peg, state.tcp))])
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
        return insert(state.tcp, peg, state.socket, PEG, DEPTH, self.env.clearance, VIA)

    def _grasp(self, state: State) -> tuple[Array, float]:
        if self.mode is None or not self._from_above(state, self.mode):
            modes = self.env.feasible_grasps(state) or self._most_from_above(state)
            self.mode = self._choice(modes, state, grasped=False)
        at = poses.compose(state.peg, self.mode.T_peg_tcp)
        half = PEG[across(self.mode.T_peg_tcp)]
        return grasp(state.tcp, state.opening, at, half, [Obstacle(state.socket, OVER)])

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


def _held(state: State) -> bool:
    return grips(poses.between(state.peg, state.tcp), state.opening, PEG, (-PEG[2], PEG[2]))
