"""DiffusionPolicy: the DDPM policy in the units of Diffusion Policy, the range of the data (Chi et al. 2023)."""

from __future__ import annotations

import torch
from torch import Tensor

from geoflow.policies.ddpm import DDPMPolicy
from geoflow.policies.frames import blocks


class DiffusionPolicy(DDPMPolicy):
    """Positions and extras from their limits to [-1, 1] by axis, 6D rotations as they are, estimates clipped to 1.

    Limits are over all steps of a chunk alike. Scaling each axis of a position on its own is no automorphism of
    SE(3), which does not matter to a diffusion of plain numbers; `DDPMPolicy` scales as the flows do. The other
    settings of Diffusion Policy are in configs/policy/diffusion_policy.yaml.
    """

    def fit_range(self, low: Tensor, high: Tensor) -> None:
        """Take the limits of chunks; a number that does not vary is only moved to 0."""
        low, high = low.amin(0), high.amax(0)
        middle, half = (low + high) / 2, (high - low) / 2
        half = torch.where(half < 1e-4, 1.0, half)
        for block in blocks(len(low), self.arms, self.extras):
            if block.stop - block.start == 6:
                middle[block], half[block] = 0.0, 1.0
        self.chunk_mean.copy_(middle.expand_as(self.chunk_mean))
        self.chunk_scale.copy_(half.expand_as(self.chunk_scale))
        self.clip.fill_(1.0)
