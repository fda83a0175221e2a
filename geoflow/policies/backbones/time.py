"""gamma(t) = (cos 2 pi f_i t, sin 2 pi f_i t): the embedding of a time in [0, 1], or of two."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class TimeEmbedding(nn.Module):
    """(B,) -> (B, dim), frequencies f_i geometric from 1/4 to 64; or (B, 2) -> (B, dim) of t and of r - t.

    Networks of two times (flow maps) are trained through their own derivative in t. A frequency f enters it
    multiplied by 2 pi f, up to 400 here, and the target would be noise (Lu and Song 2024, section 4.1, find the
    same): two times have frequencies from 1/8 to 2, enough to tell times apart that matter to an average. The
    second is embedded as the length of the jump, which MeanFlow found best (Geng et al. 2025, table 1c).

    Args:
        dim: Numbers in all; a multiple of 2 times ``times``.
        times: 1 or 2.
    """

    frequencies: Tensor

    def __init__(self, dim: int, times: int = 1) -> None:
        super().__init__()
        if times not in (1, 2):
            raise ValueError(f"times={times}; a flow has 1 time, a flow map 2.")
        self.times = times
        low, high = (-2, 6) if times == 1 else (-3, 1)
        frequencies = 2 * math.pi * torch.logspace(low, high, dim // (2 * times), base=2.0)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """Embed times."""
        if t.shape[1:] != (() if self.times == 1 else (2,)):
            expected, got = ("(B,)", "(B, 2)")[self.times - 1], tuple(t.shape)
            raise ValueError(
                f"expected times of shape {expected}; got {got}. Flow maps need times=2, flows 1."
            )
        spans = t[:, None] if self.times == 1 else torch.stack([t[:, 0], t[:, 1] - t[:, 0]], -1)
        angle = (spans[..., None] * self.frequencies).flatten(1)
        return torch.cat([angle.cos(), angle.sin()], -1)
