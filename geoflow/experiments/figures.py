"""The report's figures: success, latency, endings, training; each a function from records to an SVG."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from geoflow.experiments.conclusions import Record, best, solver_name
from geoflow.experiments.rollout import FAILURES

# Okabe and Ito's palette, told apart by colour-blind readers and in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, GREY, GRID = "#1d2530", "#5f6b7a", "#e4e8ee"
SOLVED = "#b9d8c6"
FAILURE_COLOURS = {
    "no_grasp": "#56B4E9",
    "dropped": "#E69F00",
    "misaligned": "#D55E00",
    "not_deep_enough": "#CC79A7",
    "physics": "#5f6b7a",
    "not_as_told": "#F0E442",
    "invalid_action": "#1d2530",
    "unnamed": "#c3cad4",
}
LINES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
MARKERS = ("o", "s", "^")

STYLE: dict[Any, Any] = {
    "font.size": 10.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "svg.fonttype": "path",
    "svg.hashsalt": "geoflow",
}


def palette(policies: Sequence[str]) -> dict[str, str]:
    """Policy name -> colour, the same in every figure and in the page's text."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(policies)}


def success_by_nfe(records: Sequence[Record], colours: Mapping[str, str]) -> bytes:
    """Success against network evaluations, with 95 % intervals; dots are single training seeds."""
    with _figure(5.4, 3.9) as (figure, axes):
        curves, where = list(_curves(records)), _positions(records)
        for i, (policy, style, cells) in enumerate(curves):
            x = np.array([where[cell["nfe"]] for cell in cells]) + _aside(i, len(curves))
            y = np.array([100 * cell["success_rate"] for cell in cells])
            low = y - [100 * cell["ci_low"] for cell in cells]
            high = np.array([100 * cell["ci_high"] for cell in cells]) - y
            axes.errorbar(
                x, y, [low, high], color=colours[policy], label=_label(cells[0]), **_look(style), capsize=3
            )
            for at, cell in zip(x, cells, strict=True):
                if len(cell["seed_rates"]) > 1:
                    rates = [100 * rate for rate in cell["seed_rates"]]
                    axes.plot([at] * len(rates), rates, ".", ms=4, color=colours[policy], alpha=0.45)
        _nfe_axis(axes, where)
        axes.set(ylabel="success [%]", ylim=(-3, 103), yticks=range(0, 101, 20))
        _legend_below(figure, axes)
    return figure.svg


def latency_by_nfe(
    records: Sequence[Record], colours: Mapping[str, str], control_hz: float | None = None
) -> bytes:
    """Time to one chunk against network evaluations: the median, and a whisker to the 95th percentile."""
    with _figure(5.4, 3.9) as (figure, axes):
        curves, where = list(_curves(records)), _positions(records)
        for i, (policy, style, cells) in enumerate(curves):
            x = np.array([where[cell["nfe"]] for cell in cells]) + _aside(i, len(curves))
            y = np.array([cell["latency_ms_median"] for cell in cells])
            # Two quantiles of one noisy sample: the upper is never below, but for rounding.
            up = np.maximum([cell["latency_ms_p95"] for cell in cells] - y, 0)
            look = _look(style)
            axes.errorbar(x, y, [0 * y, up], color=colours[policy], label=_label(cells[0]), **look, capsize=3)
        axes.set_yscale("log")
        _plain_decades(axes)
        if control_hz:
            step = 1000 / control_hz
            axes.axhline(step, color=GREY, lw=1, ls=(0, (2, 2)))
            axes.annotate(
                f"one control step, {step:.0f} ms",
                (0.01, step),
                (0, 4),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                fontsize=9,
                color=GREY,
            )
        _nfe_axis(axes, where)
        axes.set(ylabel="time to a chunk [ms]")
        _legend_below(figure, axes)
    return figure.svg


def endings(records: Sequence[Record], policies: Sequence[str]) -> bytes:
    """How episodes end, each policy at its best cell: solved, or what went wrong."""
    cells = [best(r for r in records if r["policy"] == policy) for policy in policies]
    cells = cells[::-1]  # the first policy on top
    kinds = [kind for kind in FAILURE_COLOURS if any(_failures(cell).get(kind) for cell in cells)]
    with _figure(7.2, 1.2 + 0.5 * len(cells)) as (figure, axes):
        left = np.zeros(len(cells))
        parts = [("solved", SOLVED, [cell["successes"] for cell in cells])]
        parts += [(FAILURES[k], FAILURE_COLOURS[k], [_failures(c).get(k, 0) for c in cells]) for k in kinds]
        for name, colour, counts in parts:
            share = 100 * np.array(counts) / [cell["episodes"] for cell in cells]
            axes.barh(range(len(cells)), share, left=left, color=colour, label=name, height=0.7, ec="white")
            for row, (count, width) in enumerate(zip(counts, share, strict=True)):
                if width >= 4:
                    ink = "white" if colour in ("#D55E00", GREY, INK) else INK
                    middle = left[row] + width / 2
                    axes.text(middle, row, str(count), ha="center", va="center", fontsize=9.5, color=ink)
            left += share
        axes.set(xlim=(0, 100), xlabel="episodes [%]")
        axes.set_yticks(range(len(cells)), [_label(cell, nfe=True) for cell in cells], color=INK)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        _legend_below(figure, axes, columns=4)
    return figure.svg


