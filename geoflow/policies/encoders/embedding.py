"""EmbeddingEncoder: features that a frozen encoder elsewhere computed, brought to the width of our tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoflow.policies.encoders.base import Encoder, all_there


class EmbeddingEncoder(Encoder):
    """Features (B, To, d) or (B, To, n, d) to one or n tokens a step, (B, To, n, width), all there."""

    mean: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, ...], steps: int, width: int) -> None:
        super().__init__(shape, steps, width)
        if len(shape) not in (1, 2):
            raise ValueError(
                f"an embedding has the shape {tuple(shape)}; expected (d,), or (n, d) for n tokens."
            )
        self.steps, self.tokens = steps, 1 if len(shape) == 1 else shape[0]
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(()))
        self.net = nn.Sequential(nn.Linear(shape[-1], width), nn.SiLU(), nn.Linear(width, width))

    def fit(self, x: Tensor) -> None:
        """Take from data (N, To, *shape) the mean, and one spread: features keep their proportions."""
        self.mean.copy_(x.mean((0, 1)))
        self.scale.copy_((x - self.mean).square().mean().sqrt().clamp(min=1e-6))

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Encode; nothing is drawn."""
        x = (x - self.mean) / self.scale
        return all_there(self.net(x.reshape(*x.shape[:2], self.tokens, x.shape[-1])))
