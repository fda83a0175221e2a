"""The expert of BimanualPeg: both hands line up what they hold, half each, and close in as the rest vanishes.

A funnel as in the tasks of one hand: how far the peg is to stand from the mouth is a continuous function of the
misalignment, so nothing is counted and the action is a function of the observation and the chosen mode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import poses
from ..poses import Array
from .bimanual_peg import DEPTH, VIA, State, meeting
from .motion import ARM, CLOSE, Expert, advance
from .peg import PEG, SYMMETRIES

if TYPE_CHECKING:
    from .bimanual_peg import BimanualPeg

AHEAD = 0.011  # how far each hand leads [m]: the two near one another at twice the speed of one
AHEAD_CAREFUL = 0.005  # where they are about to touch [m]
TURNING = 0.7  # of the angle that one hand leads by
BEYOND = 0.002  # how much deeper than the floor the peg is pushed [m]


class BimanualExpert(Expert):
    """Brings the peg, under the chosen symmetry, and the block together."""

    task: BimanualPeg

    def decide(self, state: State) -> tuple[Array, Array]:
        """The TCP poses to command (2, 7) and the gripper commands (2,)."""
        if self.mode is None:
            modes = self.task.feasible_modes(state) or tuple(range(len(SYMMETRIES)))
            self.mode = self.choose(modes, lambda mode: _turning(state, mode))
        peg, block = poses.compose(state.peg, SYMMETRIES[self.mode]), state.block
        local = poses.between(block, peg)
        tip = poses.transform(local, (0, 0, -PEG[2]))
        off_axis = float(np.hypot(tip[0], tip[1]))
        goals = meeting(peg, block, PEG[2] - DEPTH + self._gap(local, off_axis))
        ahead = float(np.interp(max(float(tip[2]), off_axis), (0.010, 0.040), (AHEAD_CAREFUL, AHEAD)))
        hands = [
            poses.compose(advance(body, goal, ahead, turning=TURNING), poses.between(body, tcp))
            for body, goal, tcp in zip((peg, block), goals, state.tcp, strict=True)
        ]
        return np.stack(hands), np.array([CLOSE, CLOSE])

    def _gap(self, local: Array, off_axis: float) -> float:
        """How far the peg's end is to stand from the hole's floor [m]."""
        play = self.task.clearance
        misalignment = off_axis + ARM * poses.norm(poses.rotvec(local, poses.IDENTITY))
        steps = (0.5 * play, 0.95 * play, play + 0.004, 0.05)
        return float(
            np.interp(misalignment, steps, (-BEYOND, DEPTH + 0.001, DEPTH + 0.01, VIA - PEG[2] + DEPTH))
        )


def _turning(state: State, mode: int) -> float:
    """How far the hand that turns more has to turn [rad]."""
    bodies = poses.compose(state.peg, SYMMETRIES[mode]), state.block
    goals = meeting(*bodies, VIA)
    return max(poses.norm(poses.rotvec(body, goal)) for body, goal in zip(bodies, goals, strict=True))
