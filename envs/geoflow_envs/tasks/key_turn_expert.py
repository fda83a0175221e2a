"""The expert of KeyTurn: a funnel into the slot wherever the slot stands now, then a turn about its axis."""

from __future__ import annotations

from math import cos, pi, radians

import numpy as np

from .. import poses
from ..poses import Array
from .key_turn import BOW, BOX, DEPTH, FLIP, MODES, VIA, Fit, KeyState, KeyTurn, Mode, fit, grasp
from .motion import AHEAD_CAREFUL, CLOSE, Expert, advance, insert, ramp
from .motion import grasp as close_in

TURN_DEPTH = 0.031  # from here on the key turns while it is pushed in [m]
PATIENCE = 2.0  # a tip this many clearances off is still pushed in: the rim guides it, and an arm that backs out rocks
LEAD = 0.3  # how far the goal of a turn leads the key [rad]


class KeyExpert(Expert):
    """Inserts the key under the mode's half turn, turns it the mode's way, and grasps it again if it slips away."""

    task: KeyTurn

    def decide(self, state: KeyState) -> tuple[Array, float]:
        """The TCP pose to command and the gripper command."""
        if not _held(state):
            return self._regrasp(state)
        if self.mode is None:
            modes = self.task.feasible_modes(state) or MODES
            self.mode = self.choose(modes, lambda mode: _turning(state, mode))
        key = poses.compose(state.key, FLIP) if self.mode.symmetry else state.key
        now = fit(state.key, state.rotor)
        if now.depth > TURN_DEPTH and self.task.in_slot(now):
            return poses.compose(self._turn(state, key, now), poses.between(key, state.tcp)), CLOSE
        whole = poses.compose(key, poses.pose((0, 0, BOX[2] - DEPTH)))
        return insert(state.tcp, whole, state.rotor, BOX, DEPTH, PATIENCE * self.task.clearance, VIA), CLOSE

    def _turn(self, state: KeyState, key: Array, now: Fit) -> Array:
        """The key (in its symmetry) a step further about the lock's axis, pushed to the slot's end."""
        x = poses.rotate(poses.between(state.lock, key), (1, 0, 0))
        roll = float(np.arctan2(x[1], x[0]))
        lead = self.mode.direction * LEAD * ramp(now.depth - TURN_DEPTH, 0.004)
        goal = poses.compose(state.lock, poses.pose((0, 0, -0.001), (0, 0, roll + lead)))
        return advance(key, goal, AHEAD_CAREFUL)

    def _regrasp(self, state: KeyState) -> tuple[Array, float]:
        """Back to the bow, with the fingers the way round that is nearer."""
        grasps = [poses.compose(state.key, grasp(swap)) for swap in (False, True)]
        at = min(grasps, key=lambda T: poses.norm(poses.rotvec(state.tcp, T)))
        return close_in(state.tcp, state.opening, at, float(BOW[1]), ())


def _held(state: KeyState) -> bool:
    """Whether the pads press on the bow, by geometry alone."""
    T_key_tcp = poses.between(state.key, state.tcp)
    return bool(
        abs(poses.rotate(T_key_tcp, (0, 1, 0))[1]) > cos(radians(20))
        and state.opening < BOW[1] + 0.0025
        and abs(T_key_tcp[0]) < BOW[0]
        and abs(T_key_tcp[1]) < 0.006
        and 0 < T_key_tcp[2] < 2 * BOW[2] + 0.006
    )


def _turning(state: KeyState, mode: Mode) -> float:
    """How far the hand turns to the seat; the angle after it is the same for all."""
    key = poses.compose(state.key, FLIP) if mode.symmetry else state.key
    turn = poses.norm(poses.rotvec(key, state.lock))
    x = poses.rotate(poses.between(state.lock, key), (1, 0, 0))
    roll = float(np.arctan2(x[1], x[0]))
    return turn + 0.1 * abs(roll + mode.direction * (pi / 2))
