"""A flow over poses in plain torch: a network, its loss, its samples. Run `python examples/plain_flow.py`.

A handle stands somewhere on a table; a demonstrator grasps it from the left or from the right, as a coin decides.
Lengths are in widths of the table, so that shifts and turns are both about 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

import geoflow as gf

space = gf.Product(gf.SE3(), gf.Euclidean(1))  # pose and gripper: points (..., 8), features 10, tangents 7
flow = gf.Flow(space)  # from a wrapped Gaussian at the identity, along geodesics


class Net(nn.Module):
    """A network of yours, that knows no geometry: (B, 10), (B,), (B, 2) -> (B, 7)."""

    def __init__(self) -> None:
        super().__init__()
        inner = [nn.Linear(13, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 7)]
        self.layers = nn.Sequential(*inner)

    def forward(self, features: Tensor, t: Tensor, place: Tensor) -> Tensor:
        """Velocities of grasps of handles that stand at ``place``."""
        return self.layers(torch.cat([features, t[:, None], place], -1))


def grasp(place: Tensor, side: Tensor) -> Tensor:
    """Grasps (B, 8) of handles at ``place`` (B, 2) from a ``side`` (B,), -1 or 1: half a width off, a quarter turn."""
    zero = torch.zeros_like(side)
    position = torch.stack([place[:, 0], place[:, 1] + 0.5 * side, zero], -1)
    rotation = gf.lie.so3.exp(torch.stack([zero, zero, 0.5 * math.pi * side], -1))
    return torch.cat([position, rotation, torch.ones(len(place), 1)], -1)


def main(steps: int = 2000) -> dict[str, float]:
    """Train, sample, and measure how far samples are from the nearer of the two right grasps."""
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for step in range(steps):
        place = 2 * torch.rand(256, 2) - 1
        demonstrated = grasp(place, 2.0 * torch.randint(2, (256,)) - 1)
        loss = flow.loss(net, demonstrated, place).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / steps)
        optimizer.step()
    place = 2 * torch.rand(1000, 2) - 1
    with torch.no_grad():
        noise, *_, samples = flow.sample(net, place, steps=20, path=True)  # (21, 1000, 8)
    right = torch.stack([grasp(place, torch.full((1000,), side)) for side in (-1.0, 1.0)])
    distance, side = space.distance(samples, right).min(0)
    return {
        "noise": float(space.distance(noise, right).amin(0).mean()),
        "samples": float(distance.mean()),
        "left": float((side == 0).float().mean()),
    }


if __name__ == "__main__":
    result = main()
    print("distance to the nearer right grasp: noise {noise:.2f}, samples {samples:.2f}".format(**result))
    print("from the left: {left:.0%}".format(**result))
