"""softmax(Q K^T / sqrt(c)) V in h heads, and the parts that every transformer here is made of.

Written out, because PyTorch's fused attention has no forward-mode derivative, which flow maps train through.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

HEAD = 64
"""Channels of a head."""


def head_count(width: int) -> int:
    """Heads of a transformer of ``width`` channels.

    Raises:
        ValueError: the width does not divide into heads.
    """
    if width % HEAD and width > HEAD:
        raise ValueError(
            f"policy.width={width}; a transformer has heads of {HEAD} channels: give a multiple."
        )
    return max(width // HEAD, 1)


def split(x: Tensor, heads: int) -> Tensor:
    """(B, N, heads * c) -> (B, heads, N, c)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge(x: Tensor) -> Tensor:
    """(B, heads, N, c) -> (B, N, heads * c)."""
    return x.transpose(1, 2).flatten(2)


def weights(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of each query (B, h, T, N) over the keys that are there, mask (B, N)."""
    if mask is not None:
        logits = logits.masked_fill(~mask[:, None, None], float("-inf"))
    return logits.softmax(-1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """What queries (B, h, T, c) read from keys and values (B, h, N, c), shape (B, h, T, c).

    Values that are masked must be finite.
    """
    return weights(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, mask) @ v


def clean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Tokens with those that are not there set to zero, whatever they held."""
    return torch.where(mask.unsqueeze(-1), tokens, 0)


class SelfAttention(nn.Module):
    """Every token (B, N, width) reads from every token."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.enter, self.leave = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend."""
        q, k, v = (split(y, self.heads) for y in self.enter(x).chunk(3, -1))
        return self.leave(merge(attend(q, k, v, mask)))


class Modulation(nn.Module):
    """AdaLN-zero: ``count`` scales, shifts and gates (B, 1, width), linear in silu(c) and zero at first.

    A branch of a block is x + gate * f(norm(x) (1 + scale) + shift); Peebles and Xie 2023, section 3.2.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.layer = nn.Linear(width, count * width)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, c: Tensor) -> tuple[Tensor, ...]:
        """For a vector c (B, width)."""
        return self.layer(nn.functional.silu(c)).unsqueeze(1).chunk(self.count, -1)


def plain_norm(width: int) -> nn.LayerNorm:
    """A norm without scale and shift of its own: `Modulation` gives them."""
    return nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)


def feed_forward(width: int) -> nn.Sequential:
    """Two layers, four times as wide inside."""
    return nn.Sequential(
        nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
    )
