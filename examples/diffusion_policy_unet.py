"""Diffusion Policy's U-Net with a flow on SE(3): four functions change. Run `python examples/diffusion_policy_unet.py`.

The policy below is Diffusion Policy's in small (Chi et al. 2023): trajectories (B, 16, 10) of position, 6D rotation
and gripper, a conditional 1-D U-Net, diffusion steps k = 99 (noise) ... 0, an inference loop over them. Noise,
interpolant, target and step are those of `Diffusion`, as Diffusion Policy has them, or of `SE3Flow`, on the group.
Nothing else differs. This small a run compares nothing; it shows that both learn. Needs `pip install diffusers`.
"""

from __future__ import annotations

import math

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn
from torch.nn.functional import mse_loss, pad

import geoflow as gf

STEPS, NFE, HORIZON = 100, 10, 16
SPACE = gf.Product(gf.SE3(), gf.Euclidean(1))


class Diffusion:
    """As published: Gaussian noise on ten numbers, of which the network predicts the noise."""

    def __init__(self) -> None:
        self.scheduler = DDIMScheduler(STEPS, beta_schedule="squaredcos_cap_v2", clip_sample_range=2.0)
        self.scheduler.set_timesteps(NFE)

    def noise(self, trajectory: Tensor) -> Tensor:
        return torch.randn_like(trajectory)

    def interpolant(self, noise: Tensor, trajectory: Tensor, k: Tensor) -> Tensor:
        return self.scheduler.add_noise(trajectory, noise, k)  # pyright: ignore[reportArgumentType]

    def target(self, noise: Tensor, trajectory: Tensor) -> Tensor:
        return noise

    def step(self, predicted: Tensor, k: int, noisy: Tensor) -> Tensor:
        return self.scheduler.step(predicted, k, noisy, return_dict=False)[0]


class SE3Flow:
    """On the group: noise is poses, the way a screw, and the network predicts the twist and the gripper's rate."""

    prior = gf.WrappedGaussian(SPACE, scale=0.5)  # about as wide as the data

    def noise(self, trajectory: Tensor) -> Tensor:
        return SPACE.features(self.prior.sample(trajectory.shape[:-1]))

    def interpolant(self, noise: Tensor, trajectory: Tensor, k: Tensor) -> Tensor:
        x_0, x_1 = SPACE.from_features(noise), SPACE.from_features(trajectory)
        return SPACE.features(SPACE.geodesic(x_0, x_1, 1 - (k[:, None] + 1) / STEPS)[0])

    def target(self, noise: Tensor, trajectory: Tensor) -> Tensor:
        twist = SPACE.log(SPACE.from_features(noise), SPACE.from_features(trajectory))
        return pad(twist, (0, 3))  # seven numbers in the ten that the network has

    def step(self, predicted: Tensor, k: int, noisy: Tensor) -> Tensor:
        x = SPACE.from_features(noisy)
        return SPACE.features(SPACE.exp(x, predicted[..., :7] / NFE))


class Block(nn.Module):
    """Two convolutions, and between them a scale and a shift from the condition (FiLM)."""

    def __init__(self, inputs: int, outputs: int, cond: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv1d(inputs, outputs, 5, padding=2), nn.GroupNorm(8, outputs), nn.Mish()
        )
        self.second = nn.Sequential(
            nn.Conv1d(outputs, outputs, 5, padding=2), nn.GroupNorm(8, outputs), nn.Mish()
        )
        self.film = nn.Linear(cond, 2 * outputs)
        self.skip = nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        scale, shift = self.film(cond)[..., None].chunk(2, 1)
        return self.skip(x) + self.second(self.first(x) * (1 + scale) + shift)


