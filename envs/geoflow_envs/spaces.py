"""The action space of end-effector poses: a Box whose samples are valid poses."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray


class PoseBox(Box):
    """Box of (x y z qw qx qy qz, extras...) whose samples carry unit quaternions, uniform on SO(3)."""

    def __init__(self, low: NDArray[np.float64], high: NDArray[np.float64], extras: int) -> None:
        """Positions between `low` and `high` (3,) [m]; quaternion entries and extras in [-1, 1]."""
        ones = np.ones(4 + extras)
        super().__init__(
            np.concatenate([low, -ones]).astype(np.float32),
            np.concatenate([high, ones]).astype(np.float32),
            dtype=np.float32,
        )

    def sample(self, mask: None = None, probability: None = None) -> NDArray[Any]:
        """A random position, rotation and extras."""
        action = super().sample(mask, probability)
        quaternion = self.np_random.standard_normal(4)
        action[3:7] = quaternion / np.linalg.norm(quaternion)
        return action
