"""Rotations on a globe: the tool axis R e_z on the sphere, its spin as colour; or rotation vectors in a ball.

The ball has radius pi, and opposite points of its surface are the same rotation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from PIL import Image
from torch import Tensor

from geoflow.data.atomic import replacing
from geoflow.lie import so3

from . import look

TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)
CAMERA = look.view(-60, 28)


def tool_axes(q: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """R e_z (..., 3), and the spin about it as a share of a turn (...): psi of R_z(phi) R_y(theta) R_z(psi)."""
    R = so3.to_matrix(q).numpy()
    spin = np.arctan2(R[..., 2, 1], -R[..., 2, 0])
    return R[..., 2], (spin / (2 * np.pi)) % 1.0


def ball_points(q: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Rotation vectors over pi (..., 3), and the angle as a share of a half turn (...)."""
    v = so3.log(q).numpy() / np.pi
    return v, np.linalg.norm(v, axis=-1)


def draw(
    axes: Axes, points: np.ndarray, colours: np.ndarray, trail: int = 12, solid: bool = True, size: float = 9
) -> None:
    """Particles at the last of the states (k, n, 3), with a fading trail of the ones before.

    Args:
        axes: Where.
        points: In the unit ball.
        colours: RGBA (n, 4) of the particles.
        trail: States of the trail.
        solid: A globe whose far side shines through faintly, or else a ball of which a slice is shown.
        size: Of a particle [points^2].
    """
    _globe(axes, solid)
    flat = points @ CAMERA.T
    last = flat[-1]
    front = last[:, 2] >= 0
    # Of a ball, a slice: the middle is seen, and what lies before and behind it is faint.
    strength = np.where(front, 1.0, 0.13) if solid else np.where(np.abs(last[:, 2]) < 0.3, 1.0, 0.08)
    tail = flat[-(trail + 1) :]
    for i in range(len(tail) - 1):
        here, there = tail[i], tail[i + 1]
        # A jump across the ball is the same rotation on the other side, no way that was walked.
        whole = np.linalg.norm(there - here, axis=-1) < 0.35
        shade = colours.copy()
        shade[:, 3] = 0.55 * strength * (i + 1) / len(tail)
        lines = np.stack([here[whole, :2], there[whole, :2]], 1)
        axes.add_collection(LineCollection(list(lines), colors=shade[whole], linewidths=0.9, zorder=3))
    order = np.argsort(last[:, 2])
    shade = colours.copy()
    shade[:, 3] = 0.95 * strength
    scale = 0.75 + 0.25 * last[:, 2]
    axes.scatter(
        last[order, 0], last[order, 1], s=size * scale[order] ** 2, c=shade[order], linewidths=0, zorder=4
    )


def _globe(axes: Axes, solid: bool) -> None:
    n = 300
    y, x = np.mgrid[-1 : 1 : n * 1j, -1 : 1 : n * 1j]
    r = np.hypot(x, y)
    z = np.sqrt(np.clip(1 - r * r, 0, 1))
    light = np.clip(-0.35 * x + 0.55 * y + 0.75 * z, 0, 1)
    low, high = (0.83, 1.0) if solid else (0.90, 1.0)
    tint = np.array([0.93, 0.955, 0.99])
    shade = (low + (high - low) * light)[..., None] * tint
    edge = np.clip((1 - r) * n / 2, 0, 1)
    axes.imshow(
        np.dstack([shade, edge]), extent=(-1, 1, -1, 1), origin="lower", zorder=0, interpolation="bilinear"
    )
    turn = np.linspace(0, 2 * np.pi, 181)
    circles = [
        np.stack([np.cos(e) * np.cos(turn), np.cos(e) * np.sin(turn), np.full_like(turn, np.sin(e))], -1)
        for e in np.radians([-60, -30, 0, 30, 60])
    ]
    circles += [
        np.stack([np.cos(a) * np.cos(turn), np.sin(a) * np.cos(turn), np.sin(turn)], -1)
        for a in np.radians(np.arange(0, 180, 30))
    ]
    for circle in circles:
        flat = circle @ CAMERA.T
        segments = np.stack([flat[:-1, :2], flat[1:, :2]], 1)
        near = flat[:-1, 2] >= 0
        for part, alpha in ((near, 0.55), (~near, 0.12 if solid else 0.25)):
            axes.add_collection(
                LineCollection(list(segments[part]), colors="#b3c0d1", linewidths=0.6, alpha=alpha, zorder=1)
            )
    axes.set(xlim=(-1.04, 1.04), ylim=(-1.04, 1.04), aspect="equal")
    axes.axis("off")


