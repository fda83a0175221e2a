"""DiffusionTransformer: chunk steps as tokens, AdaLN-zero from the time, cross-attention to observation tokens.

The blocks are those of Peebles and Xie 2023 (arXiv:2212.09748, section 3.2) with a cross-attention between
self-attention and feed-forward, as in the transformer of Chi et al. 2023 (arXiv:2303.04137), which reads its
observations so.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from geoflow.policies.backbones.attention import (
    Modulation,
    SelfAttention,
    attend,
    clean,
    feed_forward,
    head_count,
    merge,
    plain_norm,
    split,
)
from geoflow.policies.backbones.condition import Condition
from geoflow.policies.backbones.time import TimeEmbedding


class DiffusionTransformer(nn.Module):
    """(B, T, inputs), (B,), Condition of tokens (B, N, cond) -> (B, T, outputs).

    The modulation sees the time and the mean of the observation tokens; ``depth`` blocks of ``width`` channels
    in heads of 64. With ``times=2`` it takes times (B, 2), as flow maps do. Tensors are taken for conditions
    too: `Condition.of`.
    """

    takes_tokens = True

    def __init__(
        self, *, horizon: int, inputs: int, outputs: int, cond: int, width: int, depth: int, times: int = 1
    ) -> None:
        super().__init__()
        heads = head_count(width)
        self.time = nn.Sequential(
            TimeEmbedding(64, times), nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.enter = nn.Linear(inputs, width)
        self.steps = nn.Parameter(0.02 * torch.randn(horizon, width))
        self.observe = nn.Sequential(nn.LayerNorm(cond), nn.Linear(cond, width))
        self.summarise = nn.Linear(width, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm, self.modulation = plain_norm(width), Modulation(width, 2)
        self.leave = nn.Linear(width, outputs)

    def prepare(self, cond: Tensor | Condition) -> Condition:
        """The condition with each layer's keys and values of its tokens, which no step changes."""
        cond = Condition.of(cond)
        tokens = self.observe(clean(cond.tokens, cond.mask))
        memory = tuple(block.read(tokens) for block in self.blocks)  # pyright: ignore[reportCallIssue]
        return replace(cond, tokens=tokens, memory=memory)

    def ready(self, cond: Tensor | Condition, times: Tensor) -> list[Condition]:
        """What `forward` takes in place of ``cond`` at each of ``times`` (K,), or (K, 2): modulated once for all.

        The modulation has two fifths of the weights that an evaluation reads, and depends on time and condition
        alone.
        """
        cond = Condition.of(cond)
        cond = cond if cond.memory else self.prepare(cond)
        told = self.summarise(cond.mean())
        c = (self.time(times).unsqueeze(1) + told).flatten(0, 1)
        layers = [
            [part.unflatten(0, (len(times), len(told))).unbind() for part in parts]
            for parts in self._modulations(c)
        ]
        return [
            replace(cond, modulation=tuple(tuple(part[k] for part in parts) for parts in layers))
            for k in range(len(times))
        ]

    def _modulations(self, c: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        """Those of each block, then of the last layer, for vectors c (B, width)."""
        layers = [block.modulation for block in self.blocks] + [self.modulation]
        return tuple(layer(c) for layer in layers)  # pyright: ignore[reportCallIssue]

    def forward(self, features: Tensor, t: Tensor, cond: Tensor | Condition) -> Tensor:
        """Predict."""
        cond = Condition.of(cond)
        cond = cond if cond.memory else self.prepare(cond)
        modulation = cond.modulation or self._modulations(self.time(t) + self.summarise(cond.mean()))
        x = self.enter(features) + self.steps
        for block, memory, parts in zip(self.blocks, cond.memory, modulation[:-1], strict=True):
            x = block(x, parts, memory, cond.mask)
        scale, shift = modulation[-1]
        return self.leave(self.norm(x) * (1 + scale) + shift)


class _Block(nn.Module):
    """Self-attention, cross-attention and feed-forward, each x + gate * f(norm(x) (1 + scale) + shift)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.modulation = plain_norm(width), Modulation(width, 9)
        self.own = SelfAttention(width, heads)
        self.ask, self.answer = nn.Linear(width, width), nn.Linear(width, width)
        self.remember = nn.Linear(width, 2 * width)
        self.feed_forward = feed_forward(width)

    def read(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, h, N, c) of observation tokens (B, N, width)."""
        k, v = (split(y, self.heads) for y in self.remember(tokens).chunk(2, -1))
        return k, v

    def forward(
        self, x: Tensor, modulation: tuple[Tensor, ...], memory: tuple[Tensor, ...], mask: Tensor
    ) -> Tensor:
        def look(y: Tensor) -> Tensor:
            return self.answer(merge(attend(split(self.ask(y), self.heads), memory[0], memory[1], mask)))

        for i, branch in enumerate((self.own, look, self.feed_forward)):
            scale, shift, gate = modulation[3 * i : 3 * i + 3]
            x = x + gate * branch(self.norm(x) * (1 + scale) + shift)
        return x
