"""geoflow_envs: gymnasium MuJoCo tasks whose action is an end-effector pose. Importing it registers them."""

from __future__ import annotations

import ctypes
import os
import sys


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


if (
    sys.platform.startswith("linux")
    and not os.environ.get("DISPLAY")
    and not os.environ.get("WAYLAND_DISPLAY")
):
    # MuJoCo reads this once, when it is imported. Its own default (glfw) needs a display, and asking for an EGL
    # that is not there would fail the import itself.
    if _loads("libEGL.so.1"):
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
