"""Success, modes and cost of a task's expert over fresh seeds: one record a setting, written as JSON."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from geoflow_envs import TASKS

from geoflow.experiments.disturbance import Disturbance
from geoflow.experiments.json_files import write_json
from geoflow.experiments.proportions import wilson_interval


@dataclass(frozen=True)
class Job:
    """A run of seeds in one setting."""

    task: str
    kwargs: dict[str, Any]
    choice: str
    seeds: range
    disturbance: float


@dataclass(frozen=True)
class Outcome:
    """One episode: how it ended ("" is success), the mode at its end, its steps, CPU seconds in reset and in all."""

    failure: str
    mode: int
    steps: int
    reset_seconds: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", type=known, default=["TiltedPegInsert"], metavar="TASK")
    parser.add_argument("--episodes", type=int, default=200, help="episodes per setting")
    parser.add_argument("--first-seed", type=int, default=100_000)
    parser.add_argument("--robots", nargs="+", default=["free", "panda"], help="of those the task takes")
    parser.add_argument("--levels", nargs="+", type=int, default=[0, 1, 2, 3])
    parser.add_argument(
        "--starts", nargs="+", default=[], choices=["table", "in_hand"], help="the peg's alone"
    )
    parser.add_argument("--splits", nargs="+", default=["train"], choices=["train", "range", "frame"])
    parser.add_argument("--choices", nargs="+", default=["greedy"], choices=["greedy", "random"])
    parser.add_argument(
        "--disturbance",
        type=float,
        default=0.0,
        help="share of steps disturbed, as when demonstrations are collected",
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--out",
        type=Path,
        help="default: docs/results/expert_<task>.json; what it holds of other settings stays",
    )
    options = parser.parse_args()
    if options.out is None and len(options.tasks) > 1:
        parser.error("give --out for several tasks.")
    out = options.out or Path(f"docs/results/expert_{options.tasks[0]}.json")

    starts = [{"in_hand": start == "in_hand"} for start in options.starts] or [{}]
    with ProcessPoolExecutor(options.processes) as pool:
        for task, robot, level, split, start, choice in product(
            options.tasks, options.robots, options.levels, options.splits, starts, options.choices
        ):
            if robot not in robots(task):
                continue
            kwargs = {"robot": robot, "level": level, "split": split, **start}
            record = measure(pool, task, kwargs, choice, options)
            print(json.dumps(record), flush=True)
            write_json(out, extended(out, record))  # after each setting, so that an interrupt costs one
    print(out)


def extended(out: Path, record: dict[str, Any]) -> dict[str, Any]:
    """What the file shall hold: its other records, and this one in the place of one of the same setting."""
    now = {
        "command": command(),
        "versions": {name: version(name) for name in ("mujoco", "gymnasium", "numpy")},
        "python": platform.python_version(),
    }
    report = json.loads(out.read_text()) if out.is_file() else {**now, "records": []}
    # What was measured otherwise than the file's first records says so itself.
    record |= {key: value for key, value in now.items() if report[key] != value}
    records = report["records"]
    same = [index for index, other in enumerate(records) if setting(other) == setting(record)]
    at = same[0] if same else len(records)
    return report | {"records": [*records[:at], record, *records[at + 1 :]]}


def setting(record: dict[str, Any]) -> tuple[Any, ...]:
    """What tells a record from the others of its file."""
    keys = ("task", "robot", "level", "split", "in_hand", "choice")
    return (*(record.get(key) for key in keys), record.get("disturbance", 0.0))


def robots(task: str) -> tuple[str, ...]:
    """Those that a task takes."""
    base: Any = gym.make(f"geoflow/{task}-v0", disable_env_checker=True).unwrapped
    return tuple(base.robots)


def known(name: str) -> str:
    """A registered task as one types it: without namespace and version."""
    names = [task.removeprefix("geoflow/").rpartition("-v")[0] for task in TASKS]
    if name not in names:
        raise argparse.ArgumentTypeError(f"choose from {', '.join(names)}; got {name!r}.")
    return name


def command() -> str:
    """The command line that repeats this, wherever its result was put."""
    words = sys.argv.copy()
    if "--out" in words:
        at = words.index("--out")
        del words[at : at + 2]
    return " ".join(["python", *words])


def measure(
    pool: ProcessPoolExecutor, task: str, kwargs: dict[str, Any], choice: str, options: argparse.Namespace
) -> dict[str, Any]:
    """The record of one setting."""
    seeds = range(options.first_seed, options.first_seed + options.episodes)
    jobs = [
        Job(task, kwargs, choice, seeds[part :: options.processes], options.disturbance)
        for part in range(options.processes)
    ]
    outcomes = [outcome for outcomes in pool.map(run, jobs) for outcome in outcomes]
    successes = sum(not outcome.failure for outcome in outcomes)
    low, high = wilson_interval(successes, len(outcomes))
    steps = [outcome.steps for outcome in outcomes if not outcome.failure]
    modes = Counter(outcome.mode for outcome in outcomes if not outcome.failure)
    return {
        "task": task,
        **kwargs,
        "choice": choice,
        "disturbance": options.disturbance,
        "episodes": len(outcomes),
        "successes": successes,
        "ci_low": round(low, 4),
        "ci_high": round(high, 4),
        "failures": dict(Counter(outcome.failure for outcome in outcomes if outcome.failure)),
        "modes": {str(mode): modes[mode] for mode in sorted(modes)},
        "steps_median": float(np.median(steps)),
        "steps_p95": float(np.percentile(steps, 95)),
        "cpu_seconds_per_episode": round(float(np.mean([outcome.seconds for outcome in outcomes])), 4),
        "reset_milliseconds": round(
            1000 * float(np.mean([outcome.reset_seconds for outcome in outcomes])), 2
        ),
    }


def run(job: Job) -> list[Outcome]:
    """Play every seed of a job."""
    env = gym.make(f"geoflow/{job.task}-v0", disable_env_checker=True, **job.kwargs)
    expert = env.unwrapped.expert(job.choice, job.seeds.start)  # type: ignore[attr-defined]
    arms = env.action_space.shape[0] // 8  # type: ignore[index]
    outcomes = []
    for seed in job.seeds:
        noise = Disturbance(job.disturbance, np.random.default_rng([seed, 1]), arms)  # that of the collection
        begin = time.process_time()
        env.reset(seed=seed)
        started = time.process_time()
        steps, over, info = 0, False, {}
        while not over:
            action, _ = noise.apply(expert.act())
            _, _, terminated, truncated, info = env.step(action)
            steps, over = steps + 1, terminated or truncated
        now = time.process_time()
        outcomes.append(Outcome(info["failure"], info["mode"], steps, started - begin, now - begin))
    env.close()
    return outcomes


if __name__ == "__main__":
    main()
