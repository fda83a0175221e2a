"""The action head of pi0 with a flow on SE(3): four functions change. Run `python examples/pi0_head.py`.

A head as openpi has it (Black et al. 2024): every robot's actions are padded to 32 numbers, a chunk has 50 steps, time
runs from t = 0, the data, to t = 1, the noise, and the network predicts noise - actions. Here a robot has one to three
arms, ten numbers each: position, 6D rotation, gripper; the rest is zero. `Pi0` is what openpi does, `SE3Flow` the same
four functions on the group of each arm. The head, its loss and its sampling loop are the same for both.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

import geoflow as gf

HORIZON, WIDTH, ARMS = 50, 32, 3
ARM = gf.Product(gf.SE3(), gf.Euclidean(1))


class Pi0:
    """As in openpi: straight lines of 32 numbers."""

    def noise(self, actions: Tensor) -> Tensor:
        return torch.randn_like(actions)

    def interpolant(self, noise: Tensor, actions: Tensor, t: Tensor) -> Tensor:
        return t[..., None] * noise + (1 - t[..., None]) * actions

    def target(self, noise: Tensor, actions: Tensor) -> Tensor:
        return noise - actions

    def step(self, x_t: Tensor, velocity: Tensor, dt: float) -> Tensor:
        return x_t + dt * velocity


class SE3Flow:
    """On the group: screws from noise to the pose of each arm that the robot has; padding stays zero."""

    prior = gf.WrappedGaussian(ARM, scale=0.5)  # about as wide as the data

    def noise(self, actions: Tensor) -> Tensor:
        return padded(actions, ARM.features(self.prior.sample(arms(actions).shape[:-1])))

    def interpolant(self, noise: Tensor, actions: Tensor, t: Tensor) -> Tensor:
        return padded(actions, ARM.features(ARM.geodesic(arms(noise), arms(actions), 1 - t[..., None])[0]))

    def target(self, noise: Tensor, actions: Tensor) -> Tensor:
        return padded(actions, -ARM.log(arms(noise), arms(actions)))

    def step(self, x_t: Tensor, velocity: Tensor, dt: float) -> Tensor:
        twist = velocity[..., : 10 * ARMS].unflatten(-1, (ARMS, 10))[..., :7]
        return padded(x_t, ARM.features(ARM.exp(arms(x_t), dt * twist)))


def present(x: Tensor) -> Tensor:
    """Which arms the robot has, (B, 50, 3, 1): the others are all zeros."""
    return (x[..., : 10 * ARMS].unflatten(-1, (ARMS, 10)) != 0).any(-1, keepdim=True)


def arms(x: Tensor) -> Tensor:
    """Points (B, 50, 3, 8) of the arms in padded actions (B, 50, 32); the identity for an arm that is not there."""
    features = x[..., : 10 * ARMS].unflatten(-1, (ARMS, 10))
    return ARM.from_features(torch.where(present(x), features, ARM.features(ARM.identity())))


def padded(x: Tensor, values: Tensor) -> Tensor:
    """Numbers of each arm (B, 50, 3, n) in ten places each, as zeros where the robot of ``x`` has no such arm."""
    values = pad(torch.where(present(x), values, 0), (0, 10 - values.shape[-1]))
    return pad(values.flatten(-2), (0, WIDTH - 10 * ARMS))


class Head(nn.Module):
    """Action tokens, mixed with time and state, through a transformer: a small stand-in for pi0's action expert."""

    def __init__(self, process: Pi0 | SE3Flow, state: int, width: int = 64) -> None:
        super().__init__()
        self.process = process
        self.state_in = nn.Linear(state, width)
        self.action_in = nn.Linear(WIDTH, width)
        self.action_time = nn.Sequential(nn.Linear(2 * width + 1, width), nn.SiLU(), nn.Linear(width, width))
        self.place = nn.Parameter(0.02 * torch.randn(HORIZON, width))
        self.expert = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.action_out = nn.Linear(width, WIDTH)

    def forward(self, state: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Velocities (B, 50, 32) of noisy actions at times t (B, 1)."""
        context = torch.cat([t, self.state_in(state)], -1)[:, None].expand(-1, HORIZON, -1)
        tokens = self.action_time(torch.cat([self.action_in(x_t), context], -1)) + self.place
        return self.action_out(self.expert(tokens))

    def compute_loss(self, state: Tensor, actions: Tensor) -> Tensor:
        """Mean squared error over the numbers that the robots have."""
        noise = self.process.noise(actions)
        t = 0.001 + 0.999 * torch.distributions.Beta(1.5, 1.0).sample((len(actions), 1))
        x_t = self.process.interpolant(noise, actions, t)
        error = self(state, x_t, t) - self.process.target(noise, actions)
        return error[padded(actions, torch.ones(10)) > 0].square().mean()

    @torch.no_grad()
    def sample_actions(self, state: Tensor, like: Tensor, steps: int = 10) -> Tensor:
        """Actions of robots whose padding is that of ``like`` (B, 50, 32)."""
        x_t, dt = self.process.noise(like), -1.0 / steps
        for i in range(steps):
            t = torch.full((len(state), 1), 1 + i * dt)
            x_t = self.process.step(x_t, self(state, x_t, t), dt)
        return x_t


def demonstrations(robots: Tensor) -> tuple[Tensor, Tensor]:
    """States (B, 13) and chunks (B, 50, 32) of robots with 1 to 3 arms (B,): each grasps from a side of its place."""
    place, side = 2 * torch.rand(len(robots), ARMS, 3) - 1, 2.0 * torch.randint(2, (len(robots), ARMS)) - 1
    zero = torch.zeros_like(side)
    turn = gf.lie.so3.exp(torch.stack([zero, zero, 0.5 * math.pi * side], -1))
    pose = torch.cat([place, turn], -1)[:, None].expand(-1, HORIZON, -1, -1)
    gripper = torch.linspace(-1, 1, HORIZON)[:, None, None].expand(len(robots), -1, ARMS, 1)
    has = torch.arange(ARMS)[:, None] < robots[:, None, None, None]
    features = ARM.features(torch.cat([pose, gripper], -1)) * has
    state = torch.cat([robots[:, None], place.flatten(1), side], -1)
    return state, pad(features.flatten(-2), (0, WIDTH - 10 * ARMS))


def main(process: Pi0 | SE3Flow, steps: int = 500) -> dict[str, float]:
    """Train robots of one and two arms together; how far sampled arms are from the demonstrated ones."""
    torch.manual_seed(0)
    head = Head(process, state=13)
    optimizer = torch.optim.AdamW(head.parameters(), 3e-3)
    for step in range(steps):
        loss = head.compute_loss(*demonstrations(torch.randint(1, 3, (32,))))
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        optimizer.step()
    state, actions = demonstrations(torch.randint(1, 3, (300,)))
    far = [
        ARM.distance(arms(x), arms(actions))
        for x in (process.noise(actions), head.sample_actions(state, actions))
    ]
    noise, samples = (float(x[present(actions)[..., 0]].mean()) for x in far)
    return {"noise": noise, "samples": samples}


if __name__ == "__main__":
    print("distance of an arm to the demonstrated one")
    for process in (Pi0(), SE3Flow()):
        print(
            f"{type(process).__name__:>8}: "
            + "noise {noise:.2f}, samples {samples:.2f}".format(**main(process))
        )
