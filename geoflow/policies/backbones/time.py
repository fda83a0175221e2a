"""gamma(t) = (cos 2 pi f_i t, sin 2 pi f_i t): the embedding of a time in [0, 1]."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class TimeEmbedding(nn.Module):
    """(B,) -> (B, dim), frequencies f_i geometric from 1/4 to 64."""

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        frequencies = 2 * math.pi * torch.logspace(-2, 6, dim // 2, base=2.0)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """Embed times."""
        angle = t[:, None] * self.frequencies
        return torch.cat([angle.cos(), angle.sin()], -1)
