"""All pictures of a study, from its trained networks and its records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .methods import METHODS
from .metrics import straightness
from .pictures import charts, grasps, sphere, streams
from .sets import SETS
from .study import Cell, Study

Records = Sequence[Mapping[str, Any]]

STREAMS = {"vp": "VP diffusion path", "plain": "flow", "ot": "flow, optimal transport", "reflow": "reflow"}
BARS = {
    "vp": "VP diffusion path",
    "ve": "VE diffusion path",
    "ddpm_v": "DDPM on features (DDIM)",
    "features": "Euclidean flow on features",
    "plain": "flow",
    "haar": "flow, Haar prior",
    "bridge": "Brownian bridge",
    "sigma_min": "sigma_min",
    "cosine": "cosine clock",
    "endpoint": "flow, endpoint target",
    "ot": "flow, optimal transport",
    "bridge_ot": "bridge, optimal transport",
    "reflow": "reflow, one round",
    "reflow2": "reflow, two rounds",
}
SMALL = {
    "plain": "flow",
    "bridge": "Brownian bridge",
    "ddpm_v": "DDPM, v",
    "ddpm_ancestral": "DDPM, v, ancestral",
}


def trajectories(study: Study, toy: str, method: str, n: int, steps: int = 48, seed: int = 0) -> Tensor:
    """States (steps + 1, n, point_dim) of samples of the first training seed."""
    cell = Cell(toy, method)
    learner = METHODS[method].build(study.problem(cell))
    _, mode = SETS[toy].sample(n, torch.Generator().manual_seed(seed))
    net, cond = study.network(cell).seed(0), SETS[toy].condition(mode)
    with torch.no_grad():
        return learner.draw(net, cond, n, steps, torch.Generator().manual_seed(seed), True)


def gallery(
    study: Study, records: Records, floors: Mapping[str, float], solvers: Mapping[str, Any], out: Path
) -> Iterator[Path]:
    """Draw whatever the study has the cells for."""
    for draw in (_sphere, _animation, _grasps, _streams):
        yield from draw(study, out)
    full = [r for r in records if r["data"] == max(q["data"] for q in records)]
    curved = [name for name in ("cone", "peaks", "line", "hole", "cylinder", "box") if name in floors]
    if curved:
        yield charts.error_by_nfe(full, floors, curved, out / "toy_nfe.png")
    if solvers:
        yield charts.solver_errors(solvers, out / "toy_solvers.png")
    yield charts.straightness_bars(full, BARS, out / "toy_straightness.png")
    small = [name for name in ("peaks", "box") if any(r["toy"] == name and r not in full for r in records)]
    if small:
        yield charts.small_data(records, floors, SMALL, small, out / "toy_small_data.png")


def _has(study: Study, *cells: tuple[str, str]) -> bool:
    return all(study.done(Cell(*cell)) for cell in cells)


def _sphere(study: Study, out: Path) -> Iterator[Path]:
    titles = {
        "cone": "axes on a cone",
        "peaks": "six peaks",
        "line": "turns about one axis",
        "hole": "uniform with a hole",
    }
    rows = [
        (title, trajectories(study, name, "plain", 420), "ball" if name == "hole" else "axis")
        for name, title in titles.items()
        if _has(study, (name, "plain"))
    ]
    if rows:
        yield sphere.flows_picture(rows, out / "toy_rotations.png")


def _animation(study: Study, out: Path) -> Iterator[Path]:
    if _has(study, ("cone", "plain")):
        yield sphere.animation(trajectories(study, "cone", "plain", 420, steps=72), out / "toy_cone.gif")


def _grasps(study: Study, out: Path) -> Iterator[Path]:
    rows = [
        (SETS[name], trajectories(study, name, "ot", 64))
        for name in ("cylinder", "box")
        if _has(study, (name, "ot"))
    ]
    if rows:
        yield grasps.grasps_picture(rows, out / "toy_grasps.png")


def _streams(study: Study, out: Path) -> Iterator[Path]:
    sets = [name for name in ("moons", "sine_tags") if _has(study, *((name, method) for method in STREAMS))]
    rows: list[list[tuple[Tensor, np.ndarray]]] = []
    notes: list[list[str]] = []
    for name in sets:
        states = [trajectories(study, name, method, 400) for method in STREAMS]
        rows.append([(s, SETS[name].mode_of(s[-1]).numpy() * (2 if name == "moons" else 1)) for s in states])
        notes.append([f"curvature {straightness(SETS[name].space, s)['curvature']:.3f}" for s in states])
    if rows:
        yield streams.streams_picture(list(STREAMS.values()), rows, out / "toy_streams.png", notes)
