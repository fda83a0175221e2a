"""Config = env + collect + policy + train + evaluate: what an experiment is, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from geoflow.policies.config import PolicyConfig


@dataclass(frozen=True)
class EnvConfig:
    """A gymnasium environment whose action is a pose with extras."""

    id: str = "geoflow_envs:geoflow/TiltedPegInsert-v0"
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CollectConfig:
    """Demonstrations of the scripted expert."""

    episodes: int = 200
    """Successful demonstrations to record."""
    choice: str = "random"
    """How the expert picks among feasible modes: greedy or random."""
    disturbance: float = 0.0
    """Share of time, 0 to 0.5, in which a correlated disturbance is added to what is executed."""
    workers: int = 0
    """Processes; 0 means one per core."""


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation of a policy on demonstrations."""

    demos: str = "demos/peg.h5"
    """The demonstration file."""
    steps: int = 7000
    """Optimiser steps."""
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup: int = 200
    """Steps of linear warm-up; a cosine to zero follows."""
    ema_power: float = 0.75
    """Exponent of the warm-up of the moving average of the weights (Diffusion Policy uses 0.75)."""
    gradient_clip: float = 1.0
    precision: str = "float32"
    """float32, or bfloat16 (mixed: twice as fast where the processor or GPU multiplies it natively)."""
    log_every: int = 50
    checkpoint_every: int = 1000


@dataclass(frozen=True)
class EvaluateConfig:
    """Rollouts on held-out scenes."""

    episodes: int = 100
    first_seed: int = 1_000_000
    """Scenes are reset with first_seed, first_seed + 1, ...; demonstrations use seeds below 1 000 000."""
    nfe: tuple[int, ...] = (1, 2, 4, 10)
    """Network evaluations a chunk."""
    execute: int = 0
    """Steps executed of each chunk; 0 means the policy's own."""
    workers: int = 0
    """Processes; 0 means one per core."""


@dataclass(frozen=True)
class Config:
    """One experiment. A YAML file states only what differs from these defaults."""

    env: EnvConfig = field(default_factory=EnvConfig)
    collect: CollectConfig = field(default_factory=CollectConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
