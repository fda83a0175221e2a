"""FiLMUNet: a 1-D U-Net over chunk steps, modulated by time and condition (Janner et al. 2022; Chi et al. 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoflow.policies.backbones.time import TimeEmbedding

GROUPS = 8


class FiLMUNet(nn.Module):
    """(B, T, inputs), (B,), (B, cond) -> (B, T, outputs); T divisible by 4.

    Three levels of ``width / 2, width, width`` channels with ``depth // 2`` residual blocks each (at least one).
    With ``times=2`` it takes times (B, 2), as flow maps do.
    """

    def __init__(
        self, *, horizon: int, inputs: int, outputs: int, cond: int, width: int, depth: int, times: int = 1
    ) -> None:
        super().__init__()
        if horizon % 4:
            raise ValueError(f"policy.horizon={horizon}; the U-Net halves it twice: give a multiple of 4.")
        if width % (2 * GROUPS):
            raise ValueError(
                f"policy.width={width}; half of it is divided into {GROUPS} groups: give a multiple of {2 * GROUPS}."
            )
        self.time = TimeEmbedding(64, times)
        cond, blocks = cond + 64, max(depth // 2, 1)
        a, b = width // 2, width
        self.enter = nn.Conv1d(inputs, a, 3, padding=1)
        self.down = nn.ModuleList([_stack(a, a, cond, blocks), _stack(b, b, cond, blocks)])
        self.shrink = nn.ModuleList([nn.Conv1d(a, b, 3, 2, 1), nn.Conv1d(b, b, 3, 2, 1)])
        self.middle = _stack(b, b, cond, blocks)
        self.grow = nn.ModuleList([nn.ConvTranspose1d(b, b, 4, 2, 1), nn.ConvTranspose1d(b, a, 4, 2, 1)])
        self.up = nn.ModuleList([_stack(2 * b, b, cond, blocks), _stack(2 * a, a, cond, blocks)])
        self.leave = nn.Sequential(nn.GroupNorm(GROUPS, a), nn.SiLU(), nn.Conv1d(a, outputs, 1))

    def forward(self, features: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Predict."""
        cond = torch.cat([self.time(t), cond], -1)
        x, skips = self.enter(features.transpose(1, 2)), []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            x = _run(blocks, x, cond)
            skips.append(x)
            x = shrink(x)
        x = _run(self.middle, x, cond)
        for grow, blocks in zip(self.grow, self.up, strict=True):
            x = _run(blocks, torch.cat([grow(x), skips.pop()], 1), cond)
        return self.leave(x).transpose(1, 2)


class _FiLMBlock(nn.Module):
    """x + conv(silu(film(conv(x))))."""

    def __init__(self, inputs: int, outputs: int, cond: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(GROUPS, inputs), nn.SiLU(), nn.Conv1d(inputs, outputs, 3, padding=1)
        )
        self.film = nn.Linear(cond, 2 * outputs)
        self.second = nn.Sequential(
            nn.GroupNorm(GROUPS, outputs), nn.SiLU(), nn.Conv1d(outputs, outputs, 3, padding=1)
        )
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        scale, shift = self.film(cond)[..., None].chunk(2, 1)
        return self.skip(x) + self.second(self.first(x) * (1 + scale) + shift)


def _stack(inputs: int, outputs: int, cond: int, blocks: int) -> nn.ModuleList:
    return nn.ModuleList(_FiLMBlock(inputs if i == 0 else outputs, outputs, cond) for i in range(blocks))


def _run(blocks: nn.Module, x: Tensor, cond: Tensor) -> Tensor:
    assert isinstance(blocks, nn.ModuleList)
    for block in blocks:
        x = block(x, cond)
    return x
