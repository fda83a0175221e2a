"""RealTimeBroker: actions at a robot's clock, while the next chunk is computed in a thread of its own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import torch

from geoflow.policies.base import Policy
from geoflow.policies.checks import check_loaded
from geoflow.policies.chunking import ObservationHistory
from geoflow.policies.execution import Execution
from geoflow.policies.joining import join
from geoflow.policies.onward import Onward

REMEMBERED = 10
"""Delays from which the next one is foreseen, as their largest (Black et al. 2025)."""


@dataclass(frozen=True)
class Plan:
    """A chunk, and the tick whose observation it was made from."""

    start: int
    actions: np.ndarray


class RealTimeBroker:
    """One action at each tick, at once: inference never makes the robot wait, unless a chunk runs out.

        with RealTimeBroker(policy, execute=8) as broker:
            broker.run(robot.observe, robot.command, steps=400)

    The first chunk is waited for. Afterwards a prediction begins ``execute`` ticks after the last one began, or
    when that is there; until it is there the last chunk goes on. With "guided" or "given" (real-time chunking)
    the prediction is told what is being executed, and for how many steps it will be: the largest of the last
    delays, or 1 while none is known; "given", for policies trained with ``given_steps``, costs no more than "naive".

    Args:
        policy: The policy.
        execute: Ticks from one prediction to the next, at least; the policy's own by default.
        manner: "joined" (the default), "guided", "given" or "naive", as in `Execution`.
        warm_start: As in `Execution`.
        nfe: Network evaluations a chunk; the policy's own by default.
        solver: The policy's own by default.
        generator: Source of randomness.

    Raises:
        ValueError: more steps than a chunk has; an unknown manner; a policy that cannot be guided.
    """

    def __init__(
        self,
        policy: Policy,
        execute: int | None = None,
        *,
        manner: str = "joined",
        warm_start: float | None = None,
        nfe: int | None = None,
        solver: str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        check_loaded(policy, type(self).__name__)
        self._execute = policy.config.execute if execute is None else execute
        self._how = Execution(self._execute, manner=manner, warm_start=warm_start)
        self._how.check(policy.config.horizon)
        policy.check_manner(manner, warm_start=warm_start)
        self._policy = policy
        self._options: dict[str, Any] = {"nfe": nfe, "solver": solver, "generator": generator}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="geoflow-inference")
        self._pending: tuple[int, Future[np.ndarray]] | None = None
        self._closed = False
        self.delays: deque[int] = deque(maxlen=REMEMBERED)
        """The last delays [ticks] of chunks that others went on during; they are the computer's, so they outlive an
        episode. The first chunk of an episode counts not: it is waited for, and may hold a compiler's work."""
        self.reset()

    def reset(self) -> None:
        """Forget chunks and history; call it when an episode begins. Waits for a prediction under way."""
        if self._pending is not None:
            self._pending[1].exception()
        self._pending, self._plan, self._tick = None, None, 0
        self._history = ObservationHistory(self._policy)
        self._commands: deque[np.ndarray] = deque(maxlen=2)
        self.waits = 0
        """Ticks at which a chunk had run out, and the robot waited."""

    def act(self, obs: Mapping[str, Any]) -> np.ndarray:
        """The action of this tick, shape (7 + k,), for an observation name -> (d,).

        Raises:
            ValueError: the broker is closed; an observation that the policy does not take, and then the broker
                stays as it was.
            Exception: whatever a prediction raised.
        """
        if self._closed:
            raise ValueError("this broker is closed, and its thread has ended; make a new one.")
        window, tick = self._history.window(obs), self._tick
        if self._plan is None:
            self._plan = Plan(tick, self._predict(window, None))
        self._history.append(window)
        self._tick += 1  # not before the first prediction, which may raise: then nothing has happened
        if self._pending is not None and self._pending[1].done():
            self._adopt(tick)
        if self._pending is None and tick - self._plan.start >= self._execute:
            self._pending = tick, self._thread.submit(self._predict, window, self._onward(tick))
        if tick - self._plan.start >= len(self._plan.actions):
            self.waits += 1
            self._adopt(tick)
        action = self._plan.actions[tick - self._plan.start]
        self._commands.append(action)
        return action.copy()  # whoever clips it in place changes nothing here

    def run(
        self,
        observe: Callable[[], Mapping[str, Any]],
        command: Callable[[np.ndarray], object],
        steps: int,
    ) -> np.ndarray:
        """Observe, act and command ``steps`` times at the policy's control rate.

        A command that is late by more than a period, as the first and those that a chunk was waited for, moves all
        that follow: they are not caught up with, since a robot would be sent several steps at once.

        Returns:
            How late each command was [s], shape (steps,).
        """
        period, due = 1 / self._policy.spec.control_hz, time.perf_counter()
        late = np.zeros(steps)
        for step in range(steps):
            time.sleep(max(0.0, due - time.perf_counter()))
            command(self.act(observe()))
            late[step] = time.perf_counter() - due
            due += period if late[step] < period else late[step] + period
        return late

    def close(self) -> None:
        """End the thread; a prediction under way is waited for."""
        self._closed = True
        self._thread.shutdown()

    def __enter__(self) -> RealTimeBroker:
        """The broker itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _predict(self, window: Mapping[str, np.ndarray], onward: Onward | None) -> np.ndarray:
        return self._policy.act(window, onward=onward, **self._options).cpu().numpy()

    def _onward(self, tick: int) -> Onward | None:
        assert self._plan is not None
        left = self._plan.actions[tick - self._plan.start :]
        delay = min(max(self.delays, default=1), len(left))
        if self._how.manner == "given":
            delay = min(delay, self._policy.config.given_steps)
        return self._how.onward(torch.from_numpy(left), delay)

    def _adopt(self, tick: int) -> None:
        """Take over the prediction under way, when it is there."""
        assert self._pending is not None
        (start, future), self._pending = self._pending, None
        actions, first = future.result(), tick - start
        if self._how.manner == "joined" and 0 < first < len(actions) and len(self._commands) == 2:
            executed = torch.from_numpy(np.stack(list(self._commands)))
            spec = self._policy.spec
            left = join(torch.from_numpy(actions)[None], executed[None], first, spec.control_hz, spec.arms)[0]
            actions = np.concatenate([actions[:first], left.numpy()])
        self._plan = Plan(start, actions)
        self.delays.append(first)
