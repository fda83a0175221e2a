"""Trajectories in the plane, from noise to data: straight or not, crossing or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from torch import Tensor

from . import look


def streams_picture(
    columns: list[str], rows: list[list[tuple[Tensor, np.ndarray]]], path: Path, notes: list[list[str]]
) -> Path:
    """A panel for each method (column) and set (row).

    Args:
        columns: Names of the methods.
        rows: For each set and method the states (k, n, 2) and the colours' index (n,) into `look.MODES`.
        path: Where to write.
        notes: A line under each panel.
    """
    height = 2.5 * len(rows) + 0.35
    with look.figure(2.4 * len(columns) + 0.1, height) as figure:
        grid = figure.subplots(
            len(rows),
            len(columns),
            squeeze=False,
            gridspec_kw={
                "left": 0.01,
                "right": 0.99,
                "top": 1 - 0.3 / height,
                "bottom": 0.02,
                "wspace": 0.03,
                "hspace": 0.06,
            },
        )
        for axes_row, panels, texts in zip(grid, rows, notes, strict=True):
            for axes, (states, index), text in zip(axes_row, panels, texts, strict=True):
                _panel(axes, states.numpy(), index)
                axes.text(
                    0.5,
                    0.015,
                    text,
                    transform=axes.transAxes,
                    ha="center",
                    va="bottom",
                    fontsize=8.5,
                    color=look.GREY,
                )
        for axes, name in zip(grid[0], columns, strict=True):
            axes.set_title(name, loc="center", pad=4, fontsize=10.5)
        return look.save(figure, path)


def _panel(axes: Axes, states: np.ndarray, index: np.ndarray, lines: int = 260) -> None:
    colours = np.array([to_rgb(look.MODES[i]) for i in index])
    steps = len(states) - 1
    for i in range(steps):
        shade = np.concatenate(
            [colours[:lines], np.full((min(lines, len(colours)), 1), 0.05 + 0.5 * i / steps)], -1
        )
        segments = np.stack([states[i, :lines], states[i + 1, :lines]], 1)
        axes.add_collection(LineCollection(list(segments), colors=shade, linewidths=0.7, zorder=1))
    axes.scatter(*states[0, :lines].T, s=2.5, c="#a9b4c2", linewidths=0, zorder=2)
    axes.scatter(*states[-1].T, s=4, c=colours, linewidths=0, zorder=3)
    axes.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal")
    axes.axis("off")
