"""PointEncoder: the largest of each feature over the points of a cloud, which are spread out first.

PointNet (Qi et al. 2017) in the size of 3D Diffusion Policy (Ze et al. 2024, arXiv:2403.03954, section 3.2): three
layers with layer norm, a maximum, one projection. Farthest-point sampling keeps at most 256 points.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoflow.policies.encoders.base import Encoder, all_there

MOST = 256


class PointEncoder(Encoder):
    """Clouds (B, To, P, 3 + c), points in the frame of the chunk first, to one token each, (B, To, 1, width)."""

    def __init__(self, shape: tuple[int, ...], steps: int, width: int) -> None:
        super().__init__(shape, steps, width)
        if len(shape) != 2 or shape[1] < 3:
            raise ValueError(
                f"a point cloud has the shape {tuple(shape)}; expected (points, 3 + c): x y z [m], then c features."
            )
        self.steps, self.tokens = steps, 1
        layers, inputs = [], shape[1]
        for outputs in (64, 128, 256):
            layers += [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.ReLU()]
            inputs = outputs
        self.net = nn.Sequential(*layers)
        self.leave = nn.Sequential(nn.Linear(inputs, width), nn.LayerNorm(width))

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Encode; nothing is drawn."""
        batch, x = x.shape[:2], x.flatten(0, 1)
        if x.shape[1] > MOST:
            x = torch.take_along_dim(x, farthest_points(x[..., :3], MOST)[..., None], 1)
        tokens = self.leave(self.net(x).amax(1)).reshape(*batch, 1, -1)
        return all_there(tokens)


@torch.no_grad()
def farthest_points(points: Tensor, count: int) -> Tensor:
    """Indices (N, count) of points (N, P, 3), each the farthest from those before (Eldar et al. 1997).

    The first is the farthest from the mean, so that the order of the points does not matter.
    """
    distance = (points - points.mean(1, keepdim=True)).square().sum(-1)
    index = distance.argmax(1)
    chosen = [index]
    distance = torch.full_like(distance, float("inf"))
    for _ in range(count - 1):
        last = torch.take_along_dim(points, index[:, None, None], 1)
        distance = torch.minimum(distance, (points - last).square().sum(-1))
        index = distance.argmax(1)
        chosen.append(index)
    return torch.stack(chosen, 1)