def training_curves(
    metrics: Mapping[str, Sequence[Sequence[Mapping[str, float]]]], colours: Mapping[str, str]
) -> bytes:
    """Loss against optimiser steps, a panel a policy, a line a seed; objectives differ, so scales do too."""
    columns = min(len(metrics), 3)
    rows = -(-len(metrics) // columns)
    with _figure(3.1 * columns + 0.4, 2.7 * rows, rows, columns) as (figure, grid):
        for axes in np.ravel(grid)[len(metrics) :]:
            axes.set_visible(False)
        for axes, (policy, runs) in zip(np.ravel(grid), metrics.items(), strict=False):
            for logged in runs:
                steps = np.array([line["step"] for line in logged])
                loss = np.array([line["loss"] for line in logged])
                axes.plot(steps, loss, color=colours[policy], lw=1, alpha=0.3)
                axes.plot(steps, _smooth(loss), color=colours[policy])
            losses = [line["loss"] for logged in runs for line in logged]
            if max(losses) > 4 * min(losses) > 0:
                axes.set_yscale("log")
                _plain_decades(axes)
            axes.set_title(policy, color=colours[policy])
            axes.set_xlabel("optimiser step")
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(
                lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
            )
        np.ravel(grid)[0].set_ylabel("loss")
    return figure.svg


# Parts.


class _Drawing(Figure):
    """A figure that belongs to no window; `svg` is there once the drawing is done."""

    svg: bytes = b""


@contextmanager
def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> Iterator[tuple[_Drawing, Any]]:
    with mpl.rc_context(STYLE):
        figure = _Drawing(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, figure.subplots(rows, columns)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        figure.svg = buffer.getvalue()


def _curves(records: Sequence[Record]) -> Iterator[tuple[str, int, list[Record]]]:
    """(policy, index of the solver within it, cells by rising NFE)."""
    for policy in dict.fromkeys(record["policy"] for record in records):
        ours = [record for record in records if record["policy"] == policy]
        for i, solver in enumerate(dict.fromkeys(record["solver"] for record in ours)):
            cells = [record for record in ours if record["solver"] == solver]
            yield policy, i, sorted(cells, key=lambda record: record["nfe"])


def _label(cell: Record, nfe: bool = False) -> str:
    name = f"{cell['policy']} {solver_name(cell)}".rstrip()
    return f"{name}, NFE {cell['nfe']}" if nfe else name


def _look(style: int) -> dict[str, Any]:
    return {
        "ls": LINES[style % len(LINES)],
        "marker": MARKERS[style % len(MARKERS)],
        "ms": 5.5,
        "elinewidth": 1.2,
    }


def _positions(records: Sequence[Record]) -> dict[int, float]:
    """NFE -> place on a logarithmic axis."""
    return {nfe: float(np.log10(nfe)) for nfe in sorted({record["nfe"] for record in records})}


def _aside(curve: int, curves: int) -> float:
    """A step aside, so that whiskers at one NFE stand beside one another."""
    return 0.028 * (curve - (curves - 1) / 2)


def _nfe_axis(axes: Axes, where: Mapping[int, float]) -> None:
    axes.set_xticks(list(where.values()), [str(nfe) for nfe in where])
    axes.xaxis.set_minor_locator(NullLocator())
    places = list(where.values())
    axes.set_xlim(places[0] - 0.15, places[-1] + 0.15)
    axes.set_xlabel("network evaluations a chunk (NFE)")


def _plain_decades(axes: Axes) -> None:
    """Ticks such as 0.1, 1, 20 instead of powers, and a few between decades where the range is short."""
    low, high = axes.get_ylim()
    subs = (1, 2, 5) if high / low < 100 else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def _legend_below(figure: Figure, axes: Axes, columns: int = 2) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), columns), fontsize=9.5)


def _failures(cell: Record) -> dict[str, int]:
    """Counts by kind; kinds that a task has made up count as unnamed."""
    counts: dict[str, int] = {}
    for kind, count in cell["failures"].items():
        known = kind if kind in FAILURE_COLOURS else "unnamed"
        counts[known] = counts.get(known, 0) + count
    return counts


def _smooth(values: np.ndarray, share: float = 0.08) -> np.ndarray:
    """A running mean over a share of the series, centred, shorter at the ends."""
    half = max(1, int(len(values) * share / 2))
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)
