"""The times that an integrator steps through, 0 = t_0 < t_1 < ... < t_n = 1."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

Steps = int | Sequence[float] | Tensor
"""A number of equal steps, or the times themselves."""


def dense_jump(steps: int, jump: float = 0.5) -> list[float]:
    """``steps - 1`` equal steps from 0 to ``jump``, then a single one to 1.

    Late velocities decide little and are learned worst; policies are often best when few steps are spent there
    ("Dense-Jump Flow Matching", 2025).
    """
    if steps < 2 or not 0 < jump < 1:
        raise ValueError(f"steps={steps}, jump={jump}; expected at least 2 steps and a jump between 0 and 1.")
    return [jump * i / (steps - 1) for i in range(steps)] + [1.0]


def intervals(steps: Steps) -> list[tuple[float, float]]:
    """(t, dt) of every step.

    Raises:
        ValueError: fewer than one step, or times that do not increase from 0 to 1.
    """
    if isinstance(steps, int):
        if steps < 1:
            raise ValueError(f"steps={steps}; integrating from noise to data needs at least 1 step.")
        return [(i / steps, 1 / steps) for i in range(steps)]
    times = torch.as_tensor(steps, dtype=torch.float64).reshape(-1).tolist()
    increasing = all(a < b for a, b in pairwise(times))
    if len(times) < 2 or times[0] != 0 or times[-1] != 1 or not increasing:
        raise ValueError(
            f"expected a grid of times that increases from 0 to 1, such as [0, 0.2, 0.5, 1]; got "
            f"{[round(t, 6) for t in times]}. For equal steps give their number."
        )
    return [(a, b - a) for a, b in pairwise(times)]
