"""Condition: what a transformer is told of the observations, as tokens, and what it keeps of them between steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """Observation tokens of B observations.

    Attributes:
        tokens: (B, N, C).
        mask: (B, N) bool, True where a token is there. One of a row is, at least.
        frames: (B, N, 9), where a token is: position and the first two columns of its rotation, in the frame and
            unit of the chunk; zeros for a token that is nowhere.
        memory: What a backbone's `prepare` made of the tokens, (B, ...) each: keys and values by layer, which do
            not change while a chunk is sampled.
        modulation: What its `ready` made of a time, by block, where it was told the time of the next evaluation.
    """

    tokens: Tensor
    mask: Tensor
    frames: Tensor | None = None
    memory: tuple[tuple[Tensor, ...], ...] = ()
    modulation: tuple[tuple[Tensor, ...], ...] = ()

    @classmethod
    def of(cls, cond: Tensor | Condition) -> Condition:
        """A condition as it is; vectors (B, C) as one token each, (B, N, C) as tokens that are all there."""
        if isinstance(cond, Condition):
            return cond
        tokens = cond[:, None] if cond.dim() == 2 else cond
        return cls(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))

    def __len__(self) -> int:
        """B."""
        return len(self.tokens)

    def map(self, function: Callable[[Tensor], Tensor]) -> Condition:
        """``function`` of every tensor: indexing, repeating or moving a batch of conditions."""
        frames = None if self.frames is None else function(self.frames)
        memory, modulation = (
            tuple(tuple(function(x) for x in layer) for layer in layers)
            for layers in (self.memory, self.modulation)
        )
        return Condition(function(self.tokens), function(self.mask), frames, memory, modulation)

    def mean(self) -> Tensor:
        """The mean of the tokens that are there, shape (B, C)."""
        there = self.mask.unsqueeze(-1).to(self.tokens)
        # Zeroed by `where`, not by a product: a token that is not there may hold anything, NaN too.
        return torch.where(self.mask.unsqueeze(-1), self.tokens, 0).sum(1) / there.sum(1)
