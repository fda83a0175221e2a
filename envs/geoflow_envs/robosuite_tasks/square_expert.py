"""The expert of Square: the hand onto the handle, the nut over the peg and down."""

from __future__ import annotations

import numpy as np

from .. import poses
from ..poses import Array
from ..tasks.motion import CLOSE, insert
from ..tasks.motion import grasp as close_in
from .motion import RobosuiteExpert
from .square import DEPTH, HANDLE, NUT, PLAY, TOP, WAYS, RobosuiteSquare, SquareState, Way, grip, on_peg, yaw

ABOVE = 0.04  # of the nut over the peg's top on its way there [m]
FAR = 2.0  # turns beyond this are made in parts, so that none goes the other way about [rad]


class SquareExpert(RobosuiteExpert):
    """Grasps the nut in the chosen way, and again if it slips away."""

    task: RobosuiteSquare  # type: ignore[assignment]

    def decide(self, state: SquareState) -> tuple[Array, float]:
        """The TCP pose to command and the gripper command."""
        if self.mode is None:
            ways = self.task.ways(state) or WAYS
            self.mode = self.choose(ways, lambda way: turning(state, way))
        at = poses.compose(state.nut, grip(self.mode.swap))
        if not held(state, at):
            return close_in(state.tcp, state.opening, within_reach(state.tcp, at, yaw(at)), HANDLE, ())
        seat = on_peg(state.peg, self.mode.quarter)
        mouth = poses.compose(seat, poses.pose((0, 0, TOP)))
        mouth = within_reach(state.tcp, mouth, yaw(poses.compose(seat, grip(self.mode.swap))))
        return insert(state.tcp, state.nut, mouth, NUT, DEPTH, PLAY, DEPTH + ABOVE), CLOSE


def held(state: SquareState, at: Array) -> bool:
    """Whether the fingers are closed on the handle, by geometry alone."""
    off = poses.between(at, state.tcp)
    return bool(state.opening < HANDLE + 0.002 and poses.norm(off[:3]) < 0.02)


def within_reach(tcp: Array, goal: Array, turn: float) -> Array:
    """The goal, turned back about the vertical where the hand's way to yaw `turn` is not the shorter one."""
    ahead = turn - yaw(tcp)
    back = ahead - float(np.clip(ahead, -FAR, FAR))
    return np.append(goal[:3], poses.compose(poses.pose(rotvec=(0, 0, -back)), goal)[3:])


def turning(state: SquareState, way: Way) -> float:
    """How far the hand turns to the grasp and on to the peg [rad]."""
    now, grasped = yaw(state.tcp), yaw(poses.compose(state.nut, grip(way.swap)))
    placed = yaw(poses.compose(on_peg(state.peg, way.quarter), grip(way.swap)))
    return abs(grasped - now) + abs(placed - grasped)
