"""VectorEncoder: standardise a vector observation and embed it; HistoryEncoder: the same as a token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoflow.policies.encoders.base import Encoder, all_there


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
        """Take mean and spread from data (N, inputs); a constant input is centred and left at its scale.

        Numbers that are NaN are not there.
        """
        there = ~x.isnan()
        self.mean.copy_(x.nanmean(0).nan_to_num())
        spread = ((x - self.mean).square().nansum(0) / (there.sum(0) - 1).clamp(min=1)).sqrt()
        self.scale.copy_(torch.where(spread > 1e-4, spread, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Embed (B, inputs); the mean stands for a number that is not there, NaN."""
        # Beyond a few spreads the network has never been: clamp, rather than extrapolate.
        z = ((x - self.mean) / self.scale).clamp(-5, 5)
        return self.layers(torch.where(z.isnan(), 0, z))


class HistoryEncoder(Encoder):
    """Vectors (B, To, d) to one token for all steps (B, 1, 1, width)."""

    def __init__(self, shape: tuple[int, ...], steps: int, width: int) -> None:
        super().__init__(shape, steps, width)
        if len(shape) != 1:
            raise ValueError(f"a vector has the shape {tuple(shape)}; expected (d,).")
        self.steps, self.tokens = 1, 1
        self.net = VectorEncoder(steps * shape[0], width)

    def fit(self, x: Tensor) -> None:
        """Take mean and spread from data (N, To, d)."""
        self.net.fit(x.flatten(1))

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Encode; nothing is drawn."""
        tokens = self.net(x.flatten(1))[:, None, None]
        return all_there(tokens)
