"""One small network for every method: a residual MLP of features, time(s) and tag; several seeds train as one.

Batch element i belongs to seed i % seeds, in every tensor that a loss makes of it: features (B * seeds, ...).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class StackedMLP(nn.Module):
    """``seeds`` independent networks (B * seeds, inputs), t (B * seeds,) or (B * seeds, times) -> outputs.

    Times enter by cosines and sines of low frequencies, k/4 turns for k = 1 ... 8. Layers are
    x + silu(W x + b); the last one begins at zero.
    """

    frequencies: Tensor

    def __init__(
        self,
        *,
        seeds: int,
        inputs: int,
        outputs: int,
        times: int = 1,
        tags: int = 0,
        width: int = 128,
        depth: int = 3,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.seeds, self.tags = seeds, tags
        enter = inputs + 16 * times + tags
        sizes = [(enter, width), *[(width, width)] * depth, (width, outputs)]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(seeds, a, b, generator=generator) / math.sqrt(a)) for a, b in sizes
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(seeds, 1, b)) for _, b in sizes)
        nn.init.zeros_(self.weights[-1])
        frequencies = 0.5 * math.pi * torch.arange(1, 9)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, features: Tensor, t: Tensor, cond: Any = None) -> Tensor:
        """Predict (B * seeds, outputs)."""
        t = t.reshape(len(t), -1, 1).to(features)
        angle = t * self.frequencies
        parts = [features, angle.cos().flatten(1), angle.sin().flatten(1)]
        if self.tags:
            parts.append(cond)
        x = torch.cat(parts, -1)
        x = x.unflatten(0, (-1, self.seeds)).transpose(0, 1)
        last = len(self.weights) - 1
        for i, (W, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            y = torch.baddbmm(b, x, W)
            x = y if i == last else nn.functional.silu(y) + (x if i else 0)
        return x.transpose(0, 1).flatten(0, 1)

    @torch.no_grad()
    def begin_as(self, other: StackedMLP) -> None:
        """Take over the weights of ``other``; inputs of a second time, where only this one has it, weigh nothing."""
        for mine, theirs in zip(
            [*self.weights[1:], *self.biases], [*other.weights[1:], *other.biases], strict=True
        ):
            mine.copy_(theirs)
        n, known = len(self.frequencies), other.weights[0]
        features = known.shape[1] - 2 * n - other.tags
        shared = [*range(features + n)]  # features, cosines of t
        enter = self.weights[0]
        times = (enter.shape[1] - features - self.tags) // (2 * n)
        shared += range(features + times * n, features + (times + 1) * n)  # sines of t
        shared += range(enter.shape[1] - self.tags, enter.shape[1])
        enter.zero_()
        enter[:, shared] = known

    def seed(self, index: int) -> StackedMLP:
        """The network of one seed, a copy."""
        one = StackedMLP.__new__(StackedMLP)
        nn.Module.__init__(one)
        one.seeds, one.tags = 1, self.tags
        one.weights = nn.ParameterList(
            nn.Parameter(W[index : index + 1].detach().clone()) for W in self.weights
        )
        one.biases = nn.ParameterList(
            nn.Parameter(b[index : index + 1].detach().clone()) for b in self.biases
        )
        one.register_buffer("frequencies", self.frequencies, persistent=False)
        return one.requires_grad_(False)
