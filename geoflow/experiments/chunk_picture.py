"""How noise becomes a chunk: poses as small frames at flow times 0, 1/4, 1/2, 3/4 and 1, one row a policy."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from geoflow.experiments.figures import INK, STYLE
from geoflow.flows.integrators.grids import intervals
from geoflow.lie import so3
from geoflow.policies.base import Policy
from geoflow.policies.flow import FlowPolicy, evaluations

TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)
STEPS = 8
AXIS_COLOURS = ("#c8553d", "#4f9d69", "#3b6fb6")
SAMPLES = 12
HALO = [patheffects.withStroke(linewidth=2.5, foreground="white")]


@dataclass(frozen=True)
class ChunkFlow:
    """States of several samples of one chunk, from noise to action.

    Attributes:
        states: World frame, the poses of n arms, shape (len(TIMES), samples, T, n, 7).
        poses: Pose observations the chunk was predicted from, name -> (7,).
        times: When they are: `TIMES`, where the policy steps through these.
    """

    states: np.ndarray
    poses: dict[str, np.ndarray]
    times: tuple[float, ...] = TIMES


def sample_flow(policy: Policy, obs: Mapping[str, Any], seed: int = 0) -> ChunkFlow:
    """Sample one chunk several times in `STEPS` steps, and keep its states nearest to `TIMES`."""
    To = policy.config.observation_steps
    batch = {
        name: torch.as_tensor(np.asarray(value))[None, None].repeat(SAMPLES, To, *[1] * np.ndim(value))
        for name, value in obs.items()
    }
    generators = [torch.Generator().manual_seed(seed + i) for i in range(SAMPLES)]
    states = policy.sample_path(batch, *_cell(policy), generator=generators).cpu().numpy()
    times = _times(policy, len(states) - 1)
    index = [int(np.abs(times - t).argmin()) for t in TIMES]
    kinds = policy.spec.kinds  # of all its tasks, while ``obs`` are one's
    poses = {name: np.asarray(x) for name, x in obs.items() if kinds.get(name) == "pose"}
    hands = states[index][..., : 7 * policy.arms]
    return ChunkFlow(hands.reshape(*hands.shape[:-1], policy.arms, 7), poses, tuple(times[index].tolist()))


def chunk_picture(flows: Mapping[str, ChunkFlow], colours: Mapping[str, str]) -> bytes:
    """Small multiples as PNG: a row a policy, a column a time; the same box in all of them."""
    centre, half = _box(flows)
    rows, columns = len(flows), len(TIMES)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.35 * columns, 2.45 * rows + 0.3), dpi=110)
        FigureCanvasAgg(figure)
        figure.subplots_adjust(
            left=0.03, right=1, bottom=0, top=1 - 0.34 / (2.45 * rows + 0.3), wspace=0, hspace=0
        )
        for row, (policy, flow) in enumerate(flows.items()):
            for column, t in enumerate(flow.times):
                axes: Any = figure.add_subplot(rows, columns, row * columns + column + 1, projection="3d")
                _draw_box(axes, centre, half)
                _draw_context(axes, flow, centre, half)
                for arm in range(flow.states.shape[-2]):
                    _draw_chunk(axes, flow.states[column, ..., arm, :], colours[policy], 0.16 * half)
                if row == 0 or flow.times != TIMES:
                    axes.set_title(_time_name(t), loc="center", pad=2)
            middle = 1 - (row + 0.5) / rows
            figure.text(
                0.018,
                middle,
                policy,
                rotation=90,
                va="center",
                ha="center",
                weight="bold",
                color=colours[policy],
            )
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def box_width(flows: Mapping[str, ChunkFlow]) -> float:
    """Edge of the boxes drawn [m]."""
    return 2 * _box(flows)[1]


def _cell(policy: Policy) -> tuple[int, str]:
    """Evaluations of `STEPS` steps of the policy's own solver, and which it is."""
    solver = policy.chosen(1, None)[1]
    return policy.cells(policy.config, [STEPS * evaluations(solver)])[0]


def _times(policy: Policy, steps: int) -> np.ndarray:
    """Flow times of the ends of steps: those of a flow policy's grid, equal ones of another policy."""
    grid = policy.grid(steps) if isinstance(policy, FlowPolicy) else steps
    return np.array([*(t for t, _ in intervals(grid)), 1.0])


def _time_name(t: float) -> str:
    return {0.0: "t = 0, noise", 1.0: "t = 1, action"}.get(t, f"t = {t:.2g}")


def _box(flows: Mapping[str, ChunkFlow]) -> tuple[np.ndarray, float]:
    """Centre and half edge of a cube that holds nearly all states: stray noise may leave it."""
    points = np.concatenate([flow.states[..., :3].reshape(-1, 3) for flow in flows.values()])
    centre = np.median(points, 0)
    return centre, float(np.quantile(np.abs(points - centre).max(-1), 0.97)) * 1.05 + 1e-6


def _draw_box(axes: Any, centre: np.ndarray, half: float) -> None:
    axes.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] - half, centre[1] + half))
    axes.set_zlim(centre[2] - half, centre[2] + half)
    axes.set_box_aspect((1, 1, 1), zoom=1.18)
    axes.view_init(elev=20, azim=-58)
    axes.computed_zorder = False  # names stay readable in front of the noise
    axes.grid(False)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_ticks([])
        axis.set_pane_color((0.965, 0.972, 0.98, 1.0))
        axis.line.set_color("#d5dbe3")


def _draw_chunk(axes: Any, chunks: np.ndarray, colour: str, length: float) -> None:
    """All samples as thin lines; the first with a frame at every step, paler the later it is executed."""
    axes.add_collection3d(
        Line3DCollection(list(chunks[1:, :, :3]), colors=colour, linewidths=0.9, alpha=0.28)
    )
    first = chunks[0]
    axes.plot(*first[:, :3].T, color=colour, lw=1.6, zorder=4)
    fade = np.linspace(1.0, 0.35, len(first))
    for pose, alpha in zip(first, fade, strict=True):
        _draw_frame(axes, pose, length, 1.3, float(alpha))


def _draw_context(axes: Any, flow: ChunkFlow, centre: np.ndarray, half: float) -> None:
    """The observed poses, thick, with their names, where they lie in the box."""
    above = 0.12 * half
    for i, (name, pose) in enumerate(flow.poses.items()):
        if (np.abs(pose[:3] - centre) < half).all():
            _draw_frame(axes, pose, 0.34 * half, 2.6, 0.9, zorder=6)
            # At several heights: what is held lies where the hand is.
            x, y, z = pose[:3] + np.array([0, 0, (1, -2.2, 2.8)[i % 3] * above])
            axes.text(x, y, z, name, fontsize=8.5, color=INK, ha="center", path_effects=HALO, zorder=9)


def _draw_frame(
    axes: Any, pose: np.ndarray, length: float, width: float, alpha: float, zorder: int = 5
) -> None:
    quaternion = torch.as_tensor(pose[3:7], dtype=torch.float64)
    rotation = so3.to_matrix(quaternion / quaternion.norm()).numpy()
    segments = [np.stack([pose[:3], pose[:3] + length * rotation[:, i]]) for i in range(3)]
    axes.add_collection3d(
        Line3DCollection(segments, colors=AXIS_COLOURS, linewidths=width, alpha=alpha, zorder=zorder)
    )
