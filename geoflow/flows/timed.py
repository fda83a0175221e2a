"""Timed: a condition made ready for the times at which a network will be asked, all of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timed:
    """What `Flow.sample` hands to a network at each time in place of ``cond``.

    An integrator's times are known before it starts. So whatever a network makes of time and condition alone can be
    computed for all steps together, once a sample.

    Attributes:
        cond: The condition itself, for any other time.
        ready: Time -> what the network takes in its place there.
    """

    cond: Any
    ready: Mapping[float, Any]

    def __len__(self) -> int:
        """B."""
        return len(self.cond)


def told(cond: Any, t: float) -> Any:
    """What a network is told at time t."""
    return cond.ready.get(t, cond.cond) if isinstance(cond, Timed) else cond
