"""ResidualMLP: a chunk as one vector through residual blocks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from geoflow.policies.backbones.time import TimeEmbedding


@dataclass(frozen=True)
class Entered:
    """The first layer W x + b of what changes from step to step: W (width, T inputs), and b (B, width) of the rest."""

    W: Tensor
    b: Tensor


class Residual(nn.Sequential):
    """x + W_2 silu(W_1 norm(x))."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, input: Tensor) -> Tensor:
        """The norm and the loop without calls of modules, which at batch 1 take longer than their arithmetic."""
        norm, inner, _, outer = self
        assert isinstance(norm, nn.LayerNorm)
        h = torch.layer_norm(input, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        return input + outer(silu(inner(h)))


class ResidualMLP(nn.Module):
    """(B, T, inputs), (B,), (B, cond) -> (B, T, outputs).

    Chunk, time and condition enter the first layer together; each block is x + W_2 silu(W_1 norm(x)). With
    ``times=2`` it takes times (B, 2), as flow maps do.
    """

    def __init__(
        self, *, horizon: int, inputs: int, outputs: int, cond: int, width: int, depth: int, times: int = 1
    ) -> None:
        super().__init__()
        self._shape = (horizon, outputs)
        self.time = TimeEmbedding(64, times)
        self.enter = nn.Linear(horizon * inputs + 64 + cond, width)
        self.blocks = nn.ModuleList(Residual(width) for _ in range(depth))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, horizon * outputs))

    def ready(self, cond: Tensor, times: Tensor) -> list[Entered]:
        """What `forward` takes in place of ``cond`` (B, C) at each of ``times`` (K,), or (K, 2) for two times."""
        W, tell = self.enter.weight, self.enter.in_features - cond.shape[1]
        of_chunk = W[:, : tell - 64].contiguous()  # read once a step, in one piece
        of_cond = linear(cond, W[:, tell:], self.enter.bias)
        of_times = linear(self.time(times), W[:, tell - 64 : tell])
        return [Entered(of_chunk, of_cond + row) for row in of_times]

    def forward(self, features: Tensor, t: Tensor, cond: Tensor | Entered) -> Tensor:
        """Predict."""
        features = features.flatten(1)
        if isinstance(cond, Entered):
            x = torch.addmm(cond.b, features, cond.W.t())
        else:
            x = self.enter(torch.cat([features, self.time(t), cond], -1))
        for block in self.blocks:
            x = block(x)
        return self.leave(x).unflatten(-1, self._shape)
