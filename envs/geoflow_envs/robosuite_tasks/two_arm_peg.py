"""TwoArmPegInHole: one arm holds a plate with a hole, the other a peg; bring them together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import poses
from ..poses import Array
from ..tasks.base import State
from .base import RobosuiteTask, datasheet
from .motion import RobosuiteExpert

RADIUS = 0.0225  # of the peg [m]; robosuite draws between 0.015 and 0.03 when it builds the model
CENTRE = (0.11, 0.0, 0.0)  # of the hole in the plate's frame [m]


@dataclass(frozen=True)
class PegState(State):
    """What is seen: the hands (2, 7), left and right, the peg and the plate."""

    peg: Array
    plate: Array


class RobosuiteTwoArmPegInHole(RobosuiteTask[PegState]):
    """Put the peg on one arm through the hole of the plate on the other: robosuite's TwoArmPegInHole.

    {action}

    Observation, Dict of float32:

    | key | size | meaning | MJCF |
    |---|---|---|---|
    {hand}
    | peg | 7 | peg, at its centre, z along it and away from the right hand | body `peg_main` |
    | plate | 7 | plate, its normal along z, the middle of the hole at x = 0.11 m | body `hole_main` |

    The arms face each other across the scene and have no grippers: peg and plate are fixed to their wrists, the
    commands of the grippers are taken, so that actions of two arms have one layout, and do nothing; `gripper` stays
    at 1. Left is the arm at +y, which has the plate. The peg's radius is {radius} m.

    Start: robosuite's own: the joints 0.02 rad off home. Success, by robosuite: the peg's axis within 18 degrees of
    the hole's and within 6 cm of its middle, and the peg's tip no farther than 1 cm from the hole. Modes: the peg
    points against the plate's normal (0) or along it (1).
    Ends: success or {steps} steps. Failures: {failures}.
    """

    source = "TwoArmPegInHole"
    options = {"gripper_types": None, "peg_radius": (RADIUS, RADIUS)}  # noqa: RUF012
    sides = ("_left", "_right")
    order = (1, 0)
    state_type = PegState
    bodies = {"peg": "peg_main", "plate": "hole_main"}  # noqa: RUF012
    workspace = np.array([[-0.45, -0.35, 0.75], [0.45, 0.35, 1.40]])
    steps = 300
    failures = ("misaligned", "not_deep_enough", "physics")

    def ways(self, state: PegState) -> tuple[int, ...]:
        """The peg against the plate's normal and along it."""
        return (-1, 1)

    def mode(self, state: PegState) -> int:
        """Along (1) or against (0) the plate's normal."""
        return int(axis(state.peg) @ axis(state.plate) > 0)

    def shortfall(self, state: PegState) -> str:
        """Beside the hole, or not up to it."""
        off = state.peg[:3] - poses.transform(state.plate, CENTRE)
        aside = off - (off @ axis(state.peg)) * axis(state.peg)
        aligned = abs(axis(state.peg) @ axis(state.plate)) > 0.95 and poses.norm(aside) < 0.06
        return "not_deep_enough" if aligned else "misaligned"

    def expert(self, choice: str = "greedy", seed: int | None = None) -> RobosuiteExpert:
        """The closed-loop expert; `choice` "greedy" takes the shortest of the ways, "random" draws one."""
        from .two_arm_peg_expert import TwoArmPegExpert

        return TwoArmPegExpert(self, choice, seed)


def axis(T: Array) -> Array:
    """The z axis of a pose in the world."""
    return poses.rotate(T, (0, 0, 1))


datasheet(RobosuiteTwoArmPegInHole, radius=RADIUS)
