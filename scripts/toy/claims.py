"""The claims of the literature and the goals of this library as numbers, from the records of a study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from .sets import SETS

Record = Mapping[str, Any]
Floors = Mapping[str, Mapping[str, float]]

CURVED = ("cone", "peaks", "line", "hole", "cylinder", "box")
ONE_STEP = (
    "consistency_taught",
    "reflow_1step",
    "ot_1step",
    "meanflow",
    "meanflow_ot",
    "meanflow_taught",
    "meanflow_pairs",
    "consistency",
    "shortcut",
    "shortcut_taught",
)
TWO_STEPS = ("reflow", "reflow_2step", "plain_2step", "ot_reflow", "ot_2step")


class Table:
    """Numbers of a study by set, method and amount of data."""

    def __init__(self, records: Sequence[Record], floors: Floors) -> None:
        self.records, self.floors = records, floors
        self.full = max((r["data"] for r in records), default=0)
        self._cells = {(r["toy"], r["method"], r["data"]): r for r in records}

    def seeds(
        self, toy: str, method: str, key: str, nfe: int | None = None, data: int | None = None
    ) -> list[float]:
        """A number of each seed, [] where there is none."""
        record = self._cells.get((toy, method, data or self.full))
        if record is None:
            return []
        places = [s if nfe is None else s["nfe"].get(str(nfe), {}) for s in record["seeds"]]
        return [place[key] for place in places if key in place]

    def mean(self, toy: str, method: str, key: str, nfe: int | None = None, data: int | None = None) -> float:
        """The mean over seeds, NaN where there is none."""
        values = self.seeds(toy, method, key, nfe, data)
        return sum(values) / len(values) if values else math.nan

    def excess(self, toy: str, method: str, nfe: int, data: int | None = None) -> float:
        """W_1 above the floor."""
        return self.mean(toy, method, "w1", nfe, data) - self.floors[toy]["w1"]


def claims(
    table: Table, solvers: Mapping[str, Any], others: Mapping[str, Table] | None = None
) -> dict[str, Any]:
    """Everything at once, rounded; entries whose cells are missing are left out.

    Args:
        table: The study.
        solvers: Errors of integrators by set.
        others: The same with other numbers of optimiser steps, by what to call them.
    """
    found = {
        "one step against 50": one_step(table),
        "two steps of reflow against 50": two_steps(table),
        "optimal transport straightens": transport_straightens(table),
        "rkmk4 in 4 steps against euler in 16": solver_duel(solvers),
        "likelihood": likelihoods(table),
        "straightness": straightness(table),
        "evaluations at equal error": equal_error(table),
        "quality at 10 evaluations": quality(table, 10),
        "small data": small_data(table),
        "stochastic sampling": stochastic(table),
    }
    for name, other in (others or {}).items():
        found[f"stochastic sampling, {name}"] = stochastic(other)
        found[f"likelihood, {name}"] = likelihoods(other)
        found[f"two steps of reflow against 50, {name}"] = two_steps(other)
    return _rounded({name: value for name, value in found.items() if value})


def one_step(table: Table) -> dict[str, Any]:
    """One evaluation over the plain flow's 50: the ratio of W_1, of its excess over the floor, and MMD^2 of both."""
    return _against_50(table, [(method, 1) for method in ONE_STEP])


def two_steps(table: Table) -> dict[str, Any]:
    """Two evaluations of reflow, as it is and distilled, over the plain flow's 50."""
    return _against_50(table, [(method, 2) for method in TWO_STEPS])


