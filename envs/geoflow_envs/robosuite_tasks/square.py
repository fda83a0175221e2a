"""Square: grasp a square nut by its handle and put it on a square peg."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import NamedTuple

import numpy as np

from .. import poses
from ..poses import Array
from ..tasks.base import State
from .base import RobosuiteTask, datasheet
from .motion import RobosuiteExpert

NUT = np.array([0.04375, 0.04375, 0.010])  # half lengths of the nut without its handle [m]
PLAY = 0.0067  # between the nut and the peg on each side [m]
TOP = 0.10  # of the peg above its centre [m]
DEPTH = 0.105  # of the nut's lower face under the peg's top [m]; from 0.09 on robosuite calls it done
GRIP = (0.058, 0.0, 0.004)  # of the TCP in the nut's frame: on the handle [m]
HANDLE = 0.0159  # half its thickness [m]
YAW = (-1.6, 3.4)  # of a hand that points down, from home: the wrist's range [rad]
SEAM = (YAW[0] + YAW[1]) / 2 - pi  # yaws are counted from here on, outside of that range [rad]
BASE, REACH = np.array([-0.56, 0.0]), 0.76  # of the arm, with such a hand, from its base in the plane [m]


@dataclass(frozen=True)
class SquareState(State):
    """What is seen: the hand, the nut and the peg."""

    nut: Array
    peg: Array


class Way(NamedTuple):
    """A quarter turn (0 to 3) of the nut on the peg, and which way round the fingers hold the handle."""

    quarter: int
    swap: bool


WAYS = tuple(Way(quarter, swap) for quarter in range(4) for swap in (False, True))


class RobosuiteSquare(RobosuiteTask[SquareState]):
    """Grasp a square nut by its handle and put it on the square peg: robosuite's NutAssemblySquare.

    {action}

    Observation, Dict of float32:

    | key | size | meaning | MJCF |
    |---|---|---|---|
    {hand}
    | nut | 7 | nut, z up, its handle along x | body `SquareNut_main` |
    | peg | 7 | peg, at its centre, z up | body `peg1` |

    Start: robosuite's own: the nut on the table on the left at any yaw, the arm's joints 0.02 rad off home.
    Success, by robosuite: nut within 3 cm of the peg in x and in y and its centre under {height:.2f} m, 5 cm over
    the table; a hand that still holds the handle may be there. Modes: the four quarter turns of the nut on the peg;
    with a hand that points down the arm reaches the one whose handle points to it (2), and has one or two ways there,
    by which finger is on which side of the handle (`mode_count`).
    Ends: success, a nut off the table, or {steps} steps. Failures: {failures}.
    """

    source = "NutAssemblySquare"
    state_type = SquareState
    bodies = {"nut": "SquareNut_main", "peg": "peg1"}  # noqa: RUF012
    workspace = np.array([[-0.35, -0.40, 0.82], [0.35, 0.40, 1.30]])
    steps = 400
    failures = ("no_grasp", "dropped", "misaligned", "not_deep_enough", "physics")
    height = 0.87

    def ways(self, state: SquareState) -> tuple[Way, ...]:
        """Those that the arm reaches, at the grasp and on the peg within the wrist's range."""
        found = []
        for way in WAYS:
            placed = poses.compose(on_peg(state.peg, way.quarter), grip(way.swap))
            turns = (yaw(poses.compose(state.nut, grip(way.swap))), yaw(placed))
            near = float(np.hypot(*(placed[:2] - BASE))) < REACH
            if near and min(turns) > YAW[0] and max(turns) < YAW[1]:
                found.append(way)
        return tuple(found)

    def mode(self, state: SquareState) -> int:
        """The quarter turn of the nut that is nearest to the peg's."""
        x = poses.rotate(poses.between(state.peg, state.nut), (1, 0, 0))
        return round(float(np.arctan2(x[1], x[0])) / (pi / 2)) % 4

    def failed(self, state: SquareState) -> bool:
        """Off the table."""
        return bool(state.nut[2] < 0.75)

    def shortfall(self, state: SquareState) -> str:
        """By where the nut is."""
        held = poses.norm(poses.between(state.nut, state.tcp)[:3] - GRIP) < 0.03
        off = np.abs(state.nut[:2] - state.peg[:2]).max()
        if off < 0.03:
            return "not_deep_enough"
        if held and state.nut[2] > 0.85:
            return "misaligned"
        return "dropped" if self.lifted else "no_grasp"

    def lifts(self, state: SquareState) -> bool:
        """Whether the nut is off the table."""
        return bool(state.nut[2] > 0.86)

    def expert(self, choice: str = "greedy", seed: int | None = None) -> RobosuiteExpert:
        """The closed-loop expert; `choice` "greedy" takes the shortest of the ways, "random" draws one."""
        from .square_expert import SquareExpert

        return SquareExpert(self, choice, seed)


def grip(swap: bool) -> Array:
    """T_nut_tcp of a hand that comes from above, its x, along which the fingers close, across the handle."""
    down = poses.compose(poses.pose(GRIP), poses.pose(rotvec=(pi, 0, 0)))
    return poses.compose(down, poses.pose(rotvec=(0, 0, -pi / 2 if swap else pi / 2)))


def on_peg(peg: Array, quarter: int) -> Array:
    """The peg's pose in the turn in which the nut is to sit on it."""
    return poses.compose(peg, poses.pose(rotvec=(0, 0, quarter * pi / 2)))


def yaw(T_world_tcp: Array) -> float:
    """How far a hand that points down is turned from home, where its x is the world's y, from `SEAM` on [rad]."""
    x = poses.rotate(T_world_tcp, (1, 0, 0))
    return SEAM + float((np.arctan2(-x[0], x[1]) - SEAM) % (2 * pi))


datasheet(RobosuiteSquare, height=RobosuiteSquare.height)
