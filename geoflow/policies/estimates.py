"""Estimator: poses that demonstrations have and observations lack, read from these: positions, axes, axes up to sign.

A pose is told as y = (p, a_i, a_i a_i^T): its position, the columns of R, and their outer products. Each part of y is
a tensor, so that y follows when the frame is changed; and what a camera cannot see of a body that looks the same
after half turns, the signs of its axes, is in the columns alone. There the mean square error leaves the network at
the mean, and the outer products keep the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from geoflow.lie import so3
from geoflow.policies.encoders import VectorEncoder

NUMBERS = 3 + 9 + 27
"""Of one pose."""
PARTS = (slice(0, 3), slice(3, 12), slice(12, 39))
"""Position, axes, outer products, each with one unit: along an axis where nothing moves, no more need be known."""
SCALES = (0.1, 0.02)
"""Scales [m] of the saturating distances between two estimated positions."""


class Estimator(nn.Module):
    """What a policy makes of its observations (B, inputs) -> poses, as (B, 2, P, 39), and what it is told of them.

    Each is estimated twice: in the world, where what stands still is the same at every step of an episode, and in
    the frame of the chunks, where what is held is. Both are told to the network in the latter, together with how far
    apart two bodies are: change of frame is exact, and need not be learned. They are learned from their own error
    alone; no other gradient goes through them.

    Args:
        inputs: Numbers that are known of the observations.
        names: Of the poses.
        width: Numbers that the network is told.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, inputs: int, names: Sequence[str], width: int) -> None:
        super().__init__()
        self.names = tuple(names)
        shape = (2, len(self.names), NUMBERS)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))
        self.frame = VectorEncoder(12, width)
        self.layers = nn.Sequential(
            nn.Linear(inputs + width, 2 * width),
            nn.SiLU(),
            nn.Linear(2 * width, 2 * width),
            nn.SiLU(),
            nn.Linear(2 * width, self.mean.numel()),
        )
        self.tell = VectorEncoder(self._told(torch.zeros(1, *shape), torch.eye(4)[None, :3]).shape[1], width)

    def fit(self, obs: Mapping[str, Tensor], T_wr: Tensor) -> None:
        """Take means and spreads from observations (N, To, 7) and frames (N, 7)."""
        true = self.true(obs, T_wr)
        self.mean.copy_(true.mean(0))
        for part in PARTS:
            spread = true[..., part].var(0).mean(-1, keepdim=True).sqrt()
            self.scale[..., part] = spread.clamp(min=1e-3)
        frame = _matrix(T_wr)
        self.frame.fit(frame.flatten(1))
        self.tell.fit(self._told(true, frame))

    def forward(self, known: Tensor, T_wr: Tensor) -> tuple[Tensor, Tensor]:
        """Estimates (B, 2, P, 39), and what the network is told of them, (B, width); T_wr (B, 7)."""
        frame = _matrix(T_wr).expand(len(known), -1, -1)
        z = self.layers(torch.cat([known, self.frame(frame.flatten(1))], -1))
        # In full precision from here: half of it leaves no millimetres of a metre.
        y = z.float().unflatten(-1, self.mean.shape) * self.scale + self.mean
        return y, self.tell(self._told(y.detach(), frame))

    def loss(self, y: Tensor, obs: Mapping[str, Tensor], T_wr: Tensor) -> Tensor:
        """Mean square error (B,) of each part, in units of its spread in the demonstrations, and the mean of these."""
        squares = ((y - self.true(obs, T_wr)) / self.scale).square()
        return torch.stack([squares[..., part].flatten(1).mean(1) for part in PARTS]).mean(0)

    def true(self, obs: Mapping[str, Tensor], T_wr: Tensor) -> Tensor:
        """What was to be estimated, (B, 2, P, 39), from recorded poses (B, To, 7)."""
        T = torch.stack([obs[name][:, -1] for name in self.names], 1)
        y = _numbers(T)
        return torch.stack([y, _seen_from(_matrix(T_wr), y)], 1)

    @staticmethod
    def _told(y: Tensor, frame: Tensor) -> Tensor:
        """All of it in the frame T_wr (B, 3, 4) of chunks, and tanh(distance / s) of every two bodies."""
        local = torch.stack([_seen_from(frame, y[:, 0]), y[:, 1]], 1)
        p = local[..., :3]
        i, j = torch.triu_indices(p.shape[2], p.shape[2], 1, device=p.device)
        apart = (p[:, :, i] - p[:, :, j]).flatten(1)
        return torch.cat([local.flatten(1), *(torch.tanh(apart / s) for s in SCALES)], -1)


def _matrix(T: Tensor) -> Tensor:
    """Rotation and position (..., 3, 4) of poses (..., 7)."""
    return torch.cat([so3.to_matrix(T[..., 3:7]), T[..., :3, None]], -1)


def _numbers(T: Tensor) -> Tensor:
    """(p, a_i, a_i a_i^T) of poses (..., 7), side by side, (..., 39)."""
    axes = so3.to_matrix(T[..., 3:7]).mT
    return torch.cat(
        [T[..., :3], axes.flatten(-2), (axes[..., :, None] * axes[..., None, :]).flatten(-3)], -1
    )


def _seen_from(frame: Tensor, y: Tensor) -> Tensor:
    """Numbers (B, P, 39) of the world, in the frames T_wr (B, 3, 4)."""
    R, p = frame[:, None, :, :3], frame[:, None, :, 3]
    position = _turned(y[..., :3] - p, R)
    axes = _turned(y[..., 3:12].unflatten(-1, (3, 3)), R.unsqueeze(2))
    outer = y[..., 12:].unflatten(-1, (3, 3, 3))
    outer = _turned(_turned(outer, R[:, :, None, None]).mT, R[:, :, None, None])
    return torch.cat([position, axes.flatten(-2), outer.flatten(-3)], -1)


def _turned(v: Tensor, R: Tensor) -> Tensor:
    """R^T v over the last axis; not as a matrix product, which mixed precision would round."""
    return (R * v.unsqueeze(-1)).sum(-2)
