"""The action space of end-effector poses: a Box whose samples are valid poses, and the check of an action."""

from __future__ import annotations

from math import hypot
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray


class PoseBox(Box):
    """Box of (x y z qw qx qy qz) an arm, then extras, whose samples carry unit quaternions, uniform on SO(3)."""

    def __init__(
        self, low: NDArray[np.float64], high: NDArray[np.float64], extras: int, arms: int = 1
    ) -> None:
        """Positions between `low` and `high` (3,) [m]; quaternion entries and extras in [-1, 1]."""
        self.arms = arms
        turn, ones = np.ones(4), np.ones(extras)
        super().__init__(
            np.concatenate([*[low, -turn] * arms, -ones]).astype(np.float32),
            np.concatenate([*[high, turn] * arms, ones]).astype(np.float32),
            dtype=np.float32,
        )

    def sample(self, mask: None = None, probability: None = None) -> NDArray[Any]:
        """Random positions, rotations and extras."""
        action = super().sample(mask, probability)
        for start in range(3, 7 * self.arms, 7):
            quaternion = self.np_random.standard_normal(4)
            action[start : start + 4] = quaternion / np.linalg.norm(quaternion)
        return action


def checked_action(action: Any, arms: int = 1) -> NDArray[np.float64]:
    """The action in float64 with unit quaternions: one pose an arm (7), then one gripper command an arm.

    Raises:
        ValueError: no real numbers, a wrong shape, NaN or Inf, or a quaternion whose norm is outside [0.9, 1.1].
    """
    values = _real(action)
    if values.shape != (8 * arms,):
        layout = (
            "x y z qw qx qy qz gripper" if arms == 1 else f"{arms} x (x y z qw qx qy qz), {arms} grippers"
        )
        raise ValueError(
            f"an action has shape ({8 * arms},): {layout}; got {values.shape}. "
            "One step takes one action, not a chunk."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"an action must be finite; got {values.tolist()}.")
    for start in range(3, 7 * arms, 7):
        length = hypot(*values[start : start + 4])
        if not 0.9 <= length <= 1.1:
            raise ValueError(
                f"the action's quaternion (qw qx qy qz, entries {start} to {start + 3}) must have a norm within "
                f"[0.9, 1.1]; got {length:.3g}. Normalise it first."
            )
        values[start : start + 4] /= length
    return values


def _real(action: Any) -> NDArray[np.float64]:
    """A float64 copy of an array of real numbers."""
    try:
        given = np.asarray(action)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged; a tensor that requires grad, or on a GPU
        raise ValueError(f"an action is an array of real numbers; {error}") from error
    if given.dtype.kind not in "fiu":
        raise ValueError(f"an action is an array of real numbers, float32; got {given.dtype} in {action!r}.")
    return given.astype(np.float64)
