"""Wrappers between our pose actions and those of other environments."""

from __future__ import annotations

from .convention import ActionConvention
from .pose_action import ForeignActionWrapper, PoseActionWrapper
from .rotations import ROTATIONS, RotationCode, euler

__all__ = [
    "ROTATIONS",
    "ActionConvention",
    "ForeignActionWrapper",
    "PoseActionWrapper",
    "RotationCode",
    "euler",
]
