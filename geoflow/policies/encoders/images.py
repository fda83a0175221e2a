"""ImageEncoder: a small ResNet with GroupNorm, and where in the picture each of its channels is bright.

A camera of Diffusion Policy (Chi et al. 2023, section 3.2), at a tenth of its size: group instead of batch norms,
because a moving average of the weights is kept; a spatial softmax (Finn et al. 2016) in place of global pooling;
crops of 76 of 84 pixels, random in training, in the middle otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoflow.policies.encoders.base import Encoder, all_there

KEYPOINTS = 32
CROP = 76 / 84
LEAST = 16
"""Pixels a side that a picture has at least."""


class ImageEncoder(Encoder):
    """Pictures (B, To, H, W, C), uint8 or as they are, to one token a picture (B, To, 1, width), all there."""

    def __init__(self, shape: tuple[int, ...], steps: int, width: int) -> None:
        super().__init__(shape, steps, width)
        check_picture(shape)
        self.steps, self.tokens = steps, 1
        self.size = [round(CROP * side) for side in shape[:2]]
        self.net = nn.Sequential(
            nn.Conv2d(shape[2], 32, 5, 2, 2),
            nn.GroupNorm(8, 32),
            nn.ReLU(),
            _Residual(32, 64),
            _Residual(64, 128),
        )
        self.keypoints = nn.Conv2d(128, KEYPOINTS, 1)
        self.leave = nn.Sequential(nn.Linear(2 * KEYPOINTS, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Encode; ``generator`` places the crops in training."""
        batch = x.shape[:2]
        x = scaled(x, self.keypoints.weight)
        x = self.crop(x.flatten(0, 1).movedim(-1, 1), generator)
        tokens = self.leave(spatial_softmax(self.keypoints(self.net(x)))).reshape(*batch, 1, -1)
        return all_there(tokens)

    def crop(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Pictures (N, C, H, W) cut to 90 % of each side: at random in training, in the middle otherwise."""
        room = [whole - kept + 1 for whole, kept in zip(x.shape[2:], self.size, strict=True)]
        if not self.training:
            top, left = ((n - 1) // 2 for n in room)
            return x[..., top : top + self.size[0], left : left + self.size[1]]
        device = x.device if generator is None else generator.device
        top, left = (
            torch.randint(n, (len(x), 1), generator=generator, device=device).to(x.device) for n in room
        )
        rows = top + torch.arange(self.size[0], device=x.device)
        columns = left + torch.arange(self.size[1], device=x.device)
        each = torch.arange(len(x), device=x.device)[:, None, None]
        return x.movedim(1, -1)[each, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def scaled(x: Tensor, like: Tensor) -> Tensor:
    """Bytes as numbers in [-1, 1] of the dtype of ``like``; other pictures as they are."""
    return x.to(like.dtype) / 127.5 - 1 if x.dtype == torch.uint8 else x


def check_picture(shape: tuple[int, ...]) -> None:
    """Raise ValueError for a shape that no picture has."""
    if len(shape) != 3 or min(shape[:2]) < LEAST or shape[2] > 4:
        raise ValueError(
            f"an image observation has the shape {tuple(shape)}; expected (height, width, channels) with at least "
            f"{LEAST} pixels a side and 1 to 4 channels."
        )


def spatial_softmax(x: Tensor) -> Tensor:
    """Expected positions (N, 2 K), columns then rows in [-1, 1], under the softmax of each channel of (N, K, H, W)."""
    rows, columns = (torch.linspace(-1, 1, n, device=x.device, dtype=x.dtype) for n in x.shape[2:])
    p = x.flatten(2).softmax(-1).unflatten(-1, x.shape[2:])
    return torch.cat([(p.sum(2) * columns).sum(-1), (p.sum(3) * rows).sum(-1)], -1)


class _Residual(nn.Module):
    """relu(skip(x) + norm(conv(relu(norm(conv(x)))))), half the size (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False),
            nn.GroupNorm(8, outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.GroupNorm(8, outputs),
        )
        self.skip = nn.Conv2d(inputs, outputs, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.skip(x) + self.body(x))