def _against_50(table: Table, contestants: Sequence[tuple[str, int]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for toy in CURVED:
        base = table.seeds(toy, "plain", "w1", 50)
        for method, nfe in contestants:
            values = table.seeds(toy, method, "w1", nfe)
            if not base or not values:
                continue
            ratios = [value / b for value, b in zip(values, base, strict=True)]
            result.setdefault(toy, {})[method] = {
                "ratio": sum(values) / sum(base),
                "ratio_seeds": ratios,
                "w1": table.mean(toy, method, "w1", nfe),
                "w1_50": table.mean(toy, "plain", "w1", 50),
                "floor": table.floors[toy]["w1"],
                "excess": table.excess(toy, method, nfe),
                "excess_50": table.excess(toy, "plain", 50),
                "mmd2": table.mean(toy, method, "mmd2", nfe),
                "mmd2_50": table.mean(toy, "plain", "mmd2", 50),
            }
    return result


def transport_straightens(table: Table) -> dict[str, Any]:
    """Curvature with independent and with optimal coupling, each seed."""
    pairs = {
        toy: (table.seeds(toy, "plain", "curvature"), table.seeds(toy, "ot", "curvature")) for toy in SETS
    }
    return {
        toy: {
            "independent": a,
            "transport": b,
            "lower in every seed": all(y < x for x, y in zip(a, b, strict=True)),
        }
        for toy, (a, b) in pairs.items()
        if a and b
    }


def solver_duel(solvers: Mapping[str, Any]) -> dict[str, Any]:
    """Error of 16 evaluations: Euler's over that of rkmk4; above 1 rkmk4 wins."""
    return {
        toy: {
            "euler": _mean(errors["euler"]["16"]),
            "rkmk4": _mean(errors["rkmk4"]["16"]),
            "gain_seeds": [a / b for a, b in zip(errors["euler"]["16"], errors["rkmk4"]["16"], strict=True)],
        }
        for toy, errors in solvers.items()
    }


def likelihoods(table: Table) -> dict[str, Any]:
    """mean log p / p_model [nats] where p is known: the gap to the entropy."""
    result: dict[str, Any] = {}
    for record in table.records:
        gaps = table.seeds(record["toy"], record["method"], "kl")
        if gaps and record["data"] == table.full:
            result.setdefault(record["toy"], {})[record["method"]] = gaps
    return result


STRAIGHT = (
    "vp",
    "ve",
    "ddpm_v",
    "group_diffusion",
    "features",
    "plain",
    "bridge",
    "ot",
    "bridge_ot",
    "reflow",
    "reflow2",
)


def straightness(table: Table) -> dict[str, Any]:
    """Curvature, detour (length over distance) and energy of learned trajectories."""
    result: dict[str, Any] = {}
    for toy in SETS:
        for method in STRAIGHT:
            if table.seeds(toy, method, "curvature"):
                result.setdefault(toy, {})[method] = {
                    key: table.mean(toy, method, key) for key in ("curvature", "detour", "energy")
                }
    return result


def equal_error(table: Table, base: str = "vp") -> dict[str, Any]:
    """Evaluations at which a method is as good as ``base`` is with 4 and with 10, in share of those."""
    result: dict[str, Any] = {}
    for toy in SETS:
        for nfe in (4, 10):
            target = table.mean(toy, base, "w1", nfe)
            for method in ("plain", "ot", "reflow", "rkmk4", "ddpm_v"):
                needed = _needed(table, toy, method, target)
                if needed is not None:
                    result.setdefault(toy, {}).setdefault(f"{base} at {nfe}", {})[method] = needed
    return result


def _needed(table: Table, toy: str, method: str, target: float) -> float | None:
    """Evaluations at which W_1 falls to the target, on a line between measured ones in logarithms."""
    points = [(nfe, table.mean(toy, method, "w1", nfe)) for nfe in (1, 2, 4, 10, 50)]
    points = [(nfe, value) for nfe, value in points if not math.isnan(value)]
    if math.isnan(target) or not points:
        return None
    if points[0][1] <= target:
        return float(points[0][0])
    for (a, high), (b, low) in pairwise(points):
        if low <= target < high:
            share = math.log(high / target) / math.log(high / low)
            return a * (b / a) ** share
    return None


def quality(table: Table, nfe: int) -> dict[str, Any]:
    """W_1 at so many evaluations beside the floor."""
    result: dict[str, Any] = {}
    for toy in SETS:
        for method in ("vp", "ddpm_v", "ddpm_solver", "group_diffusion", "features", "plain", "ot", "reflow"):
            if table.seeds(toy, method, "w1", nfe):
                result.setdefault(toy, {"floor": table.floors[toy]["w1"]})[method] = table.mean(
                    toy, method, "w1", nfe
                )
    return result


STOCHASTIC = (
    "bridge_score", "sde", "sde_strong", "group_diffusion", "group_reverse", "ddpm_v", "ddpm_ancestral",
)  # fmt: skip
"""Without noise, and then with it."""


def stochastic(table: Table) -> dict[str, Any]:
    """W_1 and total variation of mode weights at 50 evaluations, without noise and with it."""
    result: dict[str, Any] = {}
    for toy in SETS:
        for method in STOCHASTIC:
            if table.seeds(toy, method, "w1", 50):
                result.setdefault(toy, {})[method] = {
                    "w1": table.seeds(toy, method, "w1", 50),
                    "mmd2": table.mean(toy, method, "mmd2", 50),
                    "variation": table.mean(toy, method, "variation", 50),
                    "w1_10": table.mean(toy, method, "w1", 10),
                }
    return result


def small_data(table: Table) -> dict[str, Any]:
    """W_1 at 10 evaluations by training points."""
    result: dict[str, Any] = {}
    for record in table.records:
        if record["data"] != table.full:
            for data in (record["data"], table.full):
                row = result.setdefault(record["toy"], {}).setdefault(record["method"], {})
                row[str(data)] = {
                    "w1": table.mean(record["toy"], record["method"], "w1", 10, data),
                    "mmd2": table.mean(record["toy"], record["method"], "mmd2", 10, data),
                }
    return result


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
