"""ToolHang: put a hook's rod into a stand, then hang a wrench on the hook."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..poses import Array
from ..tasks.base import State
from .base import RobosuiteTask, datasheet


@dataclass(frozen=True)
class ToolHangState(State):
    """What is seen: the hand, the stand, the hook's frame and the wrench."""

    stand: Array
    frame: Array
    tool: Array


class RobosuiteToolHang(RobosuiteTask[ToolHangState]):
    """Put the rod of a hook into a stand, then hang a wrench on the hook: robosuite's ToolHang.

    {action}

    Observation, Dict of float32:

    | key | size | meaning | MJCF |
    |---|---|---|---|
    {hand}
    | stand | 7 | stand, z up, its mouth at (0, 0.045, 0.08) m | body `stand_root` |
    | frame | 7 | hook: the rod along -z, its tip down there, the hook along -x at its upper end | body `frame_root` |
    | tool | 7 | wrench, along x; the hole that counts is its -x end | body `tool_root` |

    Start: robosuite's own: stand at its place, frame and wrench on the table within 2 cm and 10 degrees.
    Success, by robosuite: the frame stands in the stand, and the wrench hangs on the hook, off the hand.
    There is no scripted expert.
    Ends: success, frame or wrench off the table, or {steps} steps. Failures: {failures}.
    """

    source = "ToolHang"
    state_type = ToolHangState
    bodies = {"stand": "stand_root", "frame": "frame_root", "tool": "tool_root"}  # noqa: RUF012
    workspace = np.array([[-0.35, -0.40, 0.80], [0.30, 0.40, 1.40]])
    steps = 700
    failures = ("not_assembled", "not_hung", "dropped", "physics")

    def ways(self, state: ToolHangState) -> tuple[int, ...]:
        """One."""
        return (0,)

    def mode(self, state: ToolHangState) -> int:
        """0."""
        return 0

    def failed(self, state: ToolHangState) -> bool:
        """Off the table."""
        return bool(min(state.frame[2], state.tool[2]) < 0.7)

    def shortfall(self, state: ToolHangState) -> str:
        """The first of its steps that is not done."""
        if self.failed(state):
            return "dropped"
        return "not_hung" if self.sim_env._check_frame_assembled() else "not_assembled"


datasheet(RobosuiteToolHang)
