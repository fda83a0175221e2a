"""How far a policy's estimates of poses are from the truth along the expert's way, in scenes it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch import Tensor

from geoflow.policies.checkpoint import load_policy
from geoflow.policies.estimates import PARTS

FRAMES = ("world", "tool")


@dataclass(frozen=True)
class Arguments:
    """What is measured."""

    run: Path
    """A run folder of a policy with policy.estimated."""
    scenes: int = 20
    first_seed: int = 900_000
    """Demonstrations use seeds from 0, evaluations from 1 000 000."""
    steps: int = 60
    """Control steps of the expert in each scene."""
    every: int = 8
    """Control steps from one measured observation to the next."""


def observed(env: gym.Env, args: Arguments) -> dict[str, Tensor]:
    """Observations (B, 1, d) along the expert's way."""
    seen: list[dict[str, np.ndarray]] = []
    for seed in range(args.first_seed, args.first_seed + args.scenes):
        obs, _ = env.reset(seed=seed)
        expert = env.unwrapped.expert("greedy", seed=seed)  # pyright: ignore[reportAttributeAccessIssue]
        for step in range(args.steps):
            if step % args.every == 0:
                seen.append(obs)
            obs, _, terminated, truncated, _ = env.step(expert.act())
            if terminated or truncated:
                break
    return {name: torch.tensor(np.stack([x[name] for x in seen]))[:, None] for name in seen[0]}


def axis_angles(y: Tensor, true: Tensor, axis: int) -> Tensor:
    """Degrees between an axis up to its sign, the main direction of its outer product (B, 39), and the true one."""
    outer = y[:, PARTS[2]].unflatten(-1, (3, 3, 3))[:, axis]
    main = torch.linalg.eigh((outer + outer.mT) / 2)[1][..., -1]
    cosine = (main * true[:, PARTS[1]].unflatten(-1, (3, 3))[:, axis]).sum(-1).abs()
    return cosine.clamp(max=1).acos().rad2deg()


def main(args: Arguments) -> None:
    """Print for each pose and frame the median and the ninth decile of its errors."""
    policy = load_policy(args.run)
    task = policy.spec.tasks[0]
    obs = observed(gym.make(task.env_id, **task.env_kwargs), args)
    y = policy.estimates({name: obs[name] for name in policy.spec.kinds})
    assert policy.conditioning.estimator is not None
    true = policy.conditioning.estimator.true(obs, policy.frames.first(obs, policy.length)[:, 0])
    print(f"{len(y)} observations of {args.scenes} scenes; median, ninth decile")
    for i, name in enumerate(policy.config.estimated):
        for f, frame in enumerate(FRAMES):
            a, b = y[:, f, i], true[:, f, i]
            errors = {
                "position [mm]": 1e3 * (a - b)[:, PARTS[0]].norm(dim=-1),
                **{f"{label} axis [deg]": axis_angles(a, b, k) for k, label in enumerate("xyz")},
            }
            told = "; ".join(f"{what} {x.median():.1f}, {x.quantile(0.9):.1f}" for what, x in errors.items())
            print(f"{name} in {frame}: {told}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
