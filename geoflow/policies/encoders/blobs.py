"""BlobEncoder: where each channel of a picture is bright, mean and covariance: place, size and slant of what it sees.

Cheaper than `ImageEncoder` and, unlike it, sure of where in the picture something is: patches of 4 by 4 pixels instead
of strides, one size of maps, norms over channels instead of groups (on processors these cost more than convolutions
do), and whole pictures: after a random crop nobody knows where in the room something is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoflow.policies.encoders.base import Encoder, all_there
from geoflow.policies.encoders.images import check_picture, scaled

PATCH = 4
CHANNELS = 64
BLOBS = 32
SHARPNESS = 10.0
"""Of the softmax at the beginning: at 1 every channel is bright everywhere, and all means are in the middle."""


class BlobEncoder(Encoder):
    """Pictures (B, To, H, W, C), uint8 or as they are, to one token a picture (B, To, 1, width), all there."""

    def __init__(self, shape: tuple[int, ...], steps: int, width: int) -> None:
        super().__init__(shape, steps, width)
        check_picture(shape)
        self.steps, self.tokens = steps, 1
        self.net = nn.Sequential(
            nn.Conv2d(shape[2], CHANNELS, PATCH, PATCH), nn.ReLU(), _Residual(CHANNELS), _Residual(CHANNELS)
        )
        self.blobs = nn.Conv2d(CHANNELS, BLOBS, 1)
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS))
        self.leave = nn.Sequential(nn.Linear(5 * BLOBS, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Encode; nothing is drawn."""
        batch = x.shape[:2]
        x = x.flatten(0, 1).movedim(-1, 1)
        x = scaled(x, self.blobs.weight)
        maps = self.blobs(self.net(x)).to(self.sharpness.dtype) * self.sharpness
        return all_there(self.leave(moments(maps)).reshape(*batch, 1, -1))


def moments(maps: Tensor) -> Tensor:
    """Means and covariances of place under the softmax of each channel of (N, K, H, W), as (N, 5 K).

    Columns, rows, then the spread of columns, of rows, and what both have in common; places are in [-1, 1].
    """
    rows, columns = (torch.linspace(-1, 1, n, device=maps.device, dtype=maps.dtype) for n in maps.shape[2:])
    p = maps.flatten(2).softmax(-1).unflatten(-1, maps.shape[2:])
    of_columns, of_rows = p.sum(2), p.sum(3)
    x, y = (of_columns * columns).sum(-1), (of_rows * rows).sum(-1)
    dx, dy = columns - x.unsqueeze(-1), rows - y.unsqueeze(-1)
    xx, yy = (of_columns * dx.square()).sum(-1), (of_rows * dy.square()).sum(-1)
    xy = ((p * dx.unsqueeze(2)).sum(-1) * dy).sum(-1)
    return torch.cat([x, y, 4 * xx, 4 * yy, 4 * xy], -1)  # about one in size, as the means are


class _Residual(nn.Module):
    """relu(x + norm(conv(relu(norm(conv(x)))))) (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            _ChannelNorm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            _ChannelNorm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(x + self.body(x))


class _ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of (N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)
