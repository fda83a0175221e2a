"""InvariantTransformer: attention by where tokens are seen from each other; moving the whole scene changes nothing.

Invariant point attention (Jumper et al. 2021, supplement, algorithm 22) between the poses of a chunk, and from
them to observation tokens that have a pose: queries and keys are points in each token's own frame, attention falls
with the distance between them in space, and what is read comes back in the frame of the reader. Its outputs are
tangents in the body frame of each pose, which a motion of the scene leaves as they are.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from geoflow.policies.backbones.attention import (
    Modulation,
    clean,
    feed_forward,
    head_count,
    merge,
    plain_norm,
    split,
    weights,
)
from geoflow.policies.backbones.condition import Condition
from geoflow.policies.backbones.time import TimeEmbedding

POSE = 9
"""Features of a pose: position and the first two columns of its rotation."""
POINTS = 8
"""Points of a head, as queries and keys and again as values; Jumper et al. have 4 and 8."""


class InvariantTransformer(nn.Module):
    """(B, T, inputs), (B,), Condition of tokens (B, N, cond) with frames -> (B, T, outputs).

    The first nine inputs are a pose: position and the first two columns of its rotation, standardised as `fit`
    was told, so that poses can be had back from them. The poses enter through the attention alone; the other
    inputs, such as a gripper, and the tokens are taken as they are, and must not depend on where the scene is.
    Where ``cond`` has no frames, its tokens are nowhere, and attended to without distances. With ``times=2`` it
    takes times (B, 2), as flow maps do.
    """

    takes_tokens = True
    mean: Tensor
    scale: Tensor

    def __init__(
        self, *, horizon: int, inputs: int, outputs: int, cond: int, width: int, depth: int, times: int = 1
    ) -> None:
        super().__init__()
        if inputs < POSE:
            raise ValueError(
                f"inputs={inputs}; the invariant transformer needs a pose of {POSE} features first."
            )
        heads = head_count(width)
        self.register_buffer("mean", torch.zeros(horizon, POSE))
        self.register_buffer("scale", torch.ones(horizon, POSE))
        self.time = nn.Sequential(
            TimeEmbedding(64, times), nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.enter = nn.Linear(inputs - POSE, width) if inputs > POSE else None
        self.steps = nn.Parameter(0.02 * torch.randn(horizon, width))
        self.observe = nn.Sequential(nn.LayerNorm(cond), nn.Linear(cond, width))
        self.summarise = nn.Linear(width, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm, self.modulation = plain_norm(width), Modulation(width, 2)
        self.leave = nn.Linear(width, outputs)

    @torch.no_grad()
    def fit(self, mean: Tensor, scale: Tensor) -> None:
        """Take over by what features (T, inputs) are standardised; scale and mean give poses back."""
        self.mean.copy_(mean[:, :POSE])
        self.scale.copy_(scale[:, :POSE])

    def prepare(self, cond: Tensor | Condition) -> Condition:
        """The condition with each layer's keys, values and points of its tokens, which no step changes."""
        cond = Condition.of(cond)
        frames = cond.tokens.new_zeros(*cond.mask.shape, POSE) if cond.frames is None else cond.frames
        frames = clean(frames, cond.mask)
        tokens = self.observe(clean(cond.tokens, cond.mask))
        memory = tuple(block.read(tokens, frames) for block in self.blocks)  # pyright: ignore[reportCallIssue]
        return replace(cond, tokens=tokens, frames=frames, memory=memory)

    def forward(self, features: Tensor, t: Tensor, cond: Tensor | Condition) -> Tensor:
        """Predict."""
        cond = Condition.of(cond)
        cond = cond if cond.memory else self.prepare(cond)
        assert cond.frames is not None
        frames = features[..., :POSE] * self.scale + self.mean
        c = self.time(t) + self.summarise(cond.mean())
        x = self.steps.expand(len(features), -1, -1)
        x = x if self.enter is None else x + self.enter(features[..., POSE:])
        mask = torch.cat([cond.mask.new_ones(x.shape[:2]), cond.mask], 1)
        somewhere = torch.cat([mask[:, : x.shape[1]], (cond.frames[..., 3:] != 0).any(-1)], 1)
        for block, memory in zip(self.blocks, cond.memory, strict=True):
            x = block(x, c, frames, memory, mask, somewhere)
        scale, shift = self.modulation(c)
        return self.leave(self.norm(x) * (1 + scale) + shift)


