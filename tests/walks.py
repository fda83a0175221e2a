"""Demonstrations of a law simple enough to check by hand: the commanded pose walks from the tool to the goal."""

from __future__ import annotations

import numpy as np
import torch

import geoflow as gf
from geoflow.data.demonstrations import Episode, Meta, write

STEPS = 24
KINDS = {"tcp": "pose", "goal": "pose", "gripper": "vector"}


def episode(seed: int) -> Episode:
    """A straight walk (screw) from a random tool pose to a random goal; the gripper closes half-way."""
    generator = torch.Generator().manual_seed(seed)
    space = gf.SE3()
    tcp = space.exp(space.identity(), 0.5 * torch.randn(6, generator=generator))
    goal = space.exp(tcp, 0.3 * torch.randn(6, generator=generator))
    t = torch.linspace(0, 1, STEPS + 1)
    path, _ = space.geodesic(tcp.expand(STEPS + 1, 7), goal.expand(STEPS + 1, 7), t)
    gripper = torch.where(t > 0.5, 1.0, -1.0)[:, None]
    obs = {"tcp": path[:-1], "goal": goal.expand(STEPS, 7), "gripper": gripper[:-1]}
    return Episode(
        obs={name: x.numpy().astype(np.float32).copy() for name, x in obs.items()},
        actions=torch.cat([path[1:], gripper[1:]], -1).numpy(),
        disturbed=np.zeros(STEPS, bool),
        seed=seed,
    )


def write_walks(path, seeds=range(40)):
    """A demonstration file of walks; its path."""
    meta = Meta(env_id="tests/Walk-v0", env_kwargs={}, control_hz=20.0, observation_kinds=KINDS)
    write(path, meta, (episode(seed) for seed in seeds))
    return path
