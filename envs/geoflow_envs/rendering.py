"""Frames of a MuJoCo scene, with OpenGL asked for only when the first frame is wanted."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray


def renderer(model: mujoco.MjModel, width: int, height: int) -> mujoco.Renderer:
    """MuJoCo's renderer of one model; raises RuntimeError in one sentence where no OpenGL can be had."""
    try:
        return mujoco.Renderer(model, height, width)
    except Exception as error:  # PyOpenGL, EGL and GLFW each raise kinds of their own
        raise RuntimeError(
            "rendering needs OpenGL, which could not be started here "
            f"({type(error).__name__}: {error}); on a headless Debian or Ubuntu `apt-get install "
            "libegl1 libgl1-mesa-dri` gives software EGL, and all but pictures works without it."
        ) from error


class FrameRenderer:
    """Lazy RGB frames of one camera; `groups` are the geom groups that are shown, if not MuJoCo's own choice."""

    def __init__(
        self,
        model: mujoco.MjModel,
        width: int,
        height: int,
        camera: str,
        groups: Sequence[int] | None = None,
    ) -> None:
        self.model, self.width, self.height, self.camera = model, width, height, camera
        self.option = mujoco.MjvOption()
        if groups is not None:
            self.option.geomgroup[:] = [group in groups for group in range(mujoco.mjNGROUP)]
        self._renderer: mujoco.Renderer | None = None

    def render(self, data: mujoco.MjData) -> NDArray[np.uint8]:
        """One frame (height, width, 3), uint8."""
        if self._renderer is None:
            self._renderer = renderer(self.model, self.width, self.height)
        self._renderer.update_scene(data, self.camera, self.option)
        return self._renderer.render().copy()

    def close(self) -> None:
        """Free the OpenGL context, if there is one."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
