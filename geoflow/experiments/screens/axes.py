"""Poses as three coloured axes in a MuJoCo scene, x red, y green, z blue."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from geoflow.experiments.screens.base import Marks

COLOURS = ((0.87, 0.26, 0.23), (0.24, 0.66, 0.32), (0.20, 0.45, 0.86))
FRAME_LENGTH, CHUNK_LENGTH, RADIUS = 0.06, 0.028, 0.0016
"""Of an axis [m]."""
PALEST = 0.25
"""Opacity of a chunk's last pose."""


def draw(scene: Any, marks: Marks) -> None:
    """Add the marks' poses to a scene (mjvScene), as many as it has room for."""
    if marks.frame is not None:
        for pose in np.reshape(marks.frame, (-1, 7)):
            add_axes(scene, pose, FRAME_LENGTH, 2 * RADIUS)
    if marks.chunk is not None:
        for poses, opacity in zip(marks.chunk, np.linspace(1, PALEST, len(marks.chunk)), strict=True):
            for pose in poses.reshape(-1, 7):
                add_axes(scene, pose, CHUNK_LENGTH, RADIUS, float(opacity))


def add_axes(scene: Any, pose: np.ndarray, length: float, radius: float, opacity: float = 1.0) -> None:
    """Add the three axes of a pose (7,) in the world."""
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, np.asarray(pose[3:7], float))
    start = np.asarray(pose[:3], float)
    for axis, colour in zip(matrix.reshape(3, 3).T, COLOURS, strict=True):
        if scene.ngeom >= scene.maxgeom:
            return
        geom, kind = scene.geoms[scene.ngeom], mujoco.mjtGeom.mjGEOM_CAPSULE
        rgba = np.array([*colour, opacity], np.float32)
        mujoco.mjv_initGeom(geom, kind, np.zeros(3), np.zeros(3), np.eye(3).ravel(), rgba)
        mujoco.mjv_connector(geom, kind, radius, start, start + length * axis)
        scene.ngeom += 1
