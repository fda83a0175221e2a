"""Encoder: what every encoder is made from, and says of the tokens it gives."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """Observations (B, To, *shape) -> tokens (B, steps, tokens, width), and which are there, (B, steps, tokens).

    A subclass sets how many ``steps`` and ``tokens`` it gives.

    Args:
        shape: Shape of one observation.
        steps: To.
        width: Channels of a token.
    """

    steps: int
    tokens: int

    def __init__(self, shape: tuple[int, ...], steps: int, width: int) -> None:
        super().__init__()
        self.shape, self.width = shape, width

    def fit(self, x: Tensor) -> None:
        """Take from data (N, To, *shape) what is not learned."""

    @abstractmethod
    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Encode; ``generator`` is for what is drawn in training."""


def all_there(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens, and that all of them are there."""
    return tokens, torch.ones(tokens.shape[:-1], dtype=torch.bool, device=tokens.device)
