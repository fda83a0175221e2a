"""The expert of WireLoop: keep the loop centred on the wire and square to it, and go a little further on."""

from __future__ import annotations

import numpy as np

from .. import poses
from ..poses import Array
from .motion import AHEAD, ARM, CLOSE, Expert, advance, ramp
from .wire_loop import LENGTH, MODES, WIRE, Mode, Wire, WireLoop, WireState

PACE = 0.012  # how far the goal leads along the wire when the loop stands right [m]


class WireExpert(Expert):
    """Enters at the free end with the mode's face and follows the wire; slows down where the loop is off."""

    task: WireLoop

    def decide(self, state: WireState) -> tuple[Array, float]:
        """The TCP pose to command and the gripper command."""
        path = state.path
        if self.mode is None:
            modes = self.task.feasible_modes(state) or MODES
            self.mode = self.choose(modes, lambda mode: _turning(state, path, mode))
        passed = path.crossing(state.loop, self.task.radius)
        goal = self._enter(state.loop, path) if passed is None else self._follow(state.loop, path, passed)
        ahead = AHEAD if passed is None and poses.norm(state.loop[:3] - path.points[0]) > 0.05 else PACE
        return poses.compose(advance(state.loop, goal, ahead), poses.between(state.loop, state.tcp)), CLOSE

    def _follow(self, loop: Array, path: Wire, passed: float) -> Array:
        """On along the wire, as far as the loop is centred and square."""
        play = self.task.radius - WIRE
        off = _misalignment(loop, path.frame(passed, self.mode))
        lead = float(np.interp(off, (0.35 * play, 0.8 * play), (PACE, 0.0)))
        return path.frame(min(passed + lead, LENGTH), self.mode)

    def _enter(self, loop: Array, path: Wire) -> Array:
        """In front of the free end, the nearer the better the loop is lined up; out before in if it is beside it."""
        play = self.task.radius - WIRE
        entry = path.frame(0.0, self.mode)
        _, tangent = path.at(0.0)
        off = loop[:3] - entry[:3]
        along = float(off @ tangent)
        aside = off - along * tangent
        misalignment = poses.norm(aside) + ARM * poses.axis_angle(loop, entry)
        into = float(np.interp(misalignment, (0.3 * play, 0.8 * play, 0.05), (0.012, -0.02, -0.08)))
        goal = entry.copy()
        goal[:3] += into * tangent + ramp(along + 0.04, 0.03) * ramp(poses.norm(aside) - play, 0.01) * aside
        return goal


def _misalignment(loop: Array, at: Array) -> float:
    """Offset in the loop's plane and, by ARM, angle of the axes [m]."""
    off = poses.transform(poses.inverse(loop), at[:3])
    return float(np.hypot(off[0], off[1])) + ARM * poses.axis_angle(loop, at)


def _turning(state: WireState, path: Wire, mode: Mode) -> float:
    """How far the loop turns to enter, and a little for a handle that leans [rad]."""
    return poses.norm(poses.rotvec(state.loop, path.frame(0.0, mode))) + 0.1 * (mode.lean > 0)
