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
    uniform and constant, its size uniform up to 3 cm and 20 degrees. Several arms are pushed at the same time, each
    in a direction of its own. Bursts begin at random times, such that the
    share of disturbed steps is ``share`` in the mean of long episodes.

    Args:
        share: Share of disturbed steps, 0 to `MOST`.
        rng: Where the randomness comes from.
        arms: Poses in an action.

    Raises:
        ValueError: a share out of range.
    """

    def __init__(self, share: float, rng: np.random.Generator, arms: int = 1) -> None:
        if not 0 <= share <= MOST:
            raise ValueError(
                f"disturbance={share}; it is the share of disturbed steps, between 0 and {MOST:.2f} "
                f"(bursts of {BURST[0]} to {BURST[1]} steps, at least {REST} undisturbed steps between them)."
            )
        self._twists = _bursts(share, rng, arms)

    def apply(self, action: np.ndarray) -> tuple[np.ndarray, bool]:
        """What is executed at the next step instead of ``action`` (7 n + k,), and whether it differs."""
        xi = next(self._twists)
        if not xi.any():
            return action, False
        poses, extras = np.split(action, [7 * len(xi)])
        moved = se3.compose(
            torch.from_numpy(poses.reshape(-1, 7).astype(np.float64)), se3.exp(torch.from_numpy(xi))
        )
        return np.concatenate([moved.numpy().ravel(), extras]).astype(action.dtype), True


def _bursts(share: float, rng: np.random.Generator, arms: int) -> Iterator[np.ndarray]:
    """Endlessly, a twist for each arm (arms, 6) a step."""
    none = np.zeros((arms, 6))
    if share == 0:
        while True:
            yield none
    rest = sum(BURST) / 2 * (1 - share) / share  # mean length of an undisturbed stretch
    length = rng.uniform(0, rest)  # the first one is met at a random time of it
    while True:
        for _ in range(int(length)):
            yield none
        steps = int(rng.integers(BURST[0], BURST[1] + 1))
        pushes = [np.concatenate([DISTANCE * _direction(rng), ANGLE * _direction(rng)]) for _ in range(arms)]
        peak = np.stack(pushes)
        for t in range(steps):
            yield peak * (0.5 - 0.5 * np.cos(np.pi * min((t + 1) / RAMP, 1.0)))
        length = REST + rng.exponential(max(rest - REST, 0.0))


def _direction(rng: np.random.Generator) -> np.ndarray:
    """A uniform direction times a uniform size up to 1, shape (3,)."""
    x = rng.normal(size=3)
    return rng.uniform() * x / np.linalg.norm(x)
