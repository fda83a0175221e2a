"""MuJoCo's own viewer, in a window."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

import threading
from typing import Any

import mujoco
import mujoco.viewer

from geoflow.experiments.screens.axes import draw
from geoflow.experiments.screens.base import Marks, Screen

NAMES = {256: "escape", 257: "enter", 335: "enter", 259: "backspace"}
"""GLFW's code -> name, where it is no letter or digit."""

CLOSING_SECONDS = 2.0


def key_name(code: int) -> str:
    """The name of a key by GLFW's code; "" for one that has none here."""
    printable = chr(code) if 0 < code < 128 else ""
    return NAMES.get(code, printable if printable.isalnum() else "")


class WindowScreen(Screen):
    """A window; the mouse turns the camera and MuJoCo's panels stay available (Tab, Shift-Tab).

    MuJoCo gives letters and digits meanings of its own (wireframe, geom groups, ...), which are undone here.
    """

    def __init__(self, model: Any, data: Any) -> None:
        """Open it; raises ValueError where it does not open."""
        super().__init__()
        before = set(threading.enumerate())
        try:
            self._viewer: Any = mujoco.viewer.launch_passive(
                model, data, key_callback=self._press, show_left_ui=False, show_right_ui=False
            )
        except Exception as error:  # GLFW and macOS each raise kinds of their own
            raise ValueError(
                f"the window does not open ({error}); try --screen browser, or a film with --out."
            ) from error
        self._threads = set(threading.enumerate()) - before
        with self._viewer.lock():
            mujoco.mjv_defaultFreeCamera(model, self._viewer.cam)
            self._viewer.cam.azimuth, self._viewer.cam.elevation, self._viewer.cam.distance = 150, -25, 1.3
            options, scene = self._viewer.opt, self._viewer.user_scn
            self._look = options.flags.copy(), options.geomgroup.copy(), scene.flags.copy()
            self._labels = int(options.label), int(options.frame)

    @property
    def running(self) -> bool:
        """Until it is closed."""
        return self._viewer.is_running()

    def show(self, marks: Marks) -> None:
        """Draw the present state."""
        if not self.running:
            return
        with self._viewer.lock():
            options, scene = self._viewer.opt, self._viewer.user_scn
            options.flags[:], options.geomgroup[:], scene.flags[:] = self._look
            options.label, options.frame = self._labels
            scene.ngeom = 0
            draw(scene, marks)
        title, _, rest = marks.text.partition("\n")
        self._viewer.set_texts((None, None, title, rest))
        self._viewer.sync()

    def close(self) -> None:
        """Close the window, and wait until it is gone: leaving Python under it would crash."""
        self._viewer.close()
        for thread in self._threads:
            thread.join(CLOSING_SECONDS)

    def _press(self, code: int) -> None:
        if name := key_name(code):
            self._pressed.append(name)
