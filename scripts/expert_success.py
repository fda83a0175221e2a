"""Success, modes and cost of a task's expert over fresh seeds: one record a setting, written as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from math import radians, sqrt
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from geoflow_envs import TASKS


@dataclass(frozen=True)
class Job:
    """A run of seeds in one setting."""

    task: str
    kwargs: dict[str, Any]
    choice: str
    seeds: range
    disturbed: bool


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
    parser.add_argument("task", nargs="?", default="TiltedPegInsert", choices=names())
    parser.add_argument("--episodes", type=int, default=200, help="episodes per setting")
    parser.add_argument("--first-seed", type=int, default=100_000)
    parser.add_argument("--robots", nargs="+", default=["free", "panda"], help="of those the task takes")
    parser.add_argument("--levels", nargs="+", type=int, default=[0, 1, 2, 3])
    parser.add_argument(
        "--starts", nargs="+", default=[], choices=["table", "in_hand"], help="the peg's alone"
    )
    parser.add_argument("--splits", nargs="+", default=["train"], choices=["train", "range", "frame"])
    parser.add_argument("--choices", nargs="+", default=["greedy"], choices=["greedy", "random"])
    parser.add_argument("--disturbed", action="store_true", help="shift what is executed by bursts of noise")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, help="default: docs/results/expert_<task>.json")
    options = parser.parse_args()
    out = options.out or Path(f"docs/results/expert_{options.task}.json")

    report: dict[str, Any] = {
        "command": command(),
        "versions": {name: version(name) for name in ("mujoco", "gymnasium", "numpy")},
        "python": platform.python_version(),
        "records": [],
    }
    starts = [{"in_hand": start == "in_hand"} for start in options.starts] or [{}]
    with ProcessPoolExecutor(options.processes) as pool:
        for robot, level, split, start, choice in product(
            options.robots, options.levels, options.splits, starts, options.choices
        ):
            kwargs = {"robot": robot, "level": level, "split": split, **start}
            report["records"].append(measure(pool, kwargs, choice, options))
            print(json.dumps(report["records"][-1]), flush=True)
            write_json(out, report)  # after each setting, so that an interrupt costs one
    print(out)


def names() -> list[str]:
    """The registered tasks as one types them: without namespace and version."""
    return [name.removeprefix("geoflow/").rpartition("-v")[0] for name in TASKS]


def command() -> str:
    """The command line that repeats this, wherever its result was put."""
    words = sys.argv.copy()
    if "--out" in words:
        at = words.index("--out")
        del words[at : at + 2]
    return " ".join(["python", *words])


def measure(
    pool: ProcessPoolExecutor, kwargs: dict[str, Any], choice: str, options: argparse.Namespace
) -> dict[str, Any]:
    """The record of one setting."""
    seeds = range(options.first_seed, options.first_seed + options.episodes)
    jobs = [
        Job(options.task, kwargs, choice, seeds[part :: options.processes], options.disturbed)
        for part in range(options.processes)
    ]
    outcomes = [outcome for outcomes in pool.map(run, jobs) for outcome in outcomes]
    successes = sum(not outcome.failure for outcome in outcomes)
    low, high = wilson_interval(successes, len(outcomes))
    steps = [outcome.steps for outcome in outcomes if not outcome.failure]
    modes = Counter(outcome.mode for outcome in outcomes if not outcome.failure)
    return {
        "task": options.task,
        **kwargs,
        "choice": choice,
        "disturbed": options.disturbed,
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
    outcomes = []
    for seed in job.seeds:
        rng, offset, left, steps = np.random.default_rng(seed), np.zeros(6), 0, 0
        begin = time.process_time()
        env.reset(seed=seed)
        started = time.process_time()
        while True:
            action = expert.act()
            if job.disturbed:
                if left == 0 and rng.random() < 0.06:
                    left, offset = int(rng.integers(5, 9)), burst(rng)
                if left > 0:
                    left, action = left - 1, shifted(action, offset)
            _, _, terminated, truncated, info = env.step(action)
            steps += 1
            if terminated or truncated:
                break
        now = time.process_time()
        outcomes.append(Outcome(info["failure"], info["mode"], steps, started - begin, now - begin))
    env.close()
    return outcomes


def burst(rng: np.random.Generator) -> np.ndarray:
    """A constant error of up to 3 cm and 20 degrees, as a twist in the TCP frame."""
    direction = rng.standard_normal((2, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return np.concatenate([direction[0] * rng.uniform(0, 0.03), direction[1] * rng.uniform(0, radians(20))])


def shifted(action: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """The action's pose moved by an offset in its own frame."""
    from geoflow_envs import poses

    pose = poses.compose(action[:7].astype(float), poses.pose(offset[:3], offset[3:]))
    return np.append(pose, action[7]).astype(np.float32)


def wilson_interval(successes: int, episodes: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a proportion (95 %)."""
    rate, spread = successes / episodes, z * z / episodes
    centre = (rate + spread / 2) / (1 + spread)
    half = z * sqrt(rate * (1 - rate) / episodes + spread / (4 * episodes)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, path)


if __name__ == "__main__":
    main()