def flows_picture(rows: list[tuple[str, Tensor, str]], path: Path) -> Path:
    """Rows (title, states (k, n, 4), "axis" or "ball"), columns `TIMES`."""
    with look.figure(2.05 * len(TIMES) + 0.35, 2.12 * len(rows) + 0.75, dpi=94) as figure:
        height = 2.12 * len(rows) + 0.75
        grid = figure.subplots(
            len(rows),
            len(TIMES),
            squeeze=False,
            gridspec_kw={
                "left": 0.04,
                "right": 0.995,
                "top": 1 - 0.32 / height,
                "bottom": 0.42 / height,
                "wspace": 0.03,
                "hspace": 0.03,
            },
        )
        for axes_row, (title, states, kind) in zip(grid, rows, strict=True):
            points, colours = _drawn(states, kind)
            for axes, t in zip(axes_row, TIMES, strict=True):
                upto = round(t * (len(states) - 1)) + 1
                draw(axes, points[:upto], colours[upto - 1], solid=kind == "axis")
            axes_row[0].text(
                -0.03,
                0.5,
                title,
                transform=axes_row[0].transAxes,
                rotation=90,
                ha="right",
                va="center",
                weight="bold",
                fontsize=10.5,
            )
        for axes, t in zip(grid[0], TIMES, strict=True):
            name = {0.0: "noise, t = 0", 1.0: "samples, t = 1"}.get(t, f"t = {t:g}")
            axes.set_title(name, loc="center", fontsize=10, weight="normal", pad=4)
        _spin_bar(figure, height)
        return look.save(figure, path, colours=144)


def _drawn(states: Tensor, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Points (k, n, 3) and colours (k, n, 4)."""
    if kind == "axis":
        points, spin = tool_axes(states)
        return points, look.hue(spin)
    points, angle = ball_points(states)
    return points, mpl.colormaps["viridis"](0.05 + 0.8 * angle)


def _spin_bar(figure: Any, height: float) -> None:
    axes = figure.add_axes((0.36, 0.2 / height, 0.28, 0.09 / height))
    axes.imshow(look.hue(np.linspace(0, 1, 256))[None], aspect="auto", extent=(0, 360, 0, 1))
    axes.set(yticks=[], xticks=[0, 90, 180, 270, 360])
    axes.tick_params(length=2, labelsize=7.5, pad=1)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.text(
        -0.03,
        0.5,
        "spin about the tool axis [deg]",
        transform=axes.transAxes,
        ha="right",
        va="center",
        fontsize=8.5,
    )


def animation(states: Tensor, path: Path, size: int = 300, frames: int = 36) -> Path:
    """A GIF of particles on the globe: noise, the way, and a rest at the end."""
    points, shades = _drawn(states, "axis")
    images = []
    for i in range(frames):
        # Slower at both ends.
        t = 0.5 - 0.5 * np.cos(np.pi * i / (frames - 1))
        upto = round(t * (len(states) - 1)) + 1
        with look.figure(size / 100, size / 100, dpi=100) as figure:
            axes = figure.add_axes((0, 0, 1, 1))
            draw(axes, points[:upto], shades[upto - 1], size=11)
            images.append(look.pixels(figure))
    palette = _palette(images[len(images) // 2])
    pages = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    durations = [700, *[60] * (frames - 2), 1600]
    with replacing(path) as temporary:
        pages[0].save(
            temporary,
            format="gif",
            save_all=True,
            append_images=pages[1:],
            duration=durations,
            loop=0,
            optimize=True,
        )
    return path


def _palette(image: Image.Image, greys: int = 40, hues: int = 24) -> Image.Image:
    """Colours of the globe, which fill a picture, and of particles and their trails, which do not."""
    globe = image.quantize(greys, method=Image.Quantize.MEDIANCUT).getpalette()
    assert globe is not None
    full = 255 * look.hue(np.arange(hues) / hues)[:, :3]
    trails = 0.5 * full + 0.5 * 232
    numbers = globe[: 3 * greys] + [round(float(v)) for v in np.concatenate([full, trails]).flatten()]
    palette = Image.new("P", (1, 1))
    palette.putpalette(numbers)
    return palette
