"""Receding horizon: predict a chunk, execute its first steps, predict again."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from geoflow.policies.base import Policy


class ObservationHistory:
    """The last To observations, the present one last; before the beginning the first one is repeated."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._past: deque[Mapping[str, Any]] = deque(maxlen=steps)

    def push(self, obs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Take in an observation (name -> (d,)) and give the history (name -> (To, d))."""
        self._past.append(obs)
        missing = self._steps - len(self._past)
        window = [self._past[0]] * missing + list(self._past)
        return {name: np.stack([past[name] for past in window]) for name in obs}


class ChunkBroker:
    """One action at a time from a policy that predicts chunks.

        broker = gf.ChunkBroker(policy, execute=8)
        env.step(broker.act(obs))

    Args:
        policy: The policy.
        execute: Steps of a chunk executed before the next is predicted, 1 to the horizon; the policy's own
            by default.
        nfe: Network evaluations a chunk; the policy's own by default.
        solver: The policy's own by default.
        generator: Source of randomness.
    """

    def __init__(
        self,
        policy: Policy,
        execute: int | None = None,
        *,
        nfe: int | None = None,
        solver: str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        execute = policy.config.execute if execute is None else execute
        if not 1 <= execute <= policy.config.horizon:
            raise ValueError(
                f"execute={execute}; it lies between 1 and the policy's horizon {policy.config.horizon}."
            )
        self._policy, self._execute = policy, execute
        self._options: dict[str, Any] = {"nfe": nfe, "solver": solver, "generator": generator}
        self.reset()

    def reset(self) -> None:
        """Forget the chunk and the history; call it when an episode begins."""
        self._history = ObservationHistory(self._policy.config.observation_steps)
        self._queue: deque[np.ndarray] = deque()

    def act(self, obs: Mapping[str, Any]) -> np.ndarray:
        """The next action, shape (7 + k,), for an observation name -> (d,)."""
        history = self._history.push(obs)
        if not self._queue:
            chunk = self._policy.act(history, **self._options).cpu().numpy()
            self._queue.extend(chunk[: self._execute])
        return self._queue.popleft()
