"""Which step of which chunk is executed now: receding horizon, delays, real-time chunking, ensembling."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch

from geoflow.manifolds import SE3, Euclidean, Product, frechet_mean
from geoflow.policies.base import Policy
from geoflow.policies.joining import join
from geoflow.policies.onward import MANNERS, UNTOLD, Onward
from geoflow.policies.selection import check_density, likeliest


@dataclass(frozen=True)
class Execution:
    """How chunks become actions.

    Attributes:
        execute: Steps from one prediction to the next.
        delay: Steps that pass until a prediction is there; meanwhile the last chunk goes on. 0: the robot waits.
        manner: What a prediction knows of the chunk that goes on meanwhile, and how it takes over: "naive" nothing,
            so chunks may jump where they meet; "joined" nothing, but it is joined to the last two commands, and
            comes back smoothly to what it was, whatever the policy (`geoflow.policies.joining`; without a delay, the
            same as "naive"); "guided" (real-time chunking) is pulled to begin as the last one goes on; "given" has
            what will have been executed as its beginning, which a policy learns with ``given_steps``.
        ensemble: None, or m >= 0: the action is the mean of all predictions for the present step, weighted by
            exp(-m i) where i counts from the oldest, as in ACT (Zhao et al. 2023); poses are averaged on
            the group (Karcher mean).
        warm_start: None, or a time t_0 in (0, 1): every prediction but the first begins there, from what is left
            of the last chunk with noise as of t_0, and needs fewer evaluations.
        candidates: Chunks of each prediction; the likeliest is executed (`geoflow.policies.selection`).

    Raises:
        ValueError: a number out of its range, or an unknown manner.
    """

    execute: int
    delay: int = 0
    manner: str = "naive"
    ensemble: float | None = None
    warm_start: float | None = None
    candidates: int = 1

    def __post_init__(self) -> None:
        if self.manner not in MANNERS:
            raise ValueError(f"manner={self.manner!r}; it is one of {', '.join(MANNERS)}.")
        for name in ("execute", "delay", "candidates"):
            if not isinstance(getattr(self, name), Integral):
                raise ValueError(f"{name}={getattr(self, name)!r}; expected a whole number.")
        if not 0 <= self.delay <= self.execute:
            raise ValueError(
                f"delay={self.delay} steps with a prediction every {self.execute}; a delay lies between 0 and "
                "execute, since the next prediction begins when the last one is there."
            )
        if self.ensemble is not None and not self.ensemble >= 0:
            raise ValueError(f"ensemble={self.ensemble}; expected m >= 0, such as 0.1, or none.")
        if self.warm_start is not None and not 0 < self.warm_start < 1:
            raise ValueError(
                f"warm_start={self.warm_start}; expected a time in (0, 1), such as 0.5, or none."
            )
        if self.ensemble is not None and self.manner != "naive":
            raise ValueError(
                f"ensemble with manner={self.manner!r}; what is executed is a mean of chunks, which takes over from "
                "none and goes on with none: use naive."
            )
        if self.warm_start is not None and self.manner == "guided":
            raise ValueError(
                "warm_start with manner='guided'; guidance begins at noise: use naive, joined or given."
            )
        if self.candidates < 1:
            raise ValueError(f"candidates={self.candidates}; give at least 1, and 1 to take the first.")
        if self.candidates > 1 and (self.manner not in UNTOLD or self.warm_start is not None):
            raise ValueError(
                f"candidates={self.candidates} with manner={self.manner!r} and warm_start={self.warm_start}; they are "
                "drawn from noise, and know nothing of the last chunk: use naive or joined."
            )

    def check(self, horizon: int) -> None:
        """Raise ValueError where chunks of ``horizon`` steps are too short for it."""
        if not 1 <= self.execute <= horizon:
            raise ValueError(f"execute={self.execute}; it lies between 1 and the policy's horizon {horizon}.")
        if self.execute + self.delay > horizon:
            raise ValueError(
                f"execute={self.execute} and delay={self.delay} need a chunk of {self.execute + self.delay} steps; "
                f"the policy's have {horizon}. Execute fewer steps, or train a longer horizon."
            )

    def onward(self, left: torch.Tensor, delay: int) -> Onward | None:
        """What a prediction is told of ``left`` (..., n, 7 + k) of the chunk under way; None where it is nothing."""
        if not left.shape[-2] or (self.manner in UNTOLD and self.warm_start is None):
            return None
        return Onward(left, delay, "naive" if self.manner in UNTOLD else self.manner, self.warm_start)


class Executor:
    """Plays chunks for ``size`` scenes in lockstep, one action each a tick.

        executor = Executor(policy, Execution(execute=8, delay=6, manner="guided"), size=10)
        actions = executor.act(window, rows)                  # every control tick

    Args:
        policy: The policy.
        execution: How.
        size: Scenes.
        nfe: Network evaluations a chunk; the policy's own by default.
        solver: The policy's own by default.

    Raises:
        ValueError: chunks too short for the execution; a policy that cannot go on from a given chunk.
    """

    def __init__(
        self,
        policy: Policy,
        execution: Execution,
        size: int = 1,
        *,
        nfe: int | None = None,
        solver: str | None = None,
    ) -> None:
        execution.check(policy.config.horizon)
        policy.check_manner(execution.manner, execution.delay, execution.warm_start)
        if execution.candidates > 1:
            check_density(policy)
        self._policy, self._execution, self._size = policy, execution, size
        self._options: dict[str, Any] = {"nfe": nfe, "solver": solver}
        self.reset()

    def reset(self) -> None:
        """Forget all chunks; an episode begins."""
        self._tick = 0
        self._plans: list[tuple[int, np.ndarray]] = []
        """Start tick and chunks (size, T, 7 + k), oldest first."""
        self.predicted = 0
        """Chunks predicted so far."""
        self.taken_over = False
        """Whether the last action was the first one of a chunk that took over from another."""
        self._current: tuple[int, np.ndarray] | None = None
        self._commands: deque[np.ndarray] = deque(maxlen=2)
        """The last two actions (size, 7 + k)."""

    def act(
        self,
        window: Mapping[str, Any],
        rows: Sequence[int] | np.ndarray,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> np.ndarray:
        """Actions (n, 7 + k) for the scenes ``rows``.

        Args:
            window: Observations of these scenes, name -> (n, To, d).
            rows: Indices of the scenes that still run, n of ``size``.
            generator: Source of randomness, or one for each of the n scenes.
        """
        tick = self._tick
        if tick % self._execution.execute == 0:
            self._plans.append((tick, self._predict(tick, window, rows, generator)))
        self._tick += 1  # not before the prediction, which may raise: then nothing has happened
        # The first prediction is waited for; later ones are there after the delay.
        there = [plan for plan in self._plans if not plan[0] or tick >= plan[0] + self._execution.delay]
        start, plan = there[-1]
        self.taken_over = self._current is not None and self._current[0] != start
        self._current = start, plan
        if self._execution.ensemble is None:
            self._plans = self._plans[len(there) - 1 :]
            if self.taken_over and self._execution.manner == "joined" and tick > start:
                plan[rows, tick - start :] = self._joined(plan[rows], tick - start, rows)
            self._commands.append(plan[:, tick - start])
            return plan[rows, tick - start]
        self._plans = [(start, plan) for start, plan in self._plans if tick + 1 < start + plan.shape[1]]
        predictions = np.stack([plan[rows, tick - start] for start, plan in there])
        return average(predictions, self._execution.ensemble, self._policy.spec.arms)

    @property
    def left(self) -> np.ndarray:
        """What is left of the newest chunks that are there, their present step first: (size, n, 7 + k)."""
        if self._current is None:
            raise ValueError("no chunk has been executed yet; act first.")
        start, plan = self._current
        return plan[:, self._tick - 1 - start :]

    def _joined(self, plan: np.ndarray, first: int, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """What is left of chunks (n, T, 7 + k) that take over at step ``first``."""
        executed = np.stack([command[rows] for command in self._commands], 1)
        spec = self._policy.spec
        return join(
            torch.from_numpy(plan), torch.from_numpy(executed), first, spec.control_hz, spec.arms
        ).numpy()

    def _predict(self, tick: int, window: Mapping[str, Any], rows: Any, generator: Any) -> np.ndarray:
        onward, how = None, self._execution
        if self._plans:
            start, plan = self._plans[-1]
            onward = how.onward(torch.from_numpy(plan[rows, tick - start :]), how.delay)
        options = {**self._options, "generator": generator}
        if how.candidates > 1:
            chunk = likeliest(self._policy, window, how.candidates, **options).cpu().numpy()
        else:
            chunk = self._policy.act(window, onward=onward, **options).cpu().numpy()
        self.predicted += len(chunk)
        plan = np.zeros((self._size, *chunk.shape[1:]), chunk.dtype)
        plan[rows] = chunk
        return plan


def average(predictions: np.ndarray, m: float, arms: int = 1) -> np.ndarray:
    """The mean (..., 7 arms + k) of predictions (n, ..., 7 arms + k), oldest first, weighted by exp(-m i)."""
    x = torch.from_numpy(predictions).double()
    weights = torch.exp(-m * torch.arange(len(x), dtype=x.dtype))
    extras = x.shape[-1] - 7 * arms
    space = Product(*[SE3()] * arms, *([Euclidean(extras)] if extras else []))
    return frechet_mean(space, x, weights / weights.sum(), tolerance=1e-9).numpy().astype(predictions.dtype)
