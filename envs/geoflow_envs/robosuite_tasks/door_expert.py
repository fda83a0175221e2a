"""The expert of Door: the hand around the lever, then with it along the arcs of the handle and of the hinge."""

from __future__ import annotations

from math import pi

from .. import poses
from ..poses import Array
from ..tasks.motion import AHEAD, AHEAD_ANGLE, CLOSE, ramp
from ..tasks.motion import grasp as close_in
from .door import FREE, LEVER, DoorState, RobosuiteDoor, handle_at, hinge_angle, lever_angle
from .motion import RobosuiteExpert

THICKNESS = 0.020  # half of the lever's height, along which the fingers close [m]
TURN, PULL = 0.35, 0.15  # how far the goals of the lever and of the hinge lead them [rad]


class DoorExpert(RobosuiteExpert):
    """Turns the handle the chosen way, and grasps it again if it slips away."""

    task: RobosuiteDoor  # type: ignore[assignment]

    def decide(self, state: DoorState) -> tuple[Array, float]:
        """The TCP pose to command and the gripper command."""
        if self.mode is None:
            self.mode = self.choose(self.task.ways(state), lambda way: -way)
        at = poses.compose(state.handle, grip())
        off = poses.between(at, state.tcp)
        if not (state.opening < THICKNESS + 0.002 and poses.norm(off[:3]) < 0.03):
            return close_in(state.tcp, state.opening, at, THICKNESS, ())
        lever, hinge = lever_angle(state), hinge_angle(state)
        turned = max(self.mode * lever / FREE, hinge / 0.05)
        goal = handle_at(
            state.case,
            hinge + PULL * ramp(turned - 0.9, 0.1),
            self.mode * min(abs(lever) + TURN, FREE + 0.2),
        )
        held = poses.compose(goal, poses.between(state.handle, state.tcp))
        return poses.advance(state.tcp, held, AHEAD, AHEAD_ANGLE), CLOSE


def grip() -> Array:
    """T_handle_tcp of a hand that comes along the handle's axis, its fingers above and below the lever."""
    facing = poses.compose(poses.pose(LEVER), poses.pose(rotvec=(-pi / 2, 0, 0)))  # z along y, y along -z
    return poses.compose(facing, poses.pose(rotvec=(0, 0, pi / 2)))  # x along -z
