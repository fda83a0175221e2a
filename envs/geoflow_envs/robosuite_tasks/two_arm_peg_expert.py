"""The expert of TwoArmPegInHole: the tilted plate to the middle, then the tilted peg along the hole's axis."""

from __future__ import annotations

from math import radians

import numpy as np

from .. import poses
from ..poses import Array
from ..tasks.motion import AHEAD, AHEAD_ANGLE, ARM, ramp
from .motion import RobosuiteExpert
from .two_arm_peg import CENTRE, PegState, RobosuiteTwoArmPegInHole, axis

MIDDLE = np.array([0.0, 0.0, 0.97])  # where the hole is held [m]
BACK = np.array([0.0, 0.12, 0.97])  # and where it waits until the peg is out of its way [m]
PEG_TILT, PLATE_TILT = radians(40), radians(50)  # about the world's y, from hands that point down
OFF = 0.20  # of the peg's centre from the hole while it lines up; its tip is 0.13 m ahead [m]
THROUGH = 0.06  # of the peg's centre from the hole in the end [m]


class TwoArmPegExpert(RobosuiteExpert):
    """The mode is the peg's direction: against the plate's normal (-1) or along it."""

    task: RobosuiteTwoArmPegInHole  # type: ignore[assignment]

    def decide(self, state: PegState) -> tuple[Array, Array]:
        """Poses to command, the plate's hand and the peg's, and two commands that do nothing."""
        if self.mode is None:
            self.mode = self.choose(self.task.ways(state), lambda way: way)
        aside = waiting(self.mode)
        far = poses.norm(state.peg[:3] - aside[:3]) + ARM * angle(state.peg, axis(aside))
        held = plate_at(MIDDLE, self.mode)
        near = poses.norm(poses.transform(state.plate, CENTRE) - MIDDLE) < 0.02
        direction = self.mode * axis(state.plate)
        if near and angle(state.plate, axis(held)) < 0.1:
            peg = self._along(state, direction)
        else:
            peg = aside
            held = plate_at(BACK + ramp(0.12 - far, 0.06) * (MIDDLE - BACK), self.mode)
        goals = [
            poses.advance(tcp, poses.compose(goal, poses.between(body, tcp)), AHEAD, AHEAD_ANGLE)
            for tcp, body, goal in zip(state.tcp, (state.plate, state.peg), (held, peg), strict=True)
        ]
        return np.concatenate(goals), np.full(2, -1.0)

    def _along(self, state: PegState, direction: Array) -> Array:
        """The peg on the hole's axis, as deep as it is aligned."""
        centre = poses.transform(state.plate, CENTRE)
        off = state.peg[:3] - centre
        misalignment = poses.norm(off - (off @ direction) * direction) + ARM * angle(state.peg, direction)
        back = float(np.interp(misalignment, (0.008, 0.020), (THROUGH, OFF)))
        turned = turned_to(state.peg, direction)
        return np.append(centre - back * direction, turned[3:])


def plate_at(centre: Array, way: int) -> Array:
    """Pose of the plate with its hole at a point, tilted from how a hand that points down holds it."""
    # z of the plate along -x, its x along y: the left hand points down.
    upright = poses.compose(poses.pose(rotvec=(0, -np.pi / 2, 0)), poses.pose(rotvec=(0, 0, np.pi / 2)))
    tilted = poses.compose(poses.pose(rotvec=(0, -way * PLATE_TILT, 0)), upright)
    return np.append(centre - poses.rotate(tilted, CENTRE), tilted[3:])


def waiting(way: int) -> Array:
    """Pose of the peg off the middle, its axis on the one that the hole will have (its roll is of no account)."""
    peg = poses.compose(poses.pose(rotvec=(0, way * PEG_TILT, 0)), poses.pose(rotvec=(np.pi, 0, 0)))
    return np.append(MIDDLE - OFF * axis(peg), peg[3:])


def turned_to(T: Array, direction: Array) -> Array:
    """The pose turned in place, the shortest way, until its z points along a direction."""
    seen = poses.rotate(poses.inverse(T), direction)
    about = np.cross((0.0, 0.0, 1.0), seen)
    length = poses.norm(about)
    return poses.integrate(T, about * (angle(T, direction) / max(length, 1e-9)))


def angle(T: Array, direction: Array) -> float:
    """Between the z axis of a pose and a direction [rad]."""
    return float(np.arccos(np.clip(axis(T) @ direction, -1.0, 1.0)))
