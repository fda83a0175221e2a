"""How much of a prefix a guided chunk follows, and what guidance costs.

    python scripts/guidance_errors.py --run runs/peg_long/se3_flow

A policy plays some of each scene. Then its next chunk is asked for as it comes, and guided to go on with the same chunk
moved aside; ``delay`` steps of that are frozen, weight 1. A share of 1 is a prefix that is honoured.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch import Tensor

import geoflow as gf
from geoflow.cli.errors import sentence
from geoflow.experiments.json_files import read_json
from geoflow.policies.base import Policy
from geoflow.policies.onward import Onward


@dataclass(frozen=True)
class Arguments:
    """What is measured."""

    run: Path
    """A run folder of a flow policy."""
    scenes: int = 20
    """How many; each is observed some steps later than the one before, up to ``played``."""
    played: int = 60
    """Steps."""
    aside: float = 0.01
    """How far the prefix is beside the policy's own chunk, along x [m]."""
    delay: int = 6
    """Frozen steps."""
    nfe: int = 10
    """Network evaluations a chunk."""


def observations(policy: Policy, args: Arguments) -> list[dict[str, np.ndarray]]:
    """One of each scene of the task that it was trained on."""
    task = read_json(args.run / "config.json")["config"]["env"]
    env, seen = gym.make(task["id"], **task["kwargs"]), []
    for scene in range(args.scenes):
        obs, _ = env.reset(seed=scene)
        broker = gf.ChunkBroker(policy, generator=torch.Generator().manual_seed(scene))
        for _ in range(args.played * scene // args.scenes):
            obs, *_ = env.step(broker.act(obs))
        seen.append(obs)
    return seen


def timed(
    policy: Policy, obs: dict[str, np.ndarray], nfe: int, onward: Onward | None
) -> tuple[Tensor, float]:
    """A chunk from the same noise as all others, and how long it took [ms]."""
    begin = time.perf_counter()
    chunk = policy.act(obs, nfe, generator=torch.Generator().manual_seed(0), onward=onward)
    return chunk, 1e3 * (time.perf_counter() - begin)


def main(args: Arguments) -> None:
    """Print shares by step, and milliseconds."""
    policy = gf.load_policy(args.run)
    shares, costs = [], []
    for obs in observations(policy, args):
        free, naive = timed(policy, obs, args.nfe, None)
        prefix = free.clone()
        prefix[:, 0] += args.aside
        onward = Onward(prefix[: len(prefix) - args.delay], args.delay, "guided")
        guided, cost = timed(policy, obs, args.nfe, onward)
        shares.append((guided - free)[: args.delay, 0] / args.aside)
        costs.append((naive, cost))
    low, middle, high = (torch.stack(shares).quantile(q, 0) for q in (0.1, 0.5, 0.9))
    print("| frozen step | share followed, median | tenth percentile | ninetieth |\n|---|---|---|---|")
    for step, row in enumerate(zip(middle, low, high, strict=True)):
        print(f"| {step + 1} | " + " | ".join(f"{float(x):.2f}" for x in row) + " |")
    naive, guided = np.median(costs[1:], 0)  # the first calls allocate
    print(
        f"a chunk, {args.nfe} evaluations: {naive:.1f} ms, guided {guided:.1f} ms ({guided / naive:.1f} times)"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        main(tyro.cli(Arguments, description=__doc__))
    except (ValueError, OSError) as error:
        raise SystemExit(f"guidance_errors: {sentence(error)}") from None
