"""Real-time chunking: manner x delay x geometry, on the same weights and scenes; success, and jumps at chunk borders.

    python scripts/real_time.py --trained runs/peg_long             # policies that are there already
    python scripts/real_time.py                                     # from scratch
    python scripts/real_time.py --quick --out runs/try              # everything tiny: does it run here?

Plays an SE(3) and a Euclidean flow with every delay in every manner; and, in the manner "given", each after --steps
further optimiser steps with given prefixes. Delay 0 is the robot that waits; the longest delay comes first. What is
trained or played already is skipped, what was interrupted goes on. Writes real_time.json, real_time.md and
real_time.png into --out, and copies into docs with --publish.
"""

from __future__ import annotations

import argparse
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoflow.data.atomic import write_text
from geoflow.experiments.config import Config, EvaluateConfig, load
from geoflow.experiments.demo import configs_folder
from geoflow.experiments.evaluation import evaluate, read_asked
from geoflow.experiments.json_files import write_json
from geoflow.experiments.progress import bar
from geoflow.experiments.proportions import Z_95
from geoflow.experiments.training import train

METHODS = {"se3_flow": "SE(3)", "euclidean_flow": "Euclidean"}
MANNERS = ("joined", "naive", "given", "guided", "ensemble")
ENSEMBLE = 0.1
COLOURS = {
    "naive": "#0072B2",
    "guided": "#D55E00",
    "joined": "#009E73",
    "ensemble": "#CC79A7",
    "given": "#E69F00",
}
QUICK = {"train.steps": 4, "train.batch_size": 8}
KEPT = ("episodes", "successes", "success_rate", "ci_low", "ci_high", "mean_steps", "failures", "jumps")


