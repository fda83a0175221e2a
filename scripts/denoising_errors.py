"""How well a diffusion policy denoises, by noise level: python scripts/denoising_errors.py runs/ddpm demos/demo.h5."""

from __future__ import annotations

import argparse

import torch

import geoflow as gf
from geoflow.data.chunks import Chunks
from geoflow.flows.noise import randn
from geoflow.policies.ddpm import DDPMPolicy


@torch.no_grad()
def main(run: str, demos: str, windows: int) -> None:
    """Print the mean squared errors of the noise, and of the chunk that a prediction implies in widths of the data."""
    policy = gf.load_policy(run).eval()
    if not isinstance(policy, DDPMPolicy):
        raise SystemExit(f"{run} is a {type(policy).__name__}; expected a run of policy.type ddpm.")
    batch = Chunks(demos, policy.config.horizon, policy.config.observation_steps).sample(windows, seed=7)
    cond, generator = policy.condition(batch.obs), torch.Generator().manual_seed(0)
    y = (policy.to_space(batch.obs, batch.actions) - policy.chunk_mean) / policy.chunk_scale
    print("  k       a_k  error of eps  error of y")
    for k in (99, 95, 90, 80, 70, 60, 50, 40, 30, 20, 10, 5, 2, 0):
        a, eps = policy.alphas_cumprod[k], randn(y.shape, generator, like=y)
        noisy = a.sqrt() * y + (1 - a).sqrt() * eps
        predicted = policy.net(noisy, torch.full((len(y),), 1 - k / 100), cond)
        implied = policy.diffusion._estimate(predicted, noisy, float(a))
        error = (implied - y).square().mean()
        print(f"{k:3d} {float(a):9.1e} {float(a / (1 - a) * error):13.2e} {float(error):11.2e}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("demos")
    parser.add_argument("--windows", type=int, default=2048)
    options = parser.parse_args()
    main(options.run, options.demos, options.windows)
