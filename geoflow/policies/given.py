"""A given prefix: at given steps the network is shown the chunk itself, and a channel that says which steps they are.

Training with simulated delay (Black, Ren, Equi and Levine 2025, "Training-Time Action Conditioning for Efficient
Real-Time Chunking", arXiv:2512.05964): while a policy computes, d steps of the last chunk are executed. So in
training the first d steps, d drawn anew for every chunk, are given without noise, and only the others are learned.
When it acts, what is executed meanwhile takes their place: no guidance, no gradient, any solver.

Demonstrated prefixes always agree with what is seen, so a network learns to look at the observation alone, and a jump
is left where a prefix disagrees, as those of a robot do: they were planned from an older observation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geoflow.flows.noise import Generators, rand

CHANNELS = 1
"""What a network sees more than features: 1 at given steps, 0 at the others."""


@dataclass(frozen=True)
class Given:
    """What is known of B chunks.

    Attributes:
        features: As the network sees them, standardised, (B, T, F); anything where the mask is False.
        mask: (B, T) bool, True at given steps.
    """

    features: Tensor
    mask: Tensor

    @classmethod
    def first(cls, features: Tensor, d: Tensor) -> Given:
        """The first d (B,) steps of each chunk."""
        return cls(features, torch.arange(features.shape[1], device=features.device) < d[:, None])


def counted(given: Given | None, counts: Tensor | None) -> Tensor | None:
    """Which steps (B, T) count in a loss: of ``counts``, or of all, those that are not given; None: all."""
    if given is None:
        return counts
    return ~given.mask if counts is None else counts & ~given.mask


def delays(count: int, most: int, generator: Generators, like: Tensor) -> Tensor:
    """d (B,), each of 0, 1, ..., ``most`` as often."""
    return (rand((count,), generator, like=like) * (most + 1)).floor()


def mark(features: Tensor, given: Given | None) -> Tensor:
    """Features (B, T, F) with the given ones in their places, and the channel that says so: (B, T, F + 1)."""
    if given is None:
        return torch.cat([features, torch.zeros_like(features[..., :CHANNELS])], -1)
    mask = given.mask.unsqueeze(-1)
    return torch.cat([torch.where(mask, given.features, features), mask.to(features)], -1)


def widened(weight: Tensor, shape: torch.Size, horizon: int, features: int) -> Tensor:
    """Input weights (n, inputs, ...) of a network that had no such channel, in its new ``shape``, with zeros for it.

    The MLP takes a chunk as one vector, ``horizon`` times as many ``features``, before all else; the others step by
    step.
    """
    if shape[1] == weight.shape[1] + CHANNELS:
        return torch.cat([weight, torch.zeros_like(weight[:, :CHANNELS])], 1)
    chunk, rest = weight.split([horizon * features, weight.shape[1] - horizon * features], 1)
    chunk = chunk.unflatten(1, (horizon, features))
    return torch.cat([mark(chunk, None).flatten(1), rest], 1)
