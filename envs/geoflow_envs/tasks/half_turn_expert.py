"""The expert of HalfTurnStand: grasps the bottle from the side, draws it out, turns it over the mark, sets it down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import poses
from ..poses import Array
from .base import clear_of_table
from .half_turn import BODY, GRASP_HEIGHT, GRASPS, QUARTERS, VIA, Mode, State, stand
from .motion import AHEAD, CLOSE, Expert, Obstacle, advance, grasp, grips, insert, release

if TYPE_CHECKING:
    from .half_turn import HalfTurnStand

PLAY = 0.006  # how far off the mark's middle the bottle may be set down [m]
DOWN_TO = 0.003  # a held bottle is let go with its foot at most this high [m]
CLEAR = 0.05  # of the cap in front of the holder before the bottle turns [m]
OVER_HOLDER, OVER_MARK = 0.16, 0.20  # of the hand above them where it passes [m]


class HalfTurnExpert(Expert):
    """Takes the bottle to the mark the chosen way, from wherever it is."""

    def __init__(self, env: HalfTurnStand, choice: str = "greedy", seed: int | None = None) -> None:
        """`choice`: "greedy" or "random" (seeded by `seed`); raises ValueError for another."""
        super().__init__(env, choice, seed)
        self.env = env

    def decide(self, state: State) -> tuple[Array, float]:
        held = _held(state)
        if self.env.stands(state) and (not held or stand(state.bottle, state.mark).height < DOWN_TO):
            return release(state.tcp, state.opening, BODY[0])
        return (self._carry(state), CLOSE) if held else self._grasp(state)

    def _carry(self, state: State) -> Array:
        inside = self._draw_out(state)
        if inside is not None:
            return inside
        if self.mode is None:
            modes = self.env.feasible_ends(state) or (Mode(0, poses.between(state.bottle, state.tcp)),)
            self.mode = self.choose(modes, lambda mode: _turning(state, mode))
        bottle = poses.compose(state.bottle, QUARTERS[self.mode.quarter])
        return insert(
            state.tcp, bottle, state.mark, BODY, 0.0, PLAY, VIA, [Obstacle(state.holder, OVER_HOLDER)]
        )

    def _draw_out(self, state: State) -> Array | None:
        """Straight out while the cap is in the holder or close before it."""
        local = poses.between(state.holder, state.bottle)
        end = poses.transform(local, (0, 0, BODY[2]))
        if np.hypot(end[0], end[1]) > 0.04 or end[2] > CLEAR:
            return None
        out = poses.compose(state.holder, poses.compose(poses.pose((0, 0, 2 * AHEAD)), local))
        return poses.compose(advance(state.bottle, out, AHEAD), poses.between(state.bottle, state.tcp))

    def _grasp(self, state: State) -> tuple[Array, float]:
        if self.mode is None or not clear_of_table(poses.compose(state.bottle, self.mode.T_bottle_tcp)):
            modes = self.env.feasible_modes(state) or _most_from_above(state)
            self.mode = self.choose(modes, lambda mode: _turning(state, mode))
        at = poses.compose(state.bottle, self.mode.T_bottle_tcp)
        obstacles = [Obstacle(state.mark, OVER_MARK), Obstacle(state.bottle, OVER_HOLDER, 0.09, beside=True)]
        return grasp(state.tcp, state.opening, at, BODY[0], obstacles)


def _turning(state: State, mode: Mode) -> float:
    """How far the hand turns to the grasp and from there to the mark [rad]."""
    at = poses.compose(state.bottle, mode.T_bottle_tcp)
    T_end_tcp = poses.compose(poses.inverse(QUARTERS[mode.quarter]), mode.T_bottle_tcp)
    end = poses.compose(state.mark, T_end_tcp)
    return poses.norm(poses.rotvec(state.tcp, at)) + poses.norm(poses.rotvec(at, end))


def _most_from_above(state: State) -> tuple[Mode, ...]:
    best = min(GRASPS, key=lambda T_bottle_tcp: _approach_height(state, T_bottle_tcp))
    return tuple(Mode(quarter, best) for quarter in range(len(QUARTERS)))


def _approach_height(state: State, T_bottle_tcp: Array) -> float:
    """z of the hand's approach direction at a grasp: -1 straight from above."""
    return float(poses.rotate(poses.compose(state.bottle, T_bottle_tcp), (0, 0, 1))[2])


def _held(state: State) -> bool:
    span = (GRASP_HEIGHT - 0.03, GRASP_HEIGHT + 0.025)
    return grips(poses.between(state.bottle, state.tcp), state.opening, BODY, span)
