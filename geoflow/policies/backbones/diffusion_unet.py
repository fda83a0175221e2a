"""DiffusionUNet: the network of Diffusion Policy in its sizes (Chi et al. 2023, arXiv:2303.04137).

Where each figure comes from; "notebook" is the authors' demonstration on PushT (diffusion_policy_vision_pusht_demo),
whose network of 2 inputs and 1028 conditions prints 7.994727e+07 parameters, as many as this one has:

channels 256, 512, 1024    down_dims of the notebook; width / 2, width, 2 width at the default width 512
kernel 5, 8 groups         the notebook's kernel_size, n_groups; diffusion_policy's state configurations too
2 blocks a level           the notebook's; depth / 2 at the default depth 4
scale and shift            FiLM with both, cond_predict_scale, always on in the notebook
time in 256 numbers        the notebook's diffusion_step_embed_dim; two layers, four times as wide inside
Mish, norm after conv      the notebook's Conv1dBlock
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoflow.policies.backbones.time import TimeEmbedding

KERNEL, GROUPS, TIME = 5, 8, 256


class DiffusionUNet(nn.Module):
    """(B, T, inputs), (B,), (B, cond) -> (B, T, outputs); T divisible by 4.

    Three levels of ``width / 2, width, 2 width`` channels with ``depth // 2`` residual blocks each (at least one).
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
        self.time = nn.Sequential(
            TimeEmbedding(TIME, times), nn.Linear(TIME, 4 * TIME), nn.Mish(), nn.Linear(4 * TIME, TIME)
        )
        blocks, seen = max(depth // 2, 1), TIME + cond
        a, b, c = width // 2, width, 2 * width
        stack = lambda inputs, outputs: _Stack(inputs, outputs, seen, blocks)  # noqa: E731
        self.down = nn.ModuleList([stack(inputs, a), stack(a, b), stack(b, c)])
        self.shrink = nn.ModuleList([nn.Conv1d(n, n, 3, 2, 1) for n in (a, b)])
        self.middle = _Stack(c, c, seen, 2)
        self.up = nn.ModuleList([stack(2 * c, b), stack(2 * b, a)])
        self.grow = nn.ModuleList([nn.ConvTranspose1d(n, n, 4, 2, 1) for n in (b, a)])
        self.leave = nn.Sequential(_block(a, a), nn.Conv1d(a, outputs, 1))

    def forward(self, features: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Predict."""
        cond = torch.cat([self.time(t), cond], -1)
        x, skips = features.transpose(1, 2), []
        for i, blocks in enumerate(self.down):
            x = blocks(x, cond)
            skips.append(x)
            x = self.shrink[i](x) if i < len(self.shrink) else x
        x = self.middle(x, cond)
        for blocks, grow in zip(self.up, self.grow, strict=True):
            x = grow(blocks(torch.cat([x, skips.pop()], 1), cond))
        return self.leave(x).transpose(1, 2)


class _Stack(nn.Module):
    """Residual blocks, the first of which changes the channels."""

    def __init__(self, inputs: int, outputs: int, cond: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _Residual(inputs if i == 0 else outputs, outputs, cond) for i in range(blocks)
        )

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, cond)
        return x


class _Residual(nn.Module):
    """skip(x) + block(scale * block(x) + shift), scale and shift linear in mish(cond)."""

    def __init__(self, inputs: int, outputs: int, cond: int) -> None:
        super().__init__()
        self.first, self.second = _block(inputs, outputs), _block(outputs, outputs)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(cond, 2 * outputs))
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        scale, shift = self.film(cond)[..., None].chunk(2, 1)
        return self.skip(x) + self.second(self.first(x) * scale + shift)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv1d(inputs, outputs, KERNEL, padding=KERNEL // 2)
    return nn.Sequential(convolution, nn.GroupNorm(GROUPS, outputs), nn.Mish())
