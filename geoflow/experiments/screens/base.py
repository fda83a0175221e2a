"""What every screen does: show the simulation's present state with poses drawn into it, and hand over keys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Marks:
    """What is drawn beside the scene.

    Attributes:
        frame: A pose (7,) in the world, or those of n hands (7 n,), drawn as three axes each.
        chunk: Predicted poses (T, 7), or (T, 7 n), drawn as a row of small axes, paler the later they come.
        text: A line or more.
    """

    frame: np.ndarray | None = None
    chunk: np.ndarray | None = None
    text: str = ""


class Screen(ABC):
    """A place where a scene is looked at."""

    def __init__(self) -> None:
        self._pressed: deque[str] = deque()

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether somebody still looks, or may."""

    @abstractmethod
    def show(self, marks: Marks) -> None:
        """Draw the present state."""

    @abstractmethod
    def close(self) -> None:
        """Leave."""

    def offer(self, keys: Mapping[str, str]) -> None:
        """Say which keys are listened to, name -> what each does, where a screen can."""
        return

    def keys(self) -> list[str]:
        """Names of the keys pressed since the last call, in their order: "W", "1", "enter", "backspace"."""
        pressed = []
        while self._pressed:  # filled by another thread
            pressed.append(self._pressed.popleft())
        return pressed
