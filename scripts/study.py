"""The study: methods x tasks x training seeds on the same demonstrations, budget and scenes; it resumes.

    python scripts/study.py --rates 1e-3 3e-3 6e-3 --development --seeds 0 --out runs/rates   # which suits each method
    python scripts/study.py --rates 1e-3 --methods ddpm        # a rate that was chosen so, on the held-out scenes
    python scripts/study.py --tasks peg_study key_turn --methods se3_flow euclidean_flow ddpm regression --seeds 0 1 2
    python scripts/study.py --quick --out runs/try             # everything tiny: does it run here?

A task is a file of configs/env, a method one of configs/policy. What is collected, trained or evaluated already is
skipped, what was interrupted goes on. Writes report.html for each task, and over all table.md and results.json: success
pooled over the seeds with a 95 % Wilson interval, and each seed's own. They hold every method, rate and seed that is in
--out with the same steps and scenes, also what other calls have made.

Learning rates are compared on development scenes, which are neither those of demonstrations nor those of evaluations,
so that no method is chosen by the scenes it is judged on.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from geoflow.data.atomic import write_text
from geoflow.experiments.collection import collect
from geoflow.experiments.comparison import read_comparison
from geoflow.experiments.config import Config, load
from geoflow.experiments.demo import configs_folder
from geoflow.experiments.devices import resolve_device
from geoflow.experiments.evaluation import evaluate, read_asked
from geoflow.experiments.json_files import read_json, write_json
from geoflow.experiments.progress import bar
from geoflow.experiments.proportions import wilson_interval
from geoflow.experiments.report import render, take_pictures
from geoflow.experiments.training import train

METHODS = ("se3_flow", "euclidean_flow", "ddpm", "regression")
DIFFUSION_NFES = (10, 16)
DEVELOPMENT_SEED = 900_000  # of the first scene that settings are compared on
QUICK = {
    "collect.episodes": 4,
    "train.steps": 4,
    "train.batch_size": 8,
    "policy.width": 32,
    "policy.depth": 1,
    "evaluate.episodes": 2,
}


def study(
    out: Path,
    tasks: list[str],
    methods: list[str],
    seeds: list[int],
    *,
    rates: list[float] | None = None,
    development: bool = False,
    steps: int | None = None,
    device: str = "auto",
    quick: bool = False,
) -> Path:
    """Run what is missing, and write the table.

    Args:
        out: The folder of everything it makes.
        tasks: Names of files in configs/env.
        methods: Names of files in configs/policy.
        seeds: Of trainings; demonstrations and scenes are the same for all.
        rates: Learning rates, each a training of its own; the configurations' own by default.
        development: Play the development scenes in place of the held-out ones.
        steps: Optimiser steps of every training; the task's own by default.
        device: auto, cpu, cuda, ...
        quick: Everything tiny.

    Returns:
        The path of the table.

    Raises:
        CollectionError: ``out`` holds demonstrations that were collected with other settings.
        CheckpointError: ``out`` holds a training with other settings.
    """
    device = resolve_device(device)
    for task in tasks:
        config = settings(out, task, methods[0], quick=quick)
        (demonstrations,) = config.train.files
        collect(config.env, config.collect, demonstrations)
    found: dict[Path, list[dict[str, Any]]] = {}
    jobs = [
        (task, method, rate, seed)
        for task in tasks
        for seed in seeds
        for method in methods
        for rate in rates or [None]
    ]
    for task, method, rate, seed in bar(jobs, desc="study", unit="run"):
        config = settings(out, task, method, rate, steps, development=development, quick=quick)
        run = out / task / "_".join([method, *([f"{rate:g}"] if rate else []), str(seed)])
        train(config, run, seed, device)
        evaluate(run, config.evaluate, device)
        found = results(out, steps, development=development, quick=quick)
        records = [record for each in found.values() for record in each]
        write_json(out / "results.json", records)
        write_text(out / "table.md", table(records))
    for task in tasks:
        comparison = read_comparison([run for run in found if run.parent.name == task])
        pictures = take_pictures(comparison, videos=False)
        write_text(out / task / "report.html", render(comparison, pictures, [], [" ".join(sys.argv)]))
    return out / "table.md"


def results(
    out: Path, steps: int | None = None, *, development: bool = False, quick: bool = False
) -> dict[Path, list[dict[str, Any]]]:
    """The records of each run in ``out`` that was trained and evaluated with these settings, in whichever call.

    A training that is there twice, with its rate in the folder's name and without, counts once.
    """
    tasks, methods = (
        {file.stem for file in (configs_folder() / kind).glob("*.yaml")} for kind in ("env", "policy")
    )
    found: dict[tuple[Any, ...], tuple[Path, list[dict[str, Any]]]] = {}
    for path in sorted(out.glob("*/*/eval.json")):
        run, meta = path.parent, read_json(path.parent / "config.json")
        task, seed, trained = run.parent.name, meta["seed"], meta["config"]["train"]
        rate = trained["learning_rate"]
        method = run.name.removesuffix(f"_{seed}").removesuffix(f"_{rate:g}")
        if task not in tasks or method not in methods:
            continue
        config = settings(out, task, method, rate, steps, development=development, quick=quick)
        records = read_asked(run, config.evaluate)
        if records and trained["steps"] == config.train.steps:
            facts = {"task": task, "method": method, "rate": rate, "training_seed": seed}
            found[tuple(facts.values())] = run, [facts | plain(record) for record in records]
    return dict(found[key] for key in sorted(found))


def settings(
    out: Path,
    task: str,
    method: str,
    rate: float | None = None,
    steps: int | None = None,
    *,
    development: bool = False,
    quick: bool = False,
) -> Config:
    """One training's configuration; diffusion is also judged at 16 evaluations, and always at 100."""
    folder = configs_folder()
    changes: dict[str, Any] = {"train.demos": str(out / task / "demonstrations.h5")}
    changes |= {"train.steps": steps} if steps else {}
    changes |= {"train.learning_rate": rate} if rate else {}
    changes |= {"evaluate.first_seed": DEVELOPMENT_SEED} if development else {}
    config = load(
        [folder / "env" / f"{task}.yaml", folder / "policy" / f"{method}.yaml"],
        changes | (QUICK if quick else {}),
    )
    if config.policy.type in ("ddpm", "diffusion_policy"):
        return replace(config, evaluate=replace(config.evaluate, nfe=DIFFUSION_NFES))
    return config


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without its episodes."""
    return {key: value for key, value in record.items() if key != "episode_records"}


def table(records: list[dict[str, Any]]) -> str:
    """Markdown: one row for each task, method and solver, pooled over the seeds."""
    cells = defaultdict(list)
    for record in records:
        key = record["task"], record["method"], record["rate"], record["solver"], record["nfe"]
        cells[key].append(record)
    lines = [
        "| task | method | learning rate | solver | NFE | success, % | 95 % interval | seeds | ms a chunk | "
        "training, min |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (task, method, rate, solver, nfe), found in cells.items():
        successes, episodes = sum(r["successes"] for r in found), sum(r["episodes"] for r in found)
        low, high = wilson_interval(successes, episodes)
        each = ", ".join(f"{100 * r['success_rate']:.0f}" for r in found)
        latency = statistics.median(r["latency_ms_median"] for r in found)
        minutes = statistics.median(r["train_seconds"] or 0.0 for r in found) / 60
        lines.append(
            f"| {task} | {method} | {rate:g} | {solver} | {nfe} | {100 * successes / episodes:.1f} | "
            f"[{100 * low:.0f}, {100 * high:.0f}] | {each} | {latency:.1f} | {minutes:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=["peg_study", "key_turn"], metavar="TASK")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    parser.add_argument(
        "--rates", nargs="+", type=float, metavar="RATE", help="learning rates; default: the task's own"
    )
    parser.add_argument("--development", action="store_true", help="play development scenes, to choose by")
    parser.add_argument(
        "--steps", type=int, help="optimiser steps of every training; default: the task's own"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="everything tiny")
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    a = parser.parse_args()
    print(
        study(
            a.out,
            a.tasks,
            a.methods,
            a.seeds,
            rates=a.rates,
            development=a.development,
            steps=a.steps,
            device=a.device,
            quick=a.quick,
        )
    )


if __name__ == "__main__":
    main()
