"""How commands go on where a chunk takes over from another: steps and their changes, there and inside chunks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from geoflow.lie import se3
from geoflow.policies.joining import changes

MEASURES = ("step_mm", "step_deg", "change_mm", "change_deg")


@dataclass(frozen=True)
class Jumps:
    """Commands as they follow each other; rows are ticks (of each arm), columns `MEASURES`.

    A step is the motion from the last command to this one. Its change is what separates this command from where
    the last step, made once more, would have led: c_(k-1) (c_(k-2)^-1 c_(k-1)). A smooth motion has small changes,
    however fast it is.

    Attributes:
        border: The first commands of chunks that take over from others, shape (n, 4).
        inside: Commands that come, like the two before them, from one chunk, shape (m, 4).
    """

    border: np.ndarray
    inside: np.ndarray

    @classmethod
    def of(cls, commands: np.ndarray, taken_over: np.ndarray, arms: int = 1) -> Jumps:
        """Of an episode's commands (N, 7 arms + k), and where a chunk took over, (N,) bool."""
        commands = np.asarray(commands)
        hands = [commands[:, 7 * arm : 7 * arm + 7] for arm in range(arms)]
        return cls.together([cls._of_hand(hand, taken_over) for hand in hands])

    @classmethod
    def _of_hand(cls, commands: np.ndarray, taken_over: np.ndarray) -> Jumps:
        pose = torch.from_numpy(commands.astype(np.float64))
        if len(pose) < 3:
            return cls(np.zeros((0, len(MEASURES))), np.zeros((0, len(MEASURES))))
        moved, turned = pose[2:] - pose[1:-1], se3.minus(pose[2:], pose[1:-1])
        step = torch.stack([moved[:, :3].norm(dim=-1), turned[:, 3:].norm(dim=-1)], -1)
        units = torch.tensor([1e3, math.degrees(1)], dtype=pose.dtype)
        rows = torch.cat([units * step, units * changes(pose)], -1).numpy()
        new = np.asarray(taken_over, dtype=bool)
        return cls(rows[new[2:]], rows[~(new[2:] | new[1:-1])])

    @classmethod
    def together(cls, parts: Sequence[Jumps]) -> Jumps:
        """Those of several episodes."""
        return cls(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("border", "inside"))
        )

    def summary(self) -> dict[str, Any]:
        """Count, mean and 95th percentile of each measure, at borders and inside; empty where there is none."""
        return {
            name: {
                "count": len(rows),
                "mean": dict(zip(MEASURES, rows.mean(0).tolist(), strict=True)),
                "p95": dict(zip(MEASURES, np.percentile(rows, 95, axis=0).tolist(), strict=True)),
            }
            for name in ("border", "inside")
            if len(rows := getattr(self, name))
        }
