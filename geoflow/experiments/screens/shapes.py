"""MuJoCo's geoms as triangle meshes in their own frames, outward faces counter-clockwise."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

from itertools import product
from math import pi
from typing import Any

import mujoco
import numpy as np

AROUND, ALONG = 24, 8
"""Corners of a circle, and of a quarter from equator to pole."""
ENDLESS = 2.0
"""Half length that stands for a plane's infinite one [m]."""

Mesh = tuple[np.ndarray, np.ndarray]
"""Vertices (V, 3) [m] and faces (F, 3)."""


def shape(model: Any, geom: int) -> Mesh:
    """The surface of a geom; raises ValueError for a kind that has none here (height field, SDF)."""
    kind, size = mujoco.mjtGeom(int(model.geom_type[geom])), np.array(model.geom_size[geom])
    kinds = mujoco.mjtGeom
    if kind == kinds.mjGEOM_PLANE:
        half = np.where(size[:2] > 0, size[:2], ENDLESS)
        return box(np.array([*half, 0.0005]))
    if kind == kinds.mjGEOM_BOX:
        return box(size)
    if kind in (kinds.mjGEOM_SPHERE, kinds.mjGEOM_ELLIPSOID):
        vertices, faces = revolve(_dome(1.0, 0.0))
        return vertices * (size if kind == kinds.mjGEOM_ELLIPSOID else size[0]), faces
    if kind == kinds.mjGEOM_CAPSULE:
        return revolve(_dome(size[0], size[1]))
    if kind == kinds.mjGEOM_CYLINDER:
        r, h = size[:2]
        return revolve(np.array([[0, -h], [r, -h], [r, h], [0, h]]))
    if kind == kinds.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        face, faces = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
        return model.mesh_vert[first : first + count].copy(), model.mesh_face[face : face + faces].copy()
    raise ValueError(f"geom {geom} is of kind {kind.name}, which has no mesh here.")


def box(half: np.ndarray) -> Mesh:
    """A box of half lengths (3,) [m]."""
    corners = np.array(list(product((-1, 1), repeat=3))) * half
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return corners, np.array([face for a, b, c, d in sides for face in ((a, b, c), (a, c, d))])


def revolve(profile: np.ndarray) -> Mesh:
    """A profile (n, 2) of radius and height, from the lower pole to the upper, turned about z."""
    angle = np.linspace(0, 2 * pi, AROUND, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], -1)
    vertices = np.concatenate([np.c_[r * ring, np.full(AROUND, z)] for r, z in profile])
    faces = []
    for row in range(len(profile) - 1):
        for i in range(AROUND):
            a, b = row * AROUND + i, row * AROUND + (i + 1) % AROUND
            faces += [(a, b, b + AROUND), (a, b + AROUND, a + AROUND)]
    return vertices, np.array(faces)


def colour(model: Any, geom: int) -> np.ndarray:
    """Red, green, blue and opacity (4,) in [0, 1]: the material's, or the mean of its texture."""
    material = int(model.geom_matid[geom])
    if material < 0:
        return np.array(model.geom_rgba[geom])
    rgba = np.array(model.mat_rgba[material])
    texture = int(model.mat_texid[material].max())
    if texture >= 0:
        channels = int(model.tex_nchannel[texture])
        first = int(model.tex_adr[texture])
        count = int(model.tex_height[texture]) * int(model.tex_width[texture]) * channels
        rgba[:3] *= model.tex_data[first : first + count].reshape(-1, channels)[:, :3].mean(0) / 255
    return rgba


def _dome(radius: float, half: float) -> np.ndarray:
    """Profile of a capsule; a sphere where its half length is 0."""
    lower = np.linspace(-pi / 2, 0, ALONG)
    low = np.c_[radius * np.cos(lower), radius * np.sin(lower) - half]
    return np.concatenate([low, low[::-1] * (1, -1)])
