"""Door: turn a lever handle until the latch is free, and pull the door open along its hinge's arc."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import poses
from ..poses import Array
from ..tasks.base import State
from .base import RobosuiteTask, datasheet
from .motion import RobosuiteExpert

HINGE = np.array([0.255, 0.0, 0.0])  # a point of the hinge's axis, which is z, in the door's frame [m]
DOOR = np.array([0.3, 0.0, 0.0])  # of the closed door's frame in its case [m]
LATCH = np.array([-0.175, 0.0, -0.025])  # of the handle's axis, which is y, in the door's frame [m]
LEVER = (0.105, -0.100, 0.0)  # where on the lever the hand takes it, in the handle's frame [m]
OPEN = 0.3  # robosuite's word for an open door: the hinge's angle [rad]
FREE = 1.15  # the latch is clear of the case from this angle of the handle on [rad]


@dataclass(frozen=True)
class DoorState(State):
    """What is seen: the hand, the case of the door, the door and its handle."""

    case: Array
    door: Array
    handle: Array


class RobosuiteDoor(RobosuiteTask[DoorState]):
    """Turn the handle of a door and pull the door open: robosuite's Door, with its latch.

    {action}

    Observation, Dict of float32:

    | key | size | meaning | MJCF |
    |---|---|---|---|
    {hand}
    | case | 7 | what the door hangs in; it stands still | body `Door_frame` |
    | door | 7 | door, z up, its hinge along +x, the robot on its -y side | body `Door_door` |
    | handle | 7 | lever, along its x, turning about its y | body `Door_latch` |

    Start: robosuite's own: the door turned by up to 0.25 rad and moved by 1 cm, the arm's joints 0.02 rad off home.
    Success, by robosuite: the hinge is beyond {open} rad. Modes: the lever pressed down (0) or lifted (1); after the
    latch has sprung back, as the lever stands.
    Ends: success or {steps} steps. Failures: {failures}.
    """

    source = "Door"
    state_type = DoorState
    bodies = {"case": "Door_frame", "door": "Door_door", "handle": "Door_latch"}  # noqa: RUF012
    workspace = np.array([[-0.45, -0.45, 0.80], [0.15, 0.25, 1.40]])
    steps = 300
    failures = ("not_reached", "not_turned", "not_open", "physics")

    def ways(self, state: DoorState) -> tuple[int, ...]:
        """Down and up, as signs of the handle's angle."""
        return (1, -1)

    def mode(self, state: DoorState) -> int:
        """Down or up, as the lever stands."""
        return int(lever_angle(state) < 0)

    def lifts(self, state: DoorState) -> bool:
        """Whether the handle is turned far enough to free the latch."""
        return abs(lever_angle(state)) > FREE - 0.1

    def shortfall(self, state: DoorState) -> str:
        """What of the sequence was not reached."""
        if self.lifted:
            return "not_open"
        near = poses.norm(poses.transform(state.handle, LEVER) - state.tcp[:3]) < 0.05
        return "not_turned" if near else "not_reached"

    def expert(self, choice: str = "greedy", seed: int | None = None) -> RobosuiteExpert:
        """The closed-loop expert; `choice` "greedy" takes the shortest of the ways, "random" draws one."""
        from .door_expert import DoorExpert

        return DoorExpert(self, choice, seed)


def lever_angle(state: DoorState) -> float:
    """Angle of the handle about its y, 0 where it rests [rad]."""
    return float(poses.rotvec(state.door, state.handle)[1])


def hinge_angle(state: DoorState) -> float:
    """Angle of the hinge, 0 where the door is closed [rad]."""
    return float(poses.rotvec(state.case, state.door)[2])


def handle_at(case: Array, hinge: float, lever: float) -> Array:
    """Pose of the handle for angles of hinge and lever."""
    axis = poses.compose(case, poses.pose(DOOR + HINGE, (0, 0, hinge)))
    return poses.compose(poses.compose(axis, poses.pose(LATCH - HINGE)), poses.pose(rotvec=(0, lever, 0)))


datasheet(RobosuiteDoor, open=OPEN)
