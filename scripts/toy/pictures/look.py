"""The look of the pictures: colours, a figure that belongs to no window, PNG files of few colours."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from geoflow.data.atomic import replacing
from geoflow.experiments.figures import COLOURS, GREY, INK, STYLE

MODES = (
    "#0072B2",
    "#56B4E9",
    "#D55E00",
    "#F2A65A",
    "#009E73",
    "#7CCBA2",
    "#8E4F9E",
    "#CC9BD0",
    "#E69F00",
    "#5f6b7a",
)
"""Ten colours, neighbours in pairs of one hue."""


def hue(share: np.ndarray) -> np.ndarray:
    """RGBA (..., 4) of equal lightness around the colour circle, for angles as a share of a turn (OKLCH)."""
    angle = 2 * np.pi * np.asarray(share)
    lightness, a, b = 0.63, 0.15 * np.cos(angle + 0.5), 0.15 * np.sin(angle + 0.5)
    cone = (
        np.stack(
            [
                lightness + 0.3963377774 * a + 0.2158037573 * b,
                lightness - 0.1055613458 * a - 0.0638541728 * b,
                lightness - 0.0894841775 * a - 1.2914855480 * b,
            ],
            -1,
        )
        ** 3
    )
    mix = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(cone @ mix.T, 0, 1)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.concatenate([rgb, np.ones_like(rgb[..., :1])], -1)


@contextmanager
def figure(width: float, height: float, dpi: int = 110) -> Iterator[Figure]:
    """An empty figure in the house style."""
    with mpl.rc_context(STYLE):
        drawing = Figure(figsize=(width, height), dpi=dpi, facecolor="white")
        FigureCanvasAgg(drawing)
        yield drawing


def pixels(drawing: Figure) -> Image.Image:
    """What the figure looks like."""
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def save(drawing: Figure, path: Path, colours: int = 256) -> Path:
    """Write a PNG of a palette of few colours, atomically: a third of the size, and no eye sees it."""
    with replacing(path) as temporary:
        image = pixels(drawing).quantize(
            colours, method=Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE
        )
        image.save(temporary, format="png", optimize=True)
    return path


def view(azimuth: float, elevation: float) -> np.ndarray:
    """Rows right, up and towards the viewer (3, 3) of a camera at the given angles [degrees] that looks at 0."""
    a, e = np.radians([azimuth, elevation])
    towards = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    right = np.array([-np.sin(a), np.cos(a), 0.0])
    return np.stack([right, np.cross(towards, right), towards])


__all__ = ["COLOURS", "GREY", "INK", "MODES", "figure", "hue", "pixels", "save", "view"]
