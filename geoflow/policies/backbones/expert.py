"""ActionExpert: observations go through one transformer once, actions through a smaller one that reads it.

After Black et al. 2024 (pi0, arXiv:2410.24164, section IV and appendix B): the tokens of all observations are a
prefix that attends to itself alone; the expert's action tokens attend, layer by layer, to the keys and values of the
prefix and to themselves. So the prefix is the same at every integration step, and is computed once a chunk.

pi0 has three blocks, of which each attends to itself and those before: images and language, in a pretrained 3 B
vision-language model; the robot's state, a block of its own, with the weights of the expert of 300 M; the actions.
Here poses and vectors are in the prefix, beside what is seen and said, and all is trained from scratch: no
pretrained tokens are to be kept from what they do not know. The prefix has `width` channels and the expert half of
it, the proportion of theirs (2048 and 1024).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from geoflow.policies.backbones.attention import attend, clean, head_count, merge, split
from geoflow.policies.backbones.condition import Condition
from geoflow.policies.backbones.time import TimeEmbedding


class ActionExpert(nn.Module):
    """(B, T, inputs), (B,), Condition of tokens (B, N, cond) -> (B, T, outputs).

    ``depth`` layers of ``width`` channels for observations and ``width / 2`` for actions, in the same heads. With
    ``times=2`` it takes times (B, 2), as flow maps do. Tensors are taken for conditions too: `Condition.of`.
    """

    takes_tokens = True

    def __init__(
        self, *, horizon: int, inputs: int, outputs: int, cond: int, width: int, depth: int, times: int = 1
    ) -> None:
        super().__init__()
        heads, narrow = head_count(width), max(width // 2, 1)
        self.observe = nn.Sequential(nn.LayerNorm(cond), nn.Linear(cond, width))
        # Nobody reads what the last layer of the prefix would go on to make of its tokens.
        self.prefix = nn.ModuleList(_Layer(width, heads, ends=i + 1 == depth) for i in range(depth))
        self.time = TimeEmbedding(64, times)
        # pi0, appendix B: W_3 swish(W_2 [W_1 a; phi(t)]) for each action token.
        self.enter = nn.Linear(inputs, narrow)
        self.mix = nn.Sequential(nn.Linear(narrow + 64, narrow), nn.SiLU(), nn.Linear(narrow, narrow))
        self.steps = nn.Parameter(0.02 * torch.randn(horizon, narrow))
        self.expert = nn.ModuleList(_Layer(narrow, heads, ends=False, inner=width) for _ in range(depth))
        self.leave = nn.Sequential(_RMSNorm(narrow), nn.Linear(narrow, outputs))

    def prepare(self, cond: Tensor | Condition) -> Condition:
        """The condition with each layer's keys and values of the prefix, which no step changes."""
        cond = Condition.of(cond)
        x, memory = self.observe(clean(cond.tokens, cond.mask)), []
        for layer in self.prefix:
            q, k, v = layer.project(x)  # pyright: ignore[reportCallIssue]
            memory.append((k, v))
            x = layer(x, q, k, v, cond.mask)
        return replace(cond, memory=tuple(memory))

    def forward(self, features: Tensor, t: Tensor, cond: Tensor | Condition) -> Tensor:
        """Predict."""
        cond = Condition.of(cond)
        cond = cond if cond.memory else self.prepare(cond)
        x = self.enter(features)
        x = self.mix(torch.cat([x, self.time(t)[:, None].expand(-1, x.shape[1], -1)], -1)) + self.steps
        mask = torch.cat([cond.mask, cond.mask.new_ones(x.shape[:2])], 1)
        for layer, (seen_k, seen_v) in zip(self.expert, cond.memory, strict=True):
            q, k, v = layer.project(x)  # pyright: ignore[reportCallIssue]
            x = layer(x, q, torch.cat([seen_k, k], 2), torch.cat([seen_v, v], 2), mask)
        return self.leave(x)


class _RMSNorm(nn.RMSNorm):
    """In the precision of its weights, as autocast does for a layer norm: torch has no fused kernel for two."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


class _Layer(nn.Module):
    """x + attention, x + gated feed-forward, with norms in front; keys and values come from outside.

    A layer that ``ends`` a transformer gives keys and values only, and its forward nothing new.
    """

    def __init__(self, width: int, heads: int, *, ends: bool, inner: int | None = None) -> None:
        super().__init__()
        inner = width if inner is None else inner
        self.heads, self.ends, self.inner = heads, ends, inner
        self.norm = _RMSNorm(width)
        self.enter = nn.Linear(width, (2 if ends else 3) * inner, bias=False)
        if not ends:
            self.leave = nn.Linear(inner, width, bias=False)
            self.feed_forward = _GatedFeedForward(width)

    def project(self, x: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Queries (none where the layer ends), keys and values (B, h, N, c) of tokens (B, N, width)."""
        parts = [split(y, self.heads) for y in self.enter(self.norm(x)).split(self.inner, -1)]
        k, v = parts[0], parts[1]
        return (None if self.ends else parts[2]), k, v

    def forward(self, x: Tensor, q: Tensor | None, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        if q is None:
            return x
        x = x + self.leave(merge(attend(q, k, v, mask)))
        return x + self.feed_forward(x)


class _GatedFeedForward(nn.Module):
    """W_2 (gelu(W_g norm(x)) * W_1 norm(x)), four times as wide inside (Shazeer 2020)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _RMSNorm(width)
        self.enter = nn.Linear(width, 8 * width, bias=False)
        self.leave = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.enter(self.norm(x)).chunk(2, -1)
        return self.leave(nn.functional.gelu(gate, approximate="tanh") * value)
