"""geoflow_envs: gymnasium MuJoCo tasks whose action is an end-effector pose. Importing it registers them."""

from __future__ import annotations

import gymnasium as gym

from . import headless as headless  # before anything imports MuJoCo
from .episode_end import EpisodeEnd

TASKS: dict[str, str] = {
    "geoflow/TiltedPegInsert-v0": f"{__name__}.tasks.peg:TiltedPegInsert",
    "geoflow/HalfTurnStand-v0": f"{__name__}.tasks.half_turn:HalfTurnStand",
    "geoflow/RackSlot-v0": f"{__name__}.tasks.rack:RackSlot",
    "geoflow/KeyTurn-v0": f"{__name__}.tasks.key_turn:KeyTurn",
    "geoflow/HookHang-v0": f"{__name__}.tasks.hook_hang:HookHang",
    "geoflow/WireLoop-v0": f"{__name__}.tasks.wire_loop:WireLoop",
    "geoflow/BimanualPeg-v0": f"{__name__}.tasks.bimanual_peg:BimanualPeg",
}

ROBOSUITE_TASKS: dict[str, str] = {
    "geoflow/RobosuiteSquare-v0": f"{__name__}.robosuite_tasks.square:RobosuiteSquare",
    "geoflow/RobosuiteToolHang-v0": f"{__name__}.robosuite_tasks.tool_hang:RobosuiteToolHang",
    "geoflow/RobosuiteTwoArmPegInHole-v0": f"{__name__}.robosuite_tasks.two_arm_peg:RobosuiteTwoArmPegInHole",
    "geoflow/RobosuiteDoor-v0": f"{__name__}.robosuite_tasks.door:RobosuiteDoor",
}
"""Tasks of robosuite, which has an environment of its own: docs/robosuite.md."""

for _id, _entry_point in {**TASKS, **ROBOSUITE_TASKS}.items():
    if _id not in gym.registry:
        gym.register(_id, entry_point=_entry_point, additional_wrappers=(EpisodeEnd.wrapper_spec(),))

__all__ = ["ROBOSUITE_TASKS", "TASKS", "EpisodeEnd"]
