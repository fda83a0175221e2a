"""How far an integrator ends from where the trained field leads, for the same number of network evaluations."""

from __future__ import annotations

from typing import Any

import torch

from geoflow import flows
from geoflow.experiments.json_files import read_json, write_json
from geoflow.flows.integrators.learned_clock import learned_clock

from .methods import Problem, plain
from .study import Cell, Study

SOLVERS = (flows.euler, flows.midpoint, flows.rkmk4, flows.cf4)
EVALUATIONS = (4, 8, 16, 32, 64)
POINTS, REFERENCE_STEPS = 256, 100


def solver_errors(study: Study, toy: str) -> dict[str, Any]:
    """Solver -> evaluations -> mean distance to the end of the trajectory, one number a seed.

    The trajectory itself is that of rkmk4 in `REFERENCE_STEPS` steps. "clock" is Euler on a learned grid.
    """
    path = study.folder / "solvers" / f"{toy}.json"
    if not path.exists():
        write_json(path, _measure(study, toy))
    return read_json(path)


@torch.no_grad()
def _measure(study: Study, toy: str) -> dict[str, Any]:
    cell = Cell(toy, "plain")
    problem: Problem = study.problem(cell)
    flow, nets = plain(problem), study.network(cell)
    table: dict[str, dict[str, list[float]]] = {}
    for seed in range(study.seeds):
        net = nets.seed(seed)
        x_0 = flow.start(batch=POINTS, generator=torch.Generator().manual_seed(400 + seed))
        cond = problem.toy.condition(problem.data.mode[:POINTS, seed])
        end = flow.sample(net, cond, x_0=x_0, steps=REFERENCE_STEPS, method=flows.rkmk4)
        fine = flow.sample(net, cond, x_0=x_0, steps=100, path=True)

        def error(steps: Any, method: flows.Integrator) -> float:
            x = flow.sample(net, cond, x_0=x_0, steps=steps, method=method)  # noqa: B023
            return float(f"{float(flow.space.distance(x, end).mean()):.4g}")  # noqa: B023

        for evaluations in EVALUATIONS:
            for solver in SOLVERS:
                if evaluations >= solver.evaluations:
                    value = error(evaluations // solver.evaluations, solver)
                    table.setdefault(solver.name, {}).setdefault(str(evaluations), []).append(value)
            value = error(learned_clock(flow.space, fine, evaluations), flows.euler)
            table.setdefault("clock", {}).setdefault(str(evaluations), []).append(value)
    return table
