"""What is measured on samples: distance to fresh data, modes, straightness, likelihood."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geoflow.flows.distances import mmd, wasserstein
from geoflow.flows.straightness import curvature, end_cost, path_cost
from geoflow.manifolds import Manifold

from .sets import ToySet

POINTS = 768
"""Samples, and data they are compared with."""


def fresh(toy: ToySet, seed: int, n: int = POINTS) -> tuple[Tensor, Tensor]:
    """Data that no method trained on: points and modes."""
    return toy.sample(n, torch.Generator().manual_seed(77000 + seed))


def quality(toy: ToySet, x: Tensor, data: Tensor, tags: Tensor | None = None) -> dict[str, float]:
    """Distances and modes of samples (n, point_dim) against as many data.

    ``w1`` and ``mmd2`` are of `geoflow.flows.distances`; ``coverage`` is the share of modes that got at least a
    third of their weight, ``variation`` the total variation between mode weights, ``tag`` the share of samples
    that lie in the mode they were asked for.
    """
    mode = toy.mode_of(x)
    weights = torch.bincount(mode, minlength=toy.modes) / len(x)
    result = {
        "w1": wasserstein(toy.space, x, data, order=1),
        "mmd2": mmd(toy.space, x, data),
        "coverage": float((weights > toy.weights / 3).float().mean()),
        "variation": float((weights - toy.weights).abs().sum() / 2),
    }
    if tags is not None:
        result["tag"] = float((mode == tags).float().mean())
    return result


def straightness(space: Manifold, states: Tensor) -> dict[str, float]:
    """Of trajectories (steps + 1, n, point_dim), all 0 or 1 where they are straight.

    ``curvature`` is E S / E |xi|^2 (see `geoflow.flows.straightness.curvature`), ``detour`` the mean length of
    the way over the mean distance of its ends, ``energy`` the mean cost of the way over that of the straight one.
    """
    length = space.distance(states[:-1], states[1:]).sum(0).mean()
    ends = end_cost(space, states)
    return {
        "curvature": float(curvature(space, states).mean() / ends.mean()),
        "detour": float(length / ends.sqrt().mean()),
        "energy": float(path_cost(space, states).mean() / ends.mean()),
        "transport": float(ends.mean()),
    }


def likelihood(toy: ToySet, log_prob: Tensor, x: Tensor) -> dict[str, float]:
    """``nll`` [nats] at data x, and ``kl`` = mean log p / p_model where p is known: 0 for a perfect model."""
    result = {"nll": -float(log_prob.mean())}
    if toy.log_density is not None:
        gap = toy.log_density(x.double()) - log_prob.double()
        result["kl"] = float(gap.mean())
        result["kl_error"] = float(gap.std() / len(x) ** 0.5)
    return result


def mean_of(values: list[Any]) -> Any:
    """The mean over seeds of numbers, or of dictionaries of them."""
    if isinstance(values[0], dict):
        return {key: mean_of([value[key] for value in values if key in value]) for key in values[0]}
    return sum(values) / len(values)
