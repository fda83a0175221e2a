"""What an expert of ours must know of robosuite's controller: it trails its goal by 160 ms."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import poses
from ..poses import Array
from ..tasks.motion import Expert

if TYPE_CHECKING:
    from .base import RobosuiteTask

TIGHTER = 2.5
"""Of a goal's lead over the TCP. A critically damped arm (kp 150) moves at 6.1 leads a second, so the look-ahead of
`tasks.motion`, 18 mm, becomes 0.28 m/s."""


class RobosuiteExpert(Expert):
    """An expert whose goals lead by more, for a controller that trails more."""

    def __init__(self, env: RobosuiteTask[Any], choice: str = "greedy", seed: int | None = None) -> None:
        """`choice`: "greedy" or "random" (seeded by `seed`); raises ValueError for another."""
        super().__init__(env, choice, seed)  # type: ignore[arg-type]

    def act(self) -> NDArray[np.float32]:
        """The action for the present state."""
        action = super().act()
        tcps = np.reshape(self.task.state().tcp, (-1, 7))
        for arm, tcp in enumerate(tcps):
            action[7 * arm : 7 * arm + 7] = lead(tcp, action[7 * arm : 7 * arm + 7].astype(float))
        return action

    @abstractmethod
    def decide(self, state: Any) -> tuple[Array, Any]:
        """The TCP pose to command and the gripper command; with two hands (2, 7) and (2,)."""


def lead(tcp: Array, goal: Array) -> Array:
    """The goal, moved on along the way from the TCP to it."""
    further = poses.integrate(tcp, TIGHTER * poses.rotvec(tcp, goal))
    further[:3] += TIGHTER * (goal[:3] - tcp[:3])
    return further