class PointAttention(nn.Module):
    """Tokens (B, T, width) with frames read from themselves and from remembered tokens.

    logit = q k / sqrt(c) - gamma log(1 + mean_p |T_i q_p - T_j k_p|^2), where Jumper et al. (line 7) subtract the
    squares themselves: attention then falls as a power of the distance, and not so fast that an object some
    lengths of a chunk away is out of sight. Tokens that are nowhere have the first term only.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        points = 3 * POINTS * heads
        self.ask = nn.Linear(width, width + points)
        self.remember = nn.Linear(width, 2 * width + 2 * points)
        # softplus of it is 1.
        self.gamma = nn.Parameter(torch.full((heads,), math.log(math.e - 1)))
        self.leave = nn.Linear(width + 4 * POINTS * heads, width)

    def read(self, tokens: Tensor, frames: Tensor) -> tuple[Tensor, ...]:
        """Keys, values (B, h, N, c), key points and value points in space (B, h, N, P, 3)."""
        width = tokens.shape[-1]
        k, v, points = self.remember(tokens).split([width, width, 6 * POINTS * self.heads], -1)
        k_points, v_points = (_into_space(frames, y, self.heads) for y in points.chunk(2, -1))
        return split(k, self.heads), split(v, self.heads), k_points, v_points

    def forward(
        self, x: Tensor, frames: Tensor, memory: tuple[Tensor, ...], mask: Tensor, somewhere: Tensor
    ) -> Tensor:
        """Attend; ``mask`` and ``somewhere`` (B, T + N) say which of own and remembered tokens are there, and posed."""
        k, v, k_points, v_points = (
            torch.cat([own, seen], 2) for own, seen in zip(self.read(x, frames), memory, strict=True)
        )
        q, points = self.ask(x).split([x.shape[-1], 3 * POINTS * self.heads], -1)
        q_points = _into_space(frames, points, self.heads)
        # Squared distances from differences: expanded, they would lose a scene that is far from the origin.
        apart = (q_points[:, :, :, None] - k_points[:, :, None]).square().sum(-1).mean(-1)
        far = (
            nn.functional.softplus(self.gamma)[:, None, None]
            * apart.log1p()
            * somewhere[:, None, None].to(apart)
        )
        q = split(q, self.heads)
        logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 - far
        a = weights(logits, mask)
        # Points read are weighted differences to the reader, so that a token that is nowhere moves nothing.
        posed = (a * somewhere[:, None, None].to(a)).to(v_points.dtype)
        with torch.autocast(x.device.type, enabled=False):
            R, p = axes(frames)
            away = torch.einsum("bhtn,bhnpi->bhtpi", posed, v_points)
            away = away - posed.sum(-1)[..., None, None] * p[:, None, :, None]
            local = torch.einsum("btij,bhtpi->bhtpj", R, away)
            length = (local.square().sum(-1) + 1e-8).sqrt()
        read = [merge(a @ v), merge(local.flatten(-2)), merge(length)]
        return self.leave(torch.cat([read[0], *(y.to(read[0]) for y in read[1:])], -1))


class _Block(nn.Module):
    """Point attention and feed-forward, each x + gate * f(norm(x) (1 + scale) + shift)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.modulation = plain_norm(width), Modulation(width, 6)
        self.attention = PointAttention(width, heads)
        self.feed_forward = feed_forward(width)

    def read(self, tokens: Tensor, frames: Tensor) -> tuple[Tensor, ...]:
        """What `PointAttention.read` makes of observation tokens."""
        return self.attention.read(tokens, frames)

    def forward(
        self,
        x: Tensor,
        c: Tensor,
        frames: Tensor,
        memory: tuple[Tensor, ...],
        mask: Tensor,
        somewhere: Tensor,
    ) -> Tensor:
        scale, shift, gate, scale_2, shift_2, gate_2 = self.modulation(c)
        x = x + gate * self.attention(self.norm(x) * (1 + scale) + shift, frames, memory, mask, somewhere)
        return x + gate_2 * self.feed_forward(self.norm(x) * (1 + scale_2) + shift_2)


def axes(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations (..., 3, 3), by Gram-Schmidt, and positions (..., 3) of frames (..., 9); zeros give zeros."""
    p, a, b = frames.split(3, -1)
    a = nn.functional.normalize(a, dim=-1, eps=1e-8)
    b = nn.functional.normalize(b - (a * b).sum(-1, keepdim=True) * a, dim=-1, eps=1e-8)
    return torch.stack([a, b, torch.linalg.cross(a, b, dim=-1)], -1), p


def _into_space(frames: Tensor, points: Tensor, heads: int) -> Tensor:
    """Points (B, N, h * P * 3) in each token's frame, as points (B, h, N, P, 3) in the frame of the chunk."""
    # In full precision: a chunk is known to a millimetre, bfloat16 to a centimetre.
    with torch.autocast(points.device.type, enabled=False):
        R, p = axes(frames)
        points = split(points.to(frames), heads).unflatten(-1, (-1, 3))
        return torch.einsum("bnij,bhnpj->bhnpi", R, points) + p[:, None, :, None]
