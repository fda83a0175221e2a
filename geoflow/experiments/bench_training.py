"""What an option of the toolbox costs: the time of a training step relative to that of the plain flow."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from geoflow.data.atomic import write_text
from geoflow.experiments.devices import mixed_precision
from geoflow.experiments.progress import bar
from geoflow.experiments.provenance import provenance
from geoflow.policies.base import PolicySpec
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.config import PolicyConfig

OPTIONS: dict[str, dict[str, str]] = {
    "flow, velocity": {"target": "velocity"},
    "flow, end point": {},
    "R3 x SO(3)": {"manifold": "R3xSO3"},
    "Euclidean flow": {"manifold": "Euclidean"},
    "DDPM": {"type": "ddpm", "manifold": "Euclidean"},
    "optimal transport": {"coupling": "OptimalTransport()"},
    "conditional transport": {"coupling": "ConditionalTransport(0.1)"},
    "prior Haar": {"prior": "haar"},
    "prior IGSO(3)": {"prior": "igso3"},
    "prior Gaussian process": {"prior": "GaussianProcess()"},
    "sigma_min": {"path": "SigmaMin(0.01)", "target": "velocity"},
    "Brownian bridge": {"path": "BrownianBridge(0.1)", "target": "velocity"},
    "VP diffusion path": {"path": "Diffusion(CosineVP())"},
    "MeanFlow": {"method": "MeanFlow()", "target": "velocity"},
    "shortcut": {"method": "Shortcut()", "target": "velocity"},
    "consistency": {"method": "Consistency()", "target": "velocity"},
}
"""Name -> what differs from the default policy. All are compared with the first."""


def bench_train(
    out: Path,
    backbone: str = "mlp",
    batch: int = 256,
    width: int = 512,
    depth: int = 4,
    repeats: int = 20,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "auto",
) -> Path:
    """Time whole training steps, rounds interleaved between the options, and write the medians as JSON.

    A step is loss, backward and optimiser, as `geoflow train` takes it, on random chunks of 16 poses.

    Args:
        out: The JSON file.
        backbone: The policy's network.
        batch: Chunks a step.
        width: Channels of the network.
        depth: Blocks of the network.
        repeats: Timed rounds.
        seed: Of chunks and weights.
        device: Where.
        precision: auto, float32 or bfloat16, as for training.
    """
    torch.manual_seed(seed)
    steps = {
        name: _step(
            PolicyConfig(backbone=backbone, width=width, depth=depth, **options), batch, device, precision
        )
        for name, options in bar(OPTIONS.items(), desc="build", unit="policy")
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in bar(range(repeats + 2), desc="bench train", unit="round"):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            if round_ >= 2:  # the first rounds warm up
                times[name].append(1e3 * (time.perf_counter() - begin))
    first = times[next(iter(times))]
    records = [
        {
            "option": name,
            "step_ms": statistics.median(taken),
            "ratio": statistics.median(a / b for a, b in zip(taken, first, strict=True)),
        }
        for name, taken in times.items()
    ]
    facts = {"backbone": backbone, "batch": batch, "width": width, "depth": depth, "precision": precision}
    text = {**provenance(device), "device": device, **facts, "records": records}
    write_text(out, json.dumps(text, indent=1) + "\n")
    print(f"{'option':<24}{'step':>10}{'relative':>10}   ({backbone}, batch {batch}, {device})")
    for r in records:
        print(f"{r['option']:<24}{r['step_ms']:>7.1f} ms{r['ratio']:>10.2f}")
    return out


def _step(config: PolicyConfig, batch: int, device: str, precision: str) -> Callable[[], None]:
    """One training step of a policy on a fixed random batch, until the device is done with it."""
    spec = PolicySpec("bench", 20.0, {"tcp": "pose"}, {"tcp": (7,)}, action_dim=8)
    policy = build_policy(config, spec).to(device)
    optimizer = torch.optim.AdamW(policy.parameters(), 1e-4, fused=True)
    x_1 = 0.5 * torch.randn(batch, config.horizon, policy.pose_space.tangent_dim)
    x_1 = policy.pose_space.exp(policy.pose_space.identity(), x_1).to(device)
    if policy.space is not policy.pose_space:
        x_1 = policy.pose_space.features(x_1)
    cond = torch.randn(batch, config.width // 2, device=device)
    kind = device.partition(":")[0]
    bfloat16 = mixed_precision(precision, device) == "bf16"

    def step() -> None:
        with torch.autocast(kind, torch.bfloat16, enabled=bfloat16):
            loss: Tensor = policy.chunk_loss(x_1, cond, None).float().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if kind == "cuda":
            torch.cuda.synchronize(device)

    return step
