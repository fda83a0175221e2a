"""Made-up runs for tests of comparison and report: folders as train and evaluate leave them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from geoflow.experiments.config import Config, EnvConfig
from geoflow.experiments.evaluation import FORMAT, solvers, summary
from geoflow.experiments.policy_names import policy_name
from geoflow.experiments.rollout import Episode
from geoflow.policies.config import PolicyConfig

SE3_FLOW = PolicyConfig()
EUCLIDEAN_FLOW = PolicyConfig(manifold="Euclidean")
DDPM = PolicyConfig(type="ddpm", manifold="Euclidean", solver="ddim")
KINDS = ("misaligned", "not_deep_enough", "dropped", "no_grasp")


def write_run(
    folder: Path,
    policy: PolicyConfig,
    rate: float | dict[int, float],
    *,
    seed: int = 0,
    episodes: int = 100,
    nfe: tuple[int, ...] = (1, 2, 4, 10),
    level: int = 1,
    steps: int = 4000,
) -> Path:
    """A run whose success at each nfe is exactly ``rate`` of the scenes."""
    rng = np.random.default_rng([seed, len(policy_name(policy))])
    config = Config(env=EnvConfig(kwargs={"level": level, "in_hand": True}), policy=policy)
    config = replace(config, train=replace(config.train, steps=steps))
    records = []
    for cell in solvers(policy, nfe):
        share = rate if isinstance(rate, float) else rate[cell.nfe]
        won = rng.permutation(episodes) < round(share * episodes)
        played = [_episode(1_000_000 + i, bool(ok), rng) for i, ok in enumerate(won)]
        records.append(
            _facts(policy, folder, seed, level)
            | {"nfe": cell.nfe, "solver": cell.name}
            | {"latency_ms_median": 0.4 + 0.9 * cell.nfe, "latency_ms_p95": 0.6 + 1.2 * cell.nfe}
            | summary(played)
            | {"episode_records": [asdict(episode) for episode in played]}
        )
    folder.mkdir(parents=True)
    meta = {"config": asdict(config), "seed": seed, "train_seconds": 200.0 + seed, "parameters": 2_400_000}
    meta |= {"spec": {"control_hz": 20.0}, "commit": "0123456789ab", "versions": {"torch": "2.13.0"}}
    meta |= {"hardware": "a processor, 2 cores", "command": "geoflow train"}
    (folder / "config.json").write_text(json.dumps(meta))
    (folder / "eval.json").write_text(json.dumps({"format": FORMAT, "version": 1, "records": records}))
    logged = range(50, steps + 1, 50)
    losses = [2 * s**-0.3 * float(np.exp(0.1 * rng.normal())) for s in logged]
    lines = [
        {"step": s, "loss": x, "lr": 1e-3, "samples_per_second": 5e4, "seconds": s / 20}
        for s, x in zip(logged, losses, strict=True)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def _episode(seed: int, success: bool, rng: np.random.Generator) -> Episode:
    failure = "" if success else str(rng.choice(KINDS, p=(0.5, 0.3, 0.15, 0.05)))
    steps = int(rng.integers(90, 160)) if success else 240
    return Episode(seed, success, steps, failure, int(rng.integers(4)), {"is_success": success})


def _facts(policy: PolicyConfig, folder: Path, seed: int, level: int) -> dict[str, Any]:
    return {
        "policy": policy_name(policy),
        "run": str(folder),
        "manifold": policy.manifold,
        "frame": policy.frame,
        "seed": seed,
        "train_seconds": 200.0 + seed,
        "parameters": 2_400_000,
        "level": level,
        "robot": "free",
        "in_hand": True,
        "env_id": "geoflow_envs:geoflow/TiltedPegInsert-v0",
        "env_kwargs": {"level": level, "in_hand": True},
        "execute": 8,
        "first_seed": 1_000_000,
        "weights": f"{policy_name(policy)} {folder.name}",
        "device": "cpu",
        "hardware": "a processor, 2 cores",
        "commit": "0123456789ab",
        "versions": {"torch": "2.13.0"},
        "command": f"geoflow evaluate {folder}",
        "env_steps_per_second": 900.0,
        "chunks_per_second": 110.0,
        "evaluate_seconds": 12.0,
        "workers": 2,
    }
