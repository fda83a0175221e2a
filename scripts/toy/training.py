"""Train a method's network on a set: AdamW, cosine decay, an exponential moving average of the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .nets import StackedMLP
from .sets import ToySet

Loss = Callable[[StackedMLP, Tensor, "Tensor | None", torch.Generator], Tensor]
"""(net, x_1 (B * seeds, point_dim), cond, generator) -> losses."""


@dataclass(frozen=True)
class Budget:
    """What every method may use."""

    steps: int = 2000
    batch: int = 256
    learning_rate: float = 3e-3
    width: int = 128
    depth: int = 3
    average: float = 0.995


@dataclass(frozen=True)
class Data:
    """Training data of every seed: points (n, seeds, point_dim) and modes (n, seeds)."""

    toy: ToySet
    x: Tensor
    mode: Tensor

    @classmethod
    def draw(cls, toy: ToySet, n: int, seeds: int) -> Data:
        """Independent data for each seed."""
        parts = [toy.sample(n, torch.Generator().manual_seed(1000 + s)) for s in range(seeds)]
        return cls(toy, torch.stack([x for x, _ in parts], 1), torch.stack([mode for _, mode in parts], 1))

    @property
    def seeds(self) -> int:
        """How many."""
        return self.x.shape[1]

    def batch(
        self, size: int, generator: torch.Generator, modes: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Points (size * seeds, point_dim) and their conditions, the seed the fastest index; or one-hot modes."""
        rows = torch.randint(len(self.x), (size, self.seeds), generator=generator)
        columns = torch.arange(self.seeds)
        cond = self.toy.condition(self.mode[rows, columns].flatten(), always=modes)
        return self.x[rows, columns].flatten(0, 1), cond


def train(
    net: StackedMLP, loss: Loss, data: Data, budget: Budget, seed: int = 0, *, modes: bool = False
) -> StackedMLP:
    """The averaged network after ``budget.steps`` steps; ``modes`` hands every loss the modes of its data."""
    generator = torch.Generator().manual_seed(seed)
    average = copy.deepcopy(net).requires_grad_(False)
    parameters, averages = list(net.parameters()), list(average.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=budget.learning_rate, weight_decay=1e-4, fused=True)
    for step in range(budget.steps):
        warm, progress = min(1.0, (step + 1) / 50), step / budget.steps
        for group in optimiser.param_groups:
            group["lr"] = (
                budget.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
            )
        x_1, cond = data.batch(budget.batch, generator, modes)
        # Each seed's loss is its own mean; their sum keeps the gradients of one seed what they are alone.
        total = loss(net, x_1, cond, generator).mean() * data.seeds
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        keep = min(budget.average, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, parameter in zip(averages, parameters, strict=True):
                mean.lerp_(parameter, 1 - keep)
    return average
