"""A film of what a screen would show, as MP4 (H.264) or GIF; needs OpenGL, and no display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from geoflow.data.atomic import replacing
from geoflow.experiments.encoding import gif, mp4
from geoflow.experiments.screens.base import Marks, Screen

GIF_EVERY = 2
"""A GIF holds every second step."""


class FilmScreen(Screen):
    """Frames from one camera, kept until the film is written."""

    def __init__(
        self, env: Any, out: Path, camera: str | int = -1, size: tuple[int, int] = (640, 480)
    ) -> None:
        """`camera`: a name in the model, or -1 for a free one; `size`: width and height, even numbers [pixels]."""
        super().__init__()
        if min(size) < 16 or size[0] % 2 or size[1] % 2:
            raise ValueError(f"size is width and height in pixels, even numbers from 16 on; got {size}.")
        self._env, self.out, self._camera, self._size = env, out, camera, size
        self._fps = float(env.metadata.get("render_fps", 20))
        self._every = GIF_EVERY if out.suffix.lower() == ".gif" else 1
        self._renderer: Any = None
        self._count = 0
        self.frames: list[np.ndarray] = []

    @property
    def running(self) -> bool:
        """As long as there is something to film."""
        return True

    def show(self, marks: Marks) -> None:
        """Keep a frame of the present state."""
        if self._count % self._every == 0:
            self.frames.append(self._picture(marks))
        self._count += 1

    def write(self) -> Path:
        """Write the film, whole or not at all."""
        encode = gif if self.out.suffix.lower() == ".gif" else mp4
        with replacing(self.out) as temporary:
            temporary.write_bytes(encode(self.frames, self._fps / self._every))
        return self.out

    def close(self) -> None:
        """Free the OpenGL context."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _picture(self, marks: Marks) -> np.ndarray:
        base = self._env.unwrapped
        if not hasattr(base, "model"):
            picture = self._env.render()
            if picture is None:
                raise ValueError(
                    f"the env {self._env.spec.id!r} renders no rgb_array, and has no MuJoCo model."
                )
            return np.asarray(picture)
        from geoflow.experiments.screens.axes import draw

        if self._renderer is None:
            self._renderer = self._start(base.model)
        self._renderer.update_scene(base.data, camera=self._camera)
        draw(self._renderer.scene, marks)
        return self._renderer.render().copy()

    def _start(self, model: Any) -> Any:
        import mujoco

        cameras = [model.camera(i).name for i in range(model.ncam)]
        if self._camera != -1 and self._camera not in cameras:
            raise ValueError(f"camera must be one of {', '.join(cameras)}; got {self._camera!r}.")
        width, height = self._size
        buffer = model.vis.global_
        buffer.offwidth, buffer.offheight = max(buffer.offwidth, width), max(buffer.offheight, height)
        try:
            return mujoco.Renderer(model, height, width)
        except Exception as error:  # PyOpenGL, EGL and GLFW each raise kinds of their own
            raise ValueError(
                f"a film needs OpenGL, which could not be started here ({type(error).__name__}: {error}); on a "
                "headless Debian or Ubuntu `apt-get install libegl1 libgl1-mesa-dri` gives software EGL."
            ) from error
