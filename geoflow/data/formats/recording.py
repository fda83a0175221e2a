"""What a reader hands over: what a file says of itself, and its episodes one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from geoflow.data.demonstrations import DemonstrationError, Episode, Meta
from geoflow.data.formats.actions import Actions


@dataclass(frozen=True)
class Hints:
    """What the user knows and a file may not say.

    Attributes:
        control_hz: Actions a second.
        env_id: The task.
        poses: Observations of seven numbers that are poses -> the order of their quaternion, wxyz or xyzw.
        skip: Observations to leave out.
    """

    control_hz: float | None = None
    env_id: str = ""
    poses: Mapping[str, str] = field(default_factory=dict)
    skip: tuple[str, ...] = ()

    def for_own(self, own: bool) -> Hints:
        """These, or of a file that geoflow wrote, and that knows its observations, the rate alone."""
        return Hints(self.control_hz) if own else self

    def rate(self, found: float | None, where: str) -> float:
        """Actions a second: the file's, which a hint must not contradict, or the hint's.

        Raises:
            DemonstrationError: neither says, they differ, or it is not positive.
        """
        if found is None and self.control_hz is None:
            raise DemonstrationError(
                f"{where} does not say how many actions a second it holds; give --control-hz."
            )
        if found is not None and self.control_hz is not None and abs(found - self.control_hz) > 1e-6:
            raise DemonstrationError(
                f"{where} says {found:g} actions a second, --control-hz says {self.control_hz:g}; leave it out."
            )
        rate = found if found is not None else self.control_hz
        assert rate is not None
        if not 0 < rate < float("inf"):
            raise DemonstrationError(f"{where}: {rate} actions a second; expected a positive number.")
        return float(rate)


@dataclass(frozen=True)
class Recording:
    """An open file.

    Attributes:
        meta: What holds for the whole file.
        actions: The convention the actions are in; None where the file does not say.
        episodes: The episodes, ``actions`` in that convention, everything else in ours.
        own: Whether geoflow wrote the file, so that nothing in it is a guess.
    """

    meta: Meta
    actions: Actions | None
    episodes: Iterable[Episode]
    own: bool = False


def pose_hints(words: Iterable[str]) -> dict[str, str]:
    """("tcp", "goal:xyzw") -> {"tcp": "wxyz", "goal": "xyzw"}.

    Raises:
        DemonstrationError: another order.
    """
    hints = {}
    for word in words:
        name, _, order = word.partition(":")
        hints[name] = order or "wxyz"
        if hints[name] not in ("wxyz", "xyzw"):
            raise DemonstrationError(f"--poses {word}: expected NAME, NAME:wxyz or NAME:xyzw.")
    return hints
