"""Grasps as small grippers around their object: from noise to the modes of a set on SE(3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from torch import Tensor

from geoflow.lie import so3

from ..sets import BOX_HALF, CYLINDER_HEIGHT, CYLINDER_RADIUS, ToySet
from . import look

TIMES = (0.0, 0.35, 0.7, 1.0)
CAMERA = look.view(-55, 36)
_W, _PALM, _TIP = 0.46, 0.05, 0.62
GRIPPER = (
    np.array([[0, 0, -0.35], [0, 0, _PALM]]),
    np.array([[0, -_W, _TIP], [0, -_W, _PALM], [0, _W, _PALM], [0, _W, _TIP]]),
)
"""A stem along the approach z, and a fork across the jaws' direction y [dm]."""
MARK = np.array([0, _W, _PALM])
"""Tells a grasp from its flip."""


def grasps_picture(rows: list[tuple[ToySet, Tensor]], path: Path, shown: int = 26) -> Path:
    """Rows (set, states (k, n, 7)), columns `TIMES`; colours by the mode where each sample ends."""
    height = 2.75 * len(rows) + 0.35
    with look.figure(2.75 * len(TIMES) + 0.3, height) as figure:
        grid = figure.subplots(
            len(rows),
            len(TIMES),
            squeeze=False,
            gridspec_kw={
                "left": 0.03,
                "right": 1,
                "top": 1 - 0.33 / height,
                "bottom": 0,
                "wspace": 0,
                "hspace": 0,
            },
        )
        for axes_row, (toy, states) in zip(grid, rows, strict=True):
            modes = toy.mode_of(states[-1])[:shown].numpy()
            colours = np.array(look.MODES)[modes]
            for axes, t in zip(axes_row, TIMES, strict=True):
                upto = round(t * (len(states) - 1)) + 1
                _scene(axes, toy.name, states[:upto, :shown], colours)
            axes_row[0].text(
                0.0,
                0.5,
                f"{toy.name}, {toy.modes} modes",
                transform=axes_row[0].transAxes,
                rotation=90,
                ha="right",
                va="center",
                weight="bold",
            )
        for axes, t in zip(grid[0], TIMES, strict=True):
            name = {0.0: "noise, t = 0", 1.0: "grasps, t = 1"}.get(t, f"t = {t:g}")
            axes.set_title(name, loc="center", fontsize=10.5, weight="normal", pad=3)
        return look.save(figure, path)


def _scene(axes: Axes, name: str, states: Tensor, colours: np.ndarray) -> None:
    poses = states[-1]
    R, p = so3.to_matrix(poses[:, 3:]).numpy(), poses[:, :3].numpy()
    depth = p @ CAMERA[2]
    parts = [np.einsum("nij,kj->nki", R, part) + p[:, None] for part in GRIPPER]
    marks = np.einsum("nij,j->ni", R, MARK) + p
    trail = states[:, :, :3].numpy() @ CAMERA.T
    for i, colour in enumerate(colours):
        axes.plot(trail[:, i, 0], trail[:, i, 1], color=colour, lw=0.6, alpha=0.3, zorder=0.5)
    for behind in (True, False):
        chosen = np.flatnonzero((depth < 0) == behind)
        chosen = chosen[np.argsort(depth[chosen])]
        zorder = 1 if behind else 3
        fade = 0.5 if behind else 1.0
        for part in parts:
            lines = [part[i] @ CAMERA[:2].T for i in chosen]
            axes.add_collection(
                LineCollection(
                    lines, colors="white", linewidths=3.0, zorder=zorder, alpha=0.6 * fade, capstyle="round"
                )
            )
            axes.add_collection(
                LineCollection(
                    lines,
                    colors=colours[chosen],
                    linewidths=1.5,
                    zorder=zorder + 0.1,
                    alpha=fade,
                    capstyle="round",
                    joinstyle="round",
                )
            )
        at = marks[chosen] @ CAMERA[:2].T
        axes.scatter(
            at[:, 0], at[:, 1], s=9, c=colours[chosen], zorder=zorder + 0.2, linewidths=0, alpha=fade
        )
    faces, shades = _cylinder() if name == "cylinder" else _box()
    order = np.argsort([face.mean(0) @ CAMERA[2] for face in faces])
    flat = [faces[i] @ CAMERA[:2].T for i in order]
    axes.add_collection(
        PolyCollection(
            flat, facecolors=[shades[i] for i in order], edgecolors="none", zorder=2, antialiaseds=False
        )
    )
    axes.set(xlim=(-1.9, 1.9), ylim=(-1.9, 1.9), aspect="equal")
    axes.axis("off")


def _shade(normal: np.ndarray) -> tuple[float, float, float]:
    light = 0.62 + 0.38 * max(0.0, float(normal @ np.array([0.1, -0.75, 0.65])))
    return (0.80 * light, 0.83 * light, 0.88 * light)


def _cylinder() -> tuple[list[np.ndarray], list[tuple[float, float, float]]]:
    angle = np.linspace(0, 2 * np.pi, 61)
    ring = CYLINDER_RADIUS * np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], -1)
    up = np.array([0, 0, CYLINDER_HEIGHT / 2])
    faces, shades = [ring + up], [_shade(np.array([0.0, 0, 1]))]
    for i in range(60):
        normal = (ring[i] + ring[i + 1]) / np.linalg.norm(ring[i] + ring[i + 1])
        if normal @ CAMERA[2] > -0.05:
            faces.append(np.stack([ring[i] - up, ring[i + 1] - up, ring[i + 1] + up, ring[i] + up]))
            shades.append(_shade(normal))
    return faces, shades


def _box() -> tuple[list[np.ndarray], list[tuple[float, float, float]]]:
    half = BOX_HALF.numpy()
    faces, shades = [], []
    for axis in range(3):
        for sign in (-1, 1):
            normal = np.zeros(3)
            normal[axis] = sign
            if normal @ CAMERA[2] <= 0:
                continue
            b, c = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
            corners = [normal + s * b + t * c for s, t in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            faces.append(np.stack(corners) * half)
            shades.append(_shade(normal))
    return faces, shades
