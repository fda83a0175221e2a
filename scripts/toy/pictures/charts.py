"""Charts of the study: error against network evaluations, straightness, solvers, small data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import NullLocator

from ..methods import NFES
from ..sets import SETS
from . import look

Records = Sequence[Mapping[str, Any]]

SHOWN = {
    "plain": ("flow", look.COLOURS[0], "-", "o"),
    "ot": ("flow, optimal transport", look.COLOURS[5], "-", "s"),
    "vp": ("VP diffusion path", look.COLOURS[1], "-", "^"),
    "ddpm_v": ("DDPM on features, DDIM", look.COLOURS[4], (0, (4, 2)), "v"),
    "rkmk4": ("flow, Munthe-Kaas 4", "#5f6b7a", (0, (1.5, 1.5)), "D"),
    "reflow": ("reflow", look.COLOURS[2], "-", "P"),
    "meanflow_taught": ("MeanFlow, distilled", look.COLOURS[3], "-", "X"),
    "consistency_taught": ("consistency, distilled", "#7b3f8c", (0, (4, 1.5)), "*"),
}
"""Method -> label, colour, line, marker of the chart of errors."""


def error_by_nfe(records: Records, floors: Mapping[str, float], sets: Sequence[str], path: Path) -> Path:
    """W_1 against evaluations, a panel a set; bands are the range over training seeds."""
    columns = min(3, len(sets))
    rows = -(-len(sets) // columns)
    with look.figure(3.1 * columns, 2.55 * rows + 0.75) as figure:
        height = 2.55 * rows + 0.75
        grid = figure.subplots(
            rows,
            columns,
            squeeze=False,
            gridspec_kw={
                "left": 0.06,
                "right": 0.99,
                "top": 1 - 0.3 / height,
                "bottom": 1.0 / height,
                "wspace": 0.2,
                "hspace": 0.38,
            },
        )
        for axes, name in zip(grid.flat, sets, strict=False):
            for method, (label, colour, line, marker) in SHOWN.items():
                record = next((r for r in records if r["toy"] == name and r["method"] == method), None)
                if record is None:
                    continue
                nfes = [n for n in NFES if str(n) in record["seeds"][0]["nfe"]]
                values = np.array([[s["nfe"][str(n)]["w1"] for n in nfes] for s in record["seeds"]])
                x = np.log10(nfes)
                axes.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.13, lw=0)
                axes.plot(
                    x, values.mean(0), color=colour, ls=line, marker=marker, ms=4.5, lw=1.6, label=label
                )
            axes.axhline(floors[name], color=look.INK, lw=1, ls=(0, (2, 2)), zorder=1)
            axes.set_title(f"{name}, {_SPACES[_kind(name)]}", fontsize=9.5)
            axes.set_yscale("log")
            axes.yaxis.set_minor_locator(NullLocator())
            low, high = axes.get_ylim()
            ticks = [v for v in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2) if low <= v <= high]
            axes.set_yticks(ticks, [f"{v:g}" for v in ticks])
            axes.set_xticks(np.log10(NFES), [str(n) for n in NFES])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.tick_params(labelsize=8.5)
        for axes in list(grid.flat)[len(sets) :]:
            axes.set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("network evaluations", fontsize=9)
        for row in grid:
            row[0].set_ylabel("$W_1$ to the data", fontsize=9)
        # The panel with most methods names them all.
        handles, labels = max(
            (axes.get_legend_handles_labels() for axes in grid.flat), key=lambda pair: len(pair[1])
        )
        handles.append(grid[0, 0].lines[-1])
        labels.append("data against data")
        figure.legend(handles, labels, loc="lower center", ncols=5, fontsize=8.5)
        return look.save(figure, path)


def straightness_bars(records: Records, methods: Mapping[str, str], path: Path) -> Path:
    """Curvature of learned trajectories: a bar over the range of the sets, a dot a set."""
    rows = []
    for method, label in methods.items():
        values = {
            r["toy"]: float(np.mean([s["curvature"] for s in r["seeds"]]))
            for r in records
            if r["method"] == method
            and "curvature" in r["seeds"][0]
            and r["data"] == max(q["data"] for q in records)
        }
        if values:
            rows.append((label, values))
    with look.figure(7.4, 0.36 * len(rows) + 1.25) as figure:
        axes = figure.add_axes(
            (0.29, 0.6 / (0.36 * len(rows) + 1.25), 0.69, 1 - 0.95 / (0.36 * len(rows) + 1.25))
        )
        shapes = {"R": "o", "O": "s", "E": "^"}
        for y, (_, values) in enumerate(reversed(rows)):
            low, high = min(values.values()), max(values.values())
            axes.plot([low, high], [y, y], lw=8, color="#dfe8f1", solid_capstyle="round", zorder=1)
            for name, value in values.items():
                kind = _kind(name)
                axes.scatter(
                    max(value, 1e-4),
                    y,
                    s=20,
                    marker=shapes[kind],
                    color=_KIND_COLOURS[kind],
                    linewidths=0,
                    alpha=0.85,
                    zorder=3,
                )
        axes.set_yticks(range(len(rows)), [label for label, _ in reversed(rows)], color=look.INK)
        axes.set_xscale("log")
        axes.set_xlim(2e-4, 12)
        axes.set_xticks([0.001, 0.01, 0.1, 1, 10], ["0.001", "0.01", "0.1", "1", "10"])
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("curvature of trajectories: 0 is straight at constant speed", fontsize=9.5)
        for kind, label in (("R", "sets on R$^2$"), ("O", "SO(3)"), ("E", "SE(3)")):
            axes.scatter([], [], marker=shapes[kind], s=20, color=_KIND_COLOURS[kind], label=label)
        axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3, fontsize=8.5, handletextpad=0.2)
        return look.save(figure, path)


def solver_errors(solvers: Mapping[str, Any], path: Path) -> Path:
    """Distance to the end of the trajectory against evaluations, a panel a set; means over seeds."""
    names = {
        "euler": "Euler",
        "clock": "Euler, learned clock",
        "midpoint": "midpoint",
        "rkmk4": "Munthe-Kaas 4",
        "cf4": "commutator-free 4",
    }
    columns = min(3, len(solvers))
    rows = -(-len(solvers) // columns)
    height = 2.3 * rows + 0.75
    with look.figure(3.0 * columns, height) as figure:
        grid = figure.subplots(
            rows,
            columns,
            squeeze=False,
            sharex=True,
            gridspec_kw={
                "left": 0.08,
                "right": 0.99,
                "top": 1 - 0.3 / height,
                "bottom": 0.95 / height,
                "wspace": 0.22,
                "hspace": 0.25,
            },
        )
        for axes, (toy, errors) in zip(grid.flat, solvers.items(), strict=False):
            for i, (name, label) in enumerate(names.items()):
                x = [int(n) for n in errors[name]]
                y = [float(np.mean(v)) for v in errors[name].values()]
                axes.plot(
                    x,
                    y,
                    color=look.COLOURS[i],
                    marker="os^DP"[i],
                    ms=4.5,
                    lw=1.6,
                    ls="-" if i != 4 else (0, (3, 2)),
                    label=label,
                )
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xticks([4, 8, 16, 32, 64], ["4", "8", "16", "32", "64"])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.tick_params(labelsize=8.5)
            axes.set_title(f"{toy}, {_SPACES[_kind(toy)]}", fontsize=9.5)
        for axes in list(grid.flat)[len(solvers) :]:
            axes.set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("network evaluations", fontsize=9)
        for row in grid:
            row[0].set_ylabel("error of the end point", fontsize=9)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=5, fontsize=8.5)
        return look.save(figure, path)


_KIND_COLOURS = {"R": look.COLOURS[4], "O": look.COLOURS[0], "E": look.COLOURS[1]}


_SPACES = {"R": "R$^2$", "O": "SO(3)", "E": "SE(3)"}


def _kind(name: str) -> str:
    return {2: "R", 3: "O", 6: "E"}[SETS[name].space.tangent_dim]


def small_data(
    records: Records, floors: Mapping[str, float], methods: Mapping[str, str], sets: Sequence[str], path: Path
) -> Path:
    """W_1 at 10 evaluations against the number of training points."""
    with look.figure(3.3 * len(sets) + 0.2, 3.2) as figure:
        grid = figure.subplots(
            1,
            len(sets),
            squeeze=False,
            gridspec_kw={"left": 0.1, "right": 0.98, "top": 0.9, "bottom": 0.3, "wspace": 0.25},
        )
        for axes, name in zip(grid.flat, sets, strict=True):
            for i, (method, label) in enumerate(methods.items()):
                ours = sorted(
                    (r for r in records if r["toy"] == name and r["method"] == method),
                    key=lambda r: r["data"],
                )
                if not ours:
                    continue
                x = np.log10([r["data"] for r in ours])
                values = np.array([[s["nfe"]["10"]["w1"] for s in r["seeds"]] for r in ours])
                axes.fill_between(x, values.min(1), values.max(1), color=look.COLOURS[i], alpha=0.13, lw=0)
                axes.plot(
                    x,
                    values.mean(1),
                    color=look.COLOURS[i],
                    marker="os^vD"[i % 5],
                    ms=4.5,
                    lw=1.6,
                    label=label,
                )
                axes.set_xticks(x, [f"{r['data']}" for r in ours])
            axes.axhline(floors[name], color=look.INK, lw=1, ls=(0, (2, 2)))
            axes.set_title(name, fontsize=9.5)
            axes.set_ylim(bottom=0)
            axes.set_xlabel("training points", fontsize=9)
        grid[0, 0].set_ylabel("$W_1$ at 10 evaluations", fontsize=9)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=4, fontsize=8.5)
        return look.save(figure, path)
