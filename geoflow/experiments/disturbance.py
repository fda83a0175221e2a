"""Disturbances: executed = action * Exp(xi_t), with xi_t in smooth bursts between undisturbed stretches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from geoflow.lie import se3

DISTANCE = 0.03
"""Largest displacement of a burst [m]."""
ANGLE = np.deg2rad(20)
"""Largest rotation of a burst [rad]."""
RAMP = 4
"""Steps in which a burst rises. It ends at once, so that a recovery begins far off."""
BURST = (5, 9)
"""Shortest and longest burst, in steps."""
REST = 20
"""Fewest undisturbed steps between two bursts: a chunk of 16 and the time to recover begin there."""
MOST = sum(BURST) / 2 / (sum(BURST) / 2 + REST)
"""The largest share of time that can be disturbed."""


class Disturbance:
    """A twist for every step of an episode, zero outside of bursts.

    Within a burst the twist rises to its size along a raised cosine and then stops at once; its direction is
    uniform and constant, its size uniform up to 3 cm and 20 degrees. Bursts begin at random times, such that the
    share of disturbed steps is ``share`` in the mean of long episodes.

    Args:
        share: Share of disturbed steps, 0 to `MOST`.
        rng: Where the randomness comes from.

    Raises:
        ValueError: a share out of range.
    """

    def __init__(self, share: float, rng: np.random.Generator) -> None:
        if not 0 <= share <= MOST:
            raise ValueError(
                f"disturbance={share}; it is the share of disturbed steps, between 0 and {MOST:.2f} "
                f"(bursts of {BURST[0]} to {BURST[1]} steps, at least {REST} undisturbed steps between them)."
            )
        self._twists = _bursts(share, rng)

    def apply(self, action: np.ndarray) -> tuple[np.ndarray, bool]:
        """What is executed at the next step instead of ``action`` (7 + k,), and whether it differs."""
        xi = next(self._twists)
        if not xi.any():
            return action, False
        pose = torch.from_numpy(action[:7].astype(np.float64))
        executed = se3.compose(pose, se3.exp(torch.from_numpy(xi)))
        return np.concatenate([executed.numpy(), action[7:]]).astype(action.dtype), True


def _bursts(share: float, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Endlessly, one twist (6,) a step."""
    none = np.zeros(6)
    if share == 0:
        while True:
            yield none
    rest = sum(BURST) / 2 * (1 - share) / share  # mean length of an undisturbed stretch
    length = rng.uniform(0, rest)  # the first one is met at a random time of it
    while True:
        for _ in range(int(length)):
            yield none
        steps = int(rng.integers(BURST[0], BURST[1] + 1))
        peak = np.concatenate([DISTANCE * _direction(rng), ANGLE * _direction(rng)])
        for t in range(steps):
            yield peak * (0.5 - 0.5 * np.cos(np.pi * min((t + 1) / RAMP, 1.0)))
        length = REST + rng.exponential(max(rest - REST, 0.0))


def _direction(rng: np.random.Generator) -> np.ndarray:
    """A uniform direction times a uniform size up to 1, shape (3,)."""
    x = rng.normal(size=3)
    return rng.uniform() * x / np.linalg.norm(x)
