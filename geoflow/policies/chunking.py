"""ChunkBroker: one action at a time from a policy that predicts chunks, in receding horizon."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from geoflow.policies.base import Policy
from geoflow.policies.checks import check_loaded
from geoflow.policies.execution import Execution, Executor
from geoflow.policies.intake import Intake


class ObservationHistory:
    """The last To observations, the present one last; before the beginning the first one is repeated.

    What is no observation of the policy does not enter it: it would be part of every window that follows.

    Args:
        policy: Whose observations they are.
    """

    def __init__(self, policy: Policy) -> None:
        self._spec, self._optional = policy.spec, policy.config.optional
        self._steps = policy.config.observation_steps
        self._past: deque[Mapping[str, Any]] = deque(maxlen=self._steps)

    def window(self, obs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The history (name -> (To, d)) up to an observation (name -> (d,)), of what is there now.

        Raises:
            TypeError: it is no mapping.
            ValueError: one is none that the policy takes, or of another shape than before.
        """
        if not isinstance(obs, Mapping):
            raise TypeError(
                f"expected an observation by name, as the task gives it; got {type(obs).__name__}."
            )
        # Copies: a robot's driver may write its next reading into the same buffer.
        now = {name: np.array(x) for name, x in obs.items() if x is not None}
        self._check(now)
        past = [*self._past, now][-self._steps :]
        past = [past[0]] * (self._steps - len(past)) + past
        return {name: _stacked(name, [then.get(name) for then in past]) for name in now}

    def append(self, window: Mapping[str, np.ndarray]) -> None:
        """Keep what a window ends with, when the policy has taken it."""
        self._past.append({name: x[-1] for name, x in window.items()})

    def _check(self, now: Mapping[str, np.ndarray]) -> None:
        """Raise ValueError for what the policy refuses; what is missing may be there again by the next chunk."""
        there = [name for name in self._spec.kinds if name in now]
        Intake(self._spec.only(there), 1, self._optional).batched(now, torch.empty(0))


def _stacked(name: str, past: list[Any]) -> np.ndarray:
    try:
        return np.stack(_filled(past))
    except ValueError as error:
        shapes = [None if x is None else x.shape for x in past]
        raise ValueError(
            f"observation {name!r} has shape {shapes[-1]}, in the history {shapes[:-1]}; an observation keeps its "
            "shape, and a new episode begins with reset()."
        ) from error


def _filled(past: list[Any]) -> list[Any]:
    """What was missing (None) stays as it was before, and before it was there, as it was first."""
    known = next(x for x in past if x is not None)
    filled = []
    for x in past:
        known = known if x is None else x
        filled.append(known)
    return filled


class ChunkBroker:
    """One action at a time from a policy that predicts chunks.

        broker = gf.ChunkBroker(policy, execute=8)
        env.step(broker.act(obs))

    It computes when a chunk is due, and the robot waits; where it cannot, see `RealTimeBroker`.

    Args:
        policy: The policy.
        execute: Steps of a chunk executed before the next is predicted, 1 to the horizon, or an `Execution` for
            ensembling and delays; the policy's own number by default.
        nfe: Network evaluations a chunk; the policy's own by default.
        solver: The policy's own by default.
        generator: Source of randomness.

    Raises:
        ValueError: more steps than a chunk has.
    """

    def __init__(
        self,
        policy: Policy,
        execute: int | Execution | None = None,
        *,
        nfe: int | None = None,
        solver: str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        check_loaded(policy, type(self).__name__)
        execute = policy.config.execute if execute is None else execute
        execution = execute if isinstance(execute, Execution) else Execution(execute)
        self._policy, self._generator = policy, generator
        self._executor = Executor(policy, execution, nfe=nfe, solver=solver)
        self.reset()

    def reset(self) -> None:
        """Forget the chunk and the history; call it when an episode begins."""
        self._history = ObservationHistory(self._policy)
        self._executor.reset()

    @property
    def left(self) -> np.ndarray:
        """What is left of the chunk that is executed, its present action first: (n, 7 + k)."""
        return self._executor.left[0]

    def act(self, obs: Mapping[str, Any]) -> np.ndarray:
        """The next action, shape (7 + k,), for an observation name -> (d,).

        Raises:
            ValueError: an observation that the policy does not take; the broker stays as it was.
        """
        window = self._history.window(obs)
        batch = {name: past[None] for name, past in window.items()}
        action = self._executor.act(batch, [0], self._generator)[0]
        self._history.append(window)
        return action