class ConditionalUnet1D(nn.Module):
    """Noisy trajectories (B, 16, 10), steps (B,), conditions (B, C) -> (B, 16, 10): a small stand-in for theirs."""

    def __init__(self, cond: int, width: int = 64) -> None:
        super().__init__()
        self.cond = nn.Sequential(nn.Linear(1 + cond, 128), nn.Mish(), nn.Linear(128, 128), nn.Mish())
        self.enter, self.inner, self.leave = (Block(a, width, 128) for a in (10, width, 2 * width))
        self.down, self.up = nn.Conv1d(width, width, 4, 2, 1), nn.ConvTranspose1d(width, width, 4, 2, 1)
        self.out = nn.Conv1d(width, 10, 1)

    def forward(self, sample: Tensor, timestep: Tensor, global_cond: Tensor) -> Tensor:
        cond = self.cond(torch.cat([timestep[:, None] / STEPS, global_cond], -1))
        x = self.enter(sample.transpose(1, 2), cond)
        y = self.up(self.inner(self.down(x), cond))
        return self.out(self.leave(torch.cat([x, y], 1), cond)).transpose(1, 2)


class UNetPolicy(nn.Module):
    """Observations as a global condition, a U-Net, and its training and inference loop. It calls no geometry."""

    def __init__(self, process: Diffusion | SE3Flow, cond: int) -> None:
        super().__init__()
        self.process = process
        self.net = ConditionalUnet1D(cond)

    def compute_loss(self, obs: Tensor, trajectory: Tensor) -> Tensor:
        """Mean squared error of the prediction, a number."""
        noise = self.process.noise(trajectory)
        k = torch.randint(STEPS, (len(trajectory),))
        noisy = self.process.interpolant(noise, trajectory, k)
        return mse_loss(self.net(noisy, k, obs), self.process.target(noise, trajectory))

    @torch.no_grad()
    def predict_action(self, obs: Tensor) -> Tensor:
        """Trajectories (B, 16, 10) for observations (B, C)."""
        trajectory = self.process.noise(obs.new_zeros(len(obs), HORIZON, 10))
        for k in range(STEPS - 1, -1, -STEPS // NFE):
            predicted = self.net(trajectory, torch.full((len(obs),), k), obs)
            trajectory = self.process.step(predicted, k, trajectory)
        return trajectory


def grasps(obs: Tensor, side: Tensor) -> Tensor:
    """Trajectories (B, 16, 8) from the tool to a handle at ``obs`` (B, 3), a quarter turn to a ``side``, -1 or 1."""
    zero = torch.zeros_like(side)
    turn = gf.lie.so3.exp(torch.stack([zero, zero, 0.5 * math.pi * side], -1))
    goal = torch.cat([obs, turn], -1)[:, None]
    t = torch.linspace(0, 1, HORIZON).expand(len(obs), -1)
    reach, _ = gf.SE3().geodesic(gf.lie.se3.identity(1, 1), goal, t)
    return torch.cat([reach, torch.where(t > 0.8, 1.0, -1.0)[..., None]], -1)


def main(process: Diffusion | SE3Flow, steps: int = 500) -> dict[str, float]:
    """Train on reaches to either side; how far sampled ends are from the nearer handle hold, and the share of one."""
    torch.manual_seed(0)
    policy = UNetPolicy(process, cond=3)
    optimizer = torch.optim.AdamW(policy.parameters(), 2e-3, betas=(0.95, 0.999), weight_decay=1e-6)
    for step in range(steps):
        obs = 2 * torch.rand(64, 3) - 1
        trajectory = SPACE.features(grasps(obs, 2.0 * torch.randint(2, (64,)) - 1))
        loss = policy.compute_loss(obs, trajectory)
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / steps)
        optimizer.step()
    obs = 2 * torch.rand(500, 3) - 1
    noise = SPACE.from_features(process.noise(torch.zeros(500, HORIZON, 10)))
    sampled = SPACE.from_features(policy.predict_action(obs))
    right = torch.stack([grasps(obs, torch.full((500,), side)) for side in (-1.0, 1.0)])
    distance, side = SPACE.distance(sampled, right).mean(-1).min(0)
    return {
        "noise": float(SPACE.distance(noise, right).mean(-1).amin(0).mean()),
        "samples": float(distance.mean()),
        "left": float((side == 0).float().mean()),
    }


if __name__ == "__main__":
    print("distance to the nearer right trajectory")
    for process in (Diffusion(), SE3Flow()):
        line = "noise {noise:.2f}, samples {samples:.2f}; to the left: {left:.0%}".format(**main(process))
        print(f"{type(process).__name__:>10}: {line}")
