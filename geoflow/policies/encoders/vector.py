"""VectorEncoder: standardise a vector observation and embed it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class VectorEncoder(nn.Module):
    """(B, inputs) -> (B, width): standardisation with the data's mean and spread, then two layers."""

    mean: Tensor
    scale: Tensor

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))
        self.layers = nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def fit(self, x: Tensor) -> None:
        """Take mean and spread from data (N, inputs); a constant input is centred and left at its scale."""
        self.mean.copy_(x.mean(0))
        spread = x.std(0)
        self.scale.copy_(torch.where(spread > 1e-4, spread, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Embed (B, inputs)."""
        # Beyond a few spreads the network has never been: clamp, rather than extrapolate.
        return self.layers(((x - self.mean) / self.scale).clamp(-5, 5))
