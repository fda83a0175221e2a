"""Success and cost of the experts of the Robosuite tasks over fresh seeds: one record a task, written as JSON."""

from __future__ import annotations

import argparse
import json
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from expert_success import command, measure, write_json

TASKS = {"RobosuiteSquare": "random", "RobosuiteDoor": "random", "RobosuiteTwoArmPegInHole": "random"}
"""Task -> how its expert picks among the ways: at random, as `geoflow collect` has it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--episodes", type=int, default=50, help="episodes per task")
    parser.add_argument("--first-seed", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/results/expert_robosuite.json"))
    options = parser.parse_args()
    options.disturbance = 0.0
    report: dict[str, Any] = {
        "command": command(),
        "versions": {name: version(name) for name in ("robosuite", "mujoco", "gymnasium", "numpy")},
        "python": platform.python_version(),
        "records": [],
    }
    with ProcessPoolExecutor(options.processes) as pool:
        for task in options.tasks:
            record = measure(pool, task, {}, TASKS[task], options)
            record["steps_per_cpu_second"] = round(pool.submit(speed, task).result())
            report["records"].append(record)
            print(json.dumps(record), flush=True)
            write_json(options.out, report)
    print(options.out)


def speed(task: str, steps: int = 200) -> float:
    """Control steps a CPU second with the arms held still, compiled and warm."""
    env = gym.make(f"geoflow/{task}-v0", disable_env_checker=True)
    base: Any = env.unwrapped
    env.reset(seed=0)
    action = np.append(base.state().tcp, [-1.0] * base.arms)
    for _ in range(20):
        env.step(action)
    begin = time.process_time()
    for _ in range(steps):
        env.step(action)
    return steps / (time.process_time() - begin)


if __name__ == "__main__":
    main()
