"""geoflow_envs: gymnasium MuJoCo tasks whose action is an end-effector pose. Importing it registers them."""

from __future__ import annotations

import os
import sys

if (
    sys.platform.startswith("linux")
    and not os.environ.get("DISPLAY")
    and not os.environ.get("WAYLAND_DISPLAY")
):
    # MuJoCo reads this once, when it is imported; its own default (glfw) needs a display.
    os.environ.setdefault("MUJOCO_GL", "egl")

import gymnasium as gym

from .episode_end import EpisodeEnd

TASKS: dict[str, str] = {
    "geoflow/TiltedPegInsert-v0": f"{__name__}.tasks.peg:TiltedPegInsert",
}

for _id, _entry_point in TASKS.items():
    if _id not in gym.registry:
        gym.register(_id, entry_point=_entry_point, additional_wrappers=(EpisodeEnd.wrapper_spec(),))

__all__ = ["TASKS", "EpisodeEnd"]
