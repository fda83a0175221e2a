"""The scene in a web browser, served by viser; keys are its hotkeys and buttons beside the scene."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
import viser

from geoflow.experiments.screens.axes import CHUNK_LENGTH, FRAME_LENGTH, RADIUS
from geoflow.experiments.screens.base import Marks, Screen
from geoflow.experiments.screens.shapes import colour, shape

VISIBLE_GROUPS = 3
"""Geom groups 0, 1 and 2, as MuJoCo shows them."""


class BrowserScreen(Screen):
    """A page on this machine alone, for any number of browsers; Ctrl-C ends it.

    Bodies are nodes with their geoms below, so that one pose a body and step goes over the wire.
    """

    def __init__(self, model: Any, data: Any, name: str, port: int = 8080) -> None:
        super().__init__()
        self._data, self._open = data, True
        self.server = viser.ViserServer(host="127.0.0.1", port=port, label=name, verbose=False)
        self.server.scene.set_up_direction("+z")
        self.server.initial_camera.position = (1.1, -0.75, 0.7)
        self.server.initial_camera.look_at = (0.5, 0.0, 0.12)
        self._bodies = {body: self._body(model, body) for body in range(model.nbody)}
        self._axes: dict[str, Any] = {}
        self._text = self.server.gui.add_markdown("")
        print(f"open http://localhost:{self.server.get_port()} in a browser; Ctrl-C ends.", flush=True)

    @property
    def running(self) -> bool:
        """Until `close`."""
        return self._open

    def offer(self, keys: Mapping[str, str]) -> None:
        """Listen to keys, name -> what it does: as a hotkey of the page, and as a button."""
        with self.server.gui.add_folder("Keys"):
            for key, meaning in keys.items():
                hotkey: Any = key
                self.server.gui.add_command(meaning, hotkey=hotkey).on_trigger(self._presser(key))
                self.server.gui.add_button(f"{key}: {meaning}").on_click(self._presser(key))

    def show(self, marks: Marks) -> None:
        """Send the present state."""
        with self.server.atomic():
            for body, node in self._bodies.items():
                node.position, node.wxyz = self._data.xpos[body].copy(), self._data.xquat[body].copy()
            self._show("/frame", marks.frame, FRAME_LENGTH, 2 * RADIUS)
            self._show("/chunk", marks.chunk, CHUNK_LENGTH, RADIUS)
        if self._text.content != marks.text:
            self._text.content = marks.text.replace("\n", "\n\n")

    def close(self) -> None:
        """Stop serving."""
        if self._open:
            self._open = False
            self.server.stop()

    def _show(self, name: str, marked: np.ndarray | None, length: float, radius: float) -> None:
        """Axes at poses, (..., 7 n); the ones before them of that name go."""
        poses = np.zeros((0, 7)) if marked is None else np.reshape(marked, (-1, 7))
        axes = self._axes.get(name)
        if axes is not None and len(poses) != len(axes.batched_positions):
            self._axes.pop(name).remove()
        if not len(poses):
            return
        if name not in self._axes:
            self._axes[name] = self.server.scene.add_batched_axes(
                name, poses[:, 3:], poses[:, :3], axes_length=length, axes_radius=radius
            )
        axes = self._axes[name]
        axes.batched_wxyzs, axes.batched_positions = poses[:, 3:], poses[:, :3]

    def _body(self, model: Any, body: int) -> Any:
        path = f"/bodies/{body}_{model.body(body).name}"
        node = self.server.scene.add_frame(path, show_axes=False)
        for geom in np.flatnonzero(model.geom_bodyid == body):
            rgba = colour(model, int(geom))
            if model.geom_group[geom] >= VISIBLE_GROUPS or rgba[3] == 0:
                continue
            vertices, faces = shape(model, int(geom))
            flat = model.geom_type[geom] in (mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER)
            self.server.scene.add_mesh_simple(
                f"{path}/{geom}",
                vertices.astype(np.float32),
                faces.astype(np.uint32),
                color=rgba[:3].astype(np.float32),
                opacity=None if rgba[3] == 1 else float(rgba[3]),
                flat_shading=bool(flat),
                position=model.geom_pos[geom].copy(),
                wxyz=model.geom_quat[geom].copy(),
            )
        return node

    def _presser(self, key: str) -> Any:
        def press(_: object) -> None:
            self._pressed.append(key)

        return press
