"""What a training step costs: of the SE(3) flow beside the Euclidean one, by network, eager and compiled."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geoflow.data.atomic import write_text
from geoflow.experiments.devices import mixed_precision
from geoflow.experiments.progress import bar
from geoflow.experiments.provenance import provenance
from geoflow.experiments.training import compile_loss
from geoflow.policies.backbones import BACKBONES
from geoflow.policies.base import Policy, PolicySpec
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.config import PolicyConfig

EUCLIDEAN = "Euclidean flow"
ALONE = "network alone"
METHODS: dict[str, dict[str, str]] = {
    "SE(3) flow, end point": {},
    "SE(3) flow, velocity": {"target": "velocity"},
    EUCLIDEAN: {"manifold": "Euclidean"},
}
"""Name -> what differs from the default policy."""
TOOLBOX: dict[str, dict[str, str]] = {
    "R3 x SO(3)": {"manifold": "R3xSO3"},
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
"""The other options, eager only: some of them draw noise as they go, which is not compiled."""
WAYS = ("eager", "compiled")


def bench_train(
    out: Path,
    backbones: Sequence[str] = ("mlp", "unet", "transformer"),
    ways: Sequence[str] = WAYS,
    batch: int = 256,
    width: int = 512,
    depth: int = 4,
    repeats: int = 20,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "auto",
    *,
    toolbox: bool = False,
) -> Path:
    """Time whole training steps, the cells of a backbone taking turns, print the table and write it as JSON.

    A step is loss, backward and optimiser, as `geoflow train` takes it, on random chunks of 16 poses. Times are
    CPU times of the process, on a GPU wall times until it is done; the least of all rounds counts, since what else
    the machine does can only add to it.

    Args:
        out: The JSON file.
        backbones: The networks.
        ways: Of eager and compiled (as with train.compile).
        batch: Chunks a step.
        width: Channels of the network.
        depth: Blocks of the network.
        repeats: Timed rounds.
        seed: Of chunks and weights.
        device: Where.
        precision: auto, float32 or bfloat16, as for training.
        toolbox: The other options of the toolbox too, eager.

    Raises:
        ValueError: an unknown way, or no round.
    """
    if not ways or not set(ways) <= set(WAYS):
        raise ValueError(f"ways={list(ways)}; they are of {', '.join(WAYS)}.")
    if repeats < 1:
        raise ValueError(f"repeats={repeats}; time at least 1 round.")
    records: list[dict[str, Any]] = []
    print(
        f"{'backbone':<16}{'way':<10}{'method':<24}{'step':>10}{'/ Euclidean':>13}{'network':>9}{'first':>9}"
    )
    for backbone in backbones:
        steps: dict[tuple[str, str], Callable[[], None]] = {}
        for way in ways:
            torch.manual_seed(seed)
            for name, options in _options(backbone, toolbox and way == "eager").items():
                config = PolicyConfig(backbone=backbone, width=width, depth=depth, **options)  # pyright: ignore[reportArgumentType]
                step, alone = _steps(config, batch, device, precision, way)
                steps[way, name] = step
                steps.setdefault((way, ALONE), alone)  # the first one's: the others differ in their ends
        found = _times(steps, repeats, device, backbone)
        for (way, name), (first, taken) in found.items():
            if name == ALONE:
                continue
            least = min(taken)
            record = {
                "backbone": backbone,
                "way": way,
                "method": name,
                "step_ms": 1e3 * least,
                "median_ms": 1e3 * statistics.median(taken),
                "ratio": least / min(found[way, EUCLIDEAN][1]),
                "network_share": min(found[way, ALONE][1]) / least,
                "first_s": first,
            }
            records.append(record)
            print(
                f"{backbone:<16}{way:<10}{name:<24}{record['step_ms']:>7.1f} ms{record['ratio']:>13.3f}"
                f"{record['network_share']:>9.0%}{first:>7.1f} s"
            )
        torch.compiler.reset()  # what was compiled for one backbone is no use for the next
    facts = {"batch": batch, "width": width, "depth": depth, "precision": precision, "repeats": repeats}
    text = {**provenance(device), "device": device, **facts, "records": records}
    write_text(out, json.dumps(text, indent=1) + "\n")
    return out


def _options(backbone: str, toolbox: bool) -> dict[str, dict[str, str]]:
    """What is timed on a backbone. Conditional transport compares conditions, which must be vectors for that."""
    tokens = hasattr(BACKBONES.get(backbone), "takes_tokens")
    more = {name: o for name, o in TOOLBOX.items() if not (tokens and name == "conditional transport")}
    return METHODS | more if toolbox else METHODS


Times = dict[tuple[str, str], tuple[float, list[float]]]


def _times(steps: dict[tuple[str, str], Callable[[], None]], repeats: int, device: str, name: str) -> Times:
    """Of each step the wall time of its first call, and seconds of those after two that warm up."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    times: Times = {}
    for key, step in bar(steps.items(), desc=f"{name}: first steps", unit="step"):
        begin = time.perf_counter()
        step()
        times[key] = (time.perf_counter() - begin, [])
    for round_ in bar(range(repeats + 1), desc=f"bench train {name}", unit="round"):
        for key, step in steps.items():
            begin = clock()
            step()
            if round_ >= 1:
                times[key][1].append(clock() - begin)
    return times


def _steps(
    config: PolicyConfig, batch: int, device: str, precision: str, way: str
) -> tuple[Callable[[], None], Callable[[], None]]:
    """One training step of a policy on a fixed random batch, and one of its network alone on what it would see."""
    spec = PolicySpec("bench", 20.0, {"tcp": "pose"}, {"tcp": (7,)}, action_dim=8)
    policy = build_policy(config, spec).to(device)
    x_1 = 0.5 * torch.randn(batch, config.horizon, policy.pose_space.tangent_dim)
    x_1 = policy.pose_space.exp(policy.pose_space.identity(), x_1).to(device)
    if policy.space is not policy.pose_space:
        x_1 = policy.pose_space.features(x_1)
    cond: Any = torch.randn(batch, config.width // 2, device=device)
    if policy.takes_tokens:
        with torch.no_grad():
            cond = policy.condition({"tcp": policy.pose_space.identity(batch, 1, device=device)[..., :7]})
    features, t = policy.space.features(x_1), torch.rand((batch, policy.times(config)), device=device)
    t = t if policy.times(config) == 2 else t[:, 0]
    if way == "compiled":
        compile_loss(policy)

    def network() -> Tensor:
        return policy.evaluate_network(features, t, cond).square().mean(-1)

    optimise = _optimiser(policy, device, precision)
    alone = torch.compile(network, dynamic=False) if way == "compiled" else network
    return (lambda: optimise(lambda: policy.chunk_loss(x_1, cond, None))), (lambda: optimise(alone))


def _optimiser(policy: Policy, device: str, precision: str) -> Callable[[Callable[[], Tensor]], None]:
    """loss -> a step of the policy's weights down it, until the device is done."""
    optimizer = torch.optim.AdamW(policy.parameters(), 1e-4, fused=True)
    kind = device.partition(":")[0]
    bfloat16 = mixed_precision(precision, device) == "bf16"

    def step(loss_of: Callable[[], Tensor]) -> None:
        with torch.autocast(kind, torch.bfloat16, enabled=bfloat16):
            loss = loss_of().float().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if kind == "cuda":
            torch.cuda.synchronize(device)

    return step
