"""Centre and width of demonstrated chunks, step by step: what a policy's noise and its network are scaled by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geoflow.manifolds import Manifold, frechet_mean
from geoflow.policies.frames import blocks


@dataclass(frozen=True)
class ChunkStatistics:
    """Of chunks (N, T, point_dim); one width for the position and one for the rotation of an arm, and of each extra.

    Attributes:
        mean: Centre of each step (T, point_dim), on the manifold, float64.
        scale: Widths about it, in its tangent space (T, tangent_dim).
        feature_mean: Mean of features (T, feature_dim).
        feature_scale: Widths of features (T, feature_dim).
    """

    mean: Tensor
    scale: Tensor
    feature_mean: Tensor
    feature_scale: Tensor

    @classmethod
    def of(cls, space: Manifold, x: Tensor, arms: int, extras: int) -> ChunkStatistics:
        """The statistics of points x (N, T, point_dim) of ``space``, poses of ``arms`` and ``extras`` numbers."""
        mean = center(space, x.double())
        about = space.log(mean.to(x).expand_as(x), x).square().mean(0)
        features = space.features(x)
        variance = features.var(0, correction=min(len(x) - 1, 1))  # a single chunk has none
        return cls(
            mean,
            _by_block(about, blocks(space.tangent_dim, arms, extras)).sqrt(),
            features.mean(0),
            _by_block(variance, blocks(space.feature_dim, arms, extras)).sqrt(),
        )


def unit_of_length(positions: Tensor) -> Tensor:
    """The spread [m] of positions (N, T, arms, 3) about the mean of each arm's, shape (), at least a millimetre."""
    return (positions - positions.mean((0, 1))).square().sum(-1).mean().sqrt().clamp(min=1e-3)


def center(space: Manifold, x: Tensor) -> Tensor:
    """The Frechet mean over the first axis, or the mean of features where rotations spread too far for one."""
    try:
        return frechet_mean(space, x, tolerance=1e-5)
    except RuntimeError:
        return space.from_features(space.features(x).mean(0))


def _by_block(variance: Tensor, blocks: Sequence[slice], floor: float = 0.05) -> Tensor:
    """One variance per chunk step and block, at least ``floor^2`` of the block's largest, shape as given."""
    out = torch.empty_like(variance)
    for block in blocks:
        pooled = variance[..., block].mean(-1, keepdim=True)
        out[..., block] = pooled.clamp(min=max(float(pooled.max()) * floor**2, 1e-8))
    return out