@dataclass(frozen=True)
class Cell:
    """One way to play a policy: a row of the table. ``told``: trained with given prefixes."""

    method: str
    told: bool
    manner: str
    delay: int
    disturbance: float

    def config(self, a: argparse.Namespace) -> EvaluateConfig:
        """What `evaluate` is asked for."""
        ensemble = ENSEMBLE if self.manner == "ensemble" else None
        return EvaluateConfig(
            episodes=2 if a.quick else a.episodes,
            first_seed=a.first_seed,
            nfe=(a.nfe,),
            execute=a.execute,
            workers=1,
            delay=self.delay,
            manner="naive" if self.manner == "ensemble" else self.manner,
            ensemble=ensemble,
            disturbance=self.disturbance,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/real_time"))
    parser.add_argument("--task", default="peg_long", help="a file of configs/env")
    parser.add_argument(
        "--trained", type=Path, help="a folder of trained runs; default: --out, trained if need be"
    )
    parser.add_argument("--steps", type=int, default=2000, help="optimiser steps with given prefixes")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--manners", nargs="+", default=MANNERS, choices=MANNERS)
    parser.add_argument("--delays", nargs="+", type=int, default=[0, 2, 4, 6], help="control steps of 50 ms")
    parser.add_argument(
        "--disturbances", nargs="+", type=float, default=[0.0, 0.2], help="shares of disturbed steps"
    )
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--first-seed", type=int, default=1_000_500, help="of the held-out scenes")
    parser.add_argument("--nfe", type=int, default=10)
    parser.add_argument(
        "--execute", type=int, default=6, help="steps from one prediction to the next; 0: the policy's own"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--publish", type=Path, help="the folder docs")
    parser.add_argument("--quick", action="store_true", help="everything tiny")
    arguments = parser.parse_args()
    print(real_time(arguments))


def real_time(a: argparse.Namespace) -> Path:
    """Run what is missing, and write the results; the path of the table."""
    rows = []
    for cell in bar(list(cells(a)), desc="real time", unit="cell"):
        rows.append(played(a, cell))
    for row in rows:
        row |= fall(row, waiting(rows, row))
    write_json(a.out / "real_time.json", rows)
    write_text(a.out / "real_time.md", table(rows))
    draw(rows, a.out / "real_time.png")
    if a.publish:
        shutil.copy(a.out / "real_time.json", a.publish / "results" / "real_time.json")
        shutil.copy(a.out / "real_time.png", a.publish / "images" / "real_time.png")
    return a.out / "real_time.md"


def trained(a: argparse.Namespace, method: str, told: bool) -> Path:
    """The run of a method, trained if it is not."""
    plain = (a.trained or a.out) / method
    run = a.out / f"{method}_given" if told else plain
    if told or not a.trained:
        train(settings(a, method, trained(a, method, False) if told else None), run, seed=0, device=a.device)
    return run


def settings(a: argparse.Namespace, method: str, start: Path | None) -> Config:
    """One training's configuration; from ``start`` with given prefixes."""
    folder = configs_folder()
    names = [method, "given_steps"] if start else [method]
    files = [folder / "env" / f"{a.task}.yaml", *(folder / "policy" / f"{name}.yaml" for name in names)]
    changes: dict[str, Any] = {}
    if start:
        changes = {"train.start": str(start), "train.steps": a.steps, "train.learning_rate": a.learning_rate}
    return load(files, changes | (QUICK if a.quick else {}))


def cells(a: argparse.Namespace) -> Iterator[Cell]:
    """Every way to play: of each geometry the robot that waits, then the longest delay."""
    untold = [manner for manner in a.manners if manner != "given"]  # without delay these are one
    for disturbance in a.disturbances:
        for method in a.methods:
            for delay in sorted(a.delays, key=lambda delay: (delay > 0, -delay)):
                for manner in a.manners:
                    told = manner == "given"
                    if delay or told or manner == untold[0]:
                        yield Cell(method, told, manner if delay else "naive", delay, disturbance)


def played(a: argparse.Namespace, cell: Cell) -> dict[str, Any]:
    """The row of a cell, played if it was not."""
    config = cell.config(a)
    run = trained(a, cell.method, cell.told)
    path = a.out / f"{cell.method}{'_given' * cell.told}_{cell.disturbance:g}.json"
    evaluate(run, config, a.device, path)
    (record,) = read_asked(run, config, path)
    row = {
        "method": cell.method,
        "told": cell.told,
        "manner": cell.manner if cell.delay else "waiting",
        "delay": cell.delay,
    }
    row |= {"disturbance": cell.disturbance, "nfe": a.nfe, "solver": record["solver"]}
    row |= {key: record[key] for key in ("execute", "first_seed")}
    row["solved"] = [episode["seed"] for episode in record["episode_records"] if episode["success"]]
    facts = {key: record[key] for key in (*KEPT, "latency_ms_median", "weights", "hardware", "commit")}
    return row | facts | {"env_id": record["env_id"], "env_kwargs": record["env_kwargs"]}


def waiting(rows: list[dict[str, Any]], row: dict[str, Any]) -> dict[str, Any] | None:
    """The same policy on the same scenes without delay."""
    same = ("method", "told", "disturbance", "first_seed", "episodes")
    return next(
        (other for other in rows if not other["delay"] and all(other[key] == row[key] for key in same)), None
    )


def fall(row: dict[str, Any], still: dict[str, Any] | None) -> dict[str, float]:
    """By how much success falls when the robot does not wait: the mean over scenes, and half its 95 % interval."""
    if still is None or not row["delay"]:
        return {}
    lost, won = (len(set(a["solved"]) - set(b["solved"])) for a, b in ((still, row), (row, still)))
    n = row["episodes"]
    mean = (lost - won) / n
    return {"fall": mean, "fall_half": Z_95 * math.sqrt(max((lost + won) / n - mean**2, 0) / n)}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: success, and how far a command is from where the last step, made once more, would have led."""
    lines = [
        "| disturbed | delay, ms | manner | geometry | success, % | 95 % interval | below waiting, points | "
        "change at borders, mm (p95) | inside, mm (p95) | at borders, deg (p95) | inside, deg (p95) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        border, inside = (row["jumps"].get(where) for where in ("border", "inside"))
        jumps = [
            f"{part['mean'][key]:.2f} ({part['p95'][key]:.1f})" if part else "-"
            for key in ("change_mm", "change_deg")
            for part in (border, inside)
        ]
        below = f"{100 * row['fall']:.1f} ± {100 * row['fall_half']:.1f}" if "fall" in row else "-"
        lines.append(
            f"| {row['disturbance']:.0%} | {50 * row['delay']} | {row['manner']} | {METHODS[row['method']]}"
            f"{', told' * row['told']} | "
            f"{100 * row['success_rate']:.1f} | {100 * row['ci_low']:.0f}-{100 * row['ci_high']:.0f} | "
            f"{below} | {' | '.join(jumps)} |"
        )
    return "\n".join(lines) + "\n"


def jump(row: dict[str, Any], where: str, key: str) -> float:
    """A mean change of step at the chunks' "border" or "inside" of them; NaN where there was none."""
    part = row["jumps"].get(where)
    return part["mean"][key] if part else math.nan


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Success, and the change of step at chunk borders, against the delay: a column for each share of disturbance."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    shares = sorted({row["disturbance"] for row in rows})
    figure = Figure(figsize=(max(5.8, 4.2 * len(shares)), 8.2), layout="constrained")
    axes = figure.subplots(3, len(shares), squeeze=False, sharex=True, sharey="row")
    for column, share in enumerate(shares):
        here = [row for row in rows if row["disturbance"] == share]
        axes[0, column].set_title(f"{share:.0%} of steps disturbed" if share else "undisturbed")
        for method in METHODS:
            for manner in MANNERS:
                line = [
                    row
                    for row in here
                    if (row["method"], row["told"]) == (method, manner == "given")
                    and row["manner"] in (manner, "waiting")
                ]
                if len(line) < 2:
                    continue
                line.sort(key=lambda row: row["delay"])
                x = [50 * row["delay"] + 6 * (MANNERS.index(manner) - 2) for row in line]
                flat = method != "se3_flow"
                look: dict[str, Any] = {"color": COLOURS[manner], "marker": "s" if flat else "o", "ms": 4}
                look |= {
                    "ls": ":" if flat else "-",
                    "label": f"{METHODS[method]}{', told' * (manner == 'given')}, {manner}",
                }
                y = [100 * row["success_rate"] for row in line]
                low = [100 * (row["success_rate"] - row["ci_low"]) for row in line]
                high = [100 * (row["ci_high"] - row["success_rate"]) for row in line]
                axes[0, column].errorbar(x, y, [low, high], lw=1.3, elinewidth=0.7, **look)
                for axis, key in ((axes[1, column], "change_mm"), (axes[2, column], "change_deg")):
                    axis.plot(x, [jump(row, "border", key) for row in line], lw=1.3, **look)
        for axis, key in ((axes[1, column], "change_mm"), (axes[2, column], "change_deg")):
            inside = [jump(row, "inside", key) for row in here if row["jumps"].get("inside")]
            if inside:
                axis.axhspan(
                    min(inside), max(inside), color="#c3cad4", alpha=0.6, lw=0, label="inside chunks"
                )
        axes[2, column].set(
            xlabel="delay [ms] (points side by side)",
            xticks=[50 * d for d in sorted({r["delay"] for r in rows})],
        )
    for axis, label in zip(
        axes[:, 0],
        ("success [%]", "jump at chunk borders [mm]", "jump at chunk borders [deg]"),
        strict=True,
    ):
        axis.set_ylabel(label)
    for axis in axes[1:, 0]:
        axis.set_ylim(bottom=0)  # when all columns are drawn: they share it
    handles, labels = axes[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
