"""ResidualMLP: a chunk as one vector through residual blocks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geoflow.policies.backbones.time import TimeEmbedding


@dataclass(frozen=True)
class Entered:
    """What time and condition add to the first layer, (B, width)."""

    offset: Tensor


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
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(depth)
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, horizon * outputs))

    def ready(self, cond: Tensor, times: Tensor) -> list[Entered]:
        """What `forward` takes in place of ``cond`` (B, C) at each of ``times`` (K,), or (K, 2) for two times."""
        W, tell = self.enter.weight, self.enter.in_features - cond.shape[1]
        of_cond = nn.functional.linear(cond, W[:, tell:], self.enter.bias)
        of_times = nn.functional.linear(self.time(times), W[:, tell - 64 : tell])
        return [Entered(of_cond + row) for row in of_times]

    def forward(self, features: Tensor, t: Tensor, cond: Tensor | Entered) -> Tensor:
        """Predict."""
        features = features.flatten(1)
        if isinstance(cond, Entered):
            W = self.enter.weight[:, : features.shape[1]]
            x = torch.addmm(cond.offset, features, W.t())
        else:
            x = self.enter(torch.cat([features, self.time(t), cond], -1))
        for block in self.blocks:
            x = x + block(x)
        return self.leave(x).unflatten(-1, self._shape)
