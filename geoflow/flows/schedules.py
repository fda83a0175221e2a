"""Clocks kappa(t), from kappa(0) = 0 to kappa(1) = 1: how far along its curve a path is at time t."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Schedule = Callable[[Tensor], tuple[Tensor, Tensor]]
"""t -> (kappa(t), its derivative kappa'(t)), elementwise, such as ``lambda t: (t**3, 3 * t**2)``."""


@dataclass(frozen=True)
class Linear:
    """kappa = t: constant speed."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """kappa and its derivative at t."""
        return t, torch.ones_like(t)


@dataclass(frozen=True)
class Cosine:
    """kappa = sin^2(pi t / 2): starts and stops at rest."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """kappa and its derivative at t."""
        return torch.sin(0.5 * math.pi * t) ** 2, 0.5 * math.pi * torch.sin(math.pi * t)


@dataclass(frozen=True)
class Power:
    """kappa = t^p, p >= 1: late, most of the way is left to the end."""

    p: float

    def __post_init__(self) -> None:
        if not self.p >= 1:
            raise ValueError(
                f"p={self.p}; below 1 the speed p t^(p-1) is infinite at t = 0. For a path that hurries at the "
                "start use Exponential."
            )

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """kappa and its derivative at t."""
        return t**self.p, self.p * t ** (self.p - 1)


@dataclass(frozen=True)
class Exponential:
    """kappa = (1 - e^(-c t)) / (1 - e^(-c)): early for c > 0, late for c < 0.

    Protein models sample rotations with c = 10 although they train them with kappa = t (Yim et al. 2023,
    FrameFlow); as a clock of the path it is the same in both.
    """

    c: float

    def __post_init__(self) -> None:
        if self.c == 0:
            raise ValueError("c=0 is the limit kappa = t: use Linear().")

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """kappa and its derivative at t."""
        whole = math.expm1(-self.c)
        return torch.expm1(-self.c * t) / whole, -self.c * torch.exp(-self.c * t) / whole


def check_schedule(schedule: Schedule) -> None:
    """Raise unless kappa runs from 0 to 1 and comes with its own derivative."""
    name = getattr(schedule, "__name__", repr(schedule))
    example = "Cosine() or lambda t: (t**3, 3 * t**2)"
    if not callable(schedule):
        raise TypeError(f"expected a clock t -> (kappa, kappa'), such as {example}; got {schedule!r}.")
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    both = schedule(t)
    if not isinstance(both, tuple) or len(both) != 2:
        raise TypeError(f"the clock {name} gives {type(both).__name__}; expected (kappa, kappa'): {example}.")
    start, end = both[0][0].item(), both[0][-1].item()
    if not max(abs(start), abs(end - 1)) < 1e-6:
        raise ValueError(
            f"the clock {name} runs from kappa(0) = {start:.6g} to kappa(1) = {end:.6g}; a path begins at its "
            "noise and ends at its data, so it must run from 0 to 1: subtract kappa(0), then divide by "
            "kappa(1) - kappa(0)."
        )
    middle, h = t[1:-1], 1e-5
    slope = (schedule(middle + h)[0] - schedule(middle - h)[0]) / (2 * h)
    if not torch.allclose(both[1][1:-1], slope, rtol=1e-3, atol=1e-3):
        raise ValueError(
            f"the clock {name} gives kappa' = {both[1][5].item():.6g} at t = 0.5, but kappa grows there at "
            f"{slope[4].item():.6g}: samples would not walk the path that was trained. Example: {example}."
        )
