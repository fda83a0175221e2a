"""What a chunk costs: policy.act, compiled, exported and as a CUDA graph, by evaluations and batch, beside DDPM."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from geoflow.data.atomic import write_text
from geoflow.experiments.progress import bar
from geoflow.experiments.provenance import provenance
from geoflow.lie import se3, so3
from geoflow.policies.base import Policy, PolicySpec
from geoflow.policies.checkpoint import build_policy, load_policy
from geoflow.policies.compiled import Compiled
from geoflow.policies.config import PolicyConfig
from geoflow.policies.export import export
from geoflow.policies.graphed import Graphed
from geoflow.policies.int8 import shrink
from geoflow.policies.sampler import ChunkSampler

WAYS = ("eager", "compiled", "onnx", "onnx int8", "graphed", "graphed compiled")
"""policy.act; with a compiled step; onnxruntime, in float32 and with 8-bit weights; CUDA graphs of the sampler, with
the step as it is and compiled."""
SPEC = PolicySpec(
    "bench",
    20.0,
    {"tcp": "pose", "gripper": "vector", "peg": "pose", "socket": "pose"},
    {"tcp": (7,), "gripper": (1,), "peg": (7,), "socket": (7,)},
    action_dim=8,
)
"""The observations of TiltedPegInsert."""
AGAIN = 8
"""Calls of a cell in each round after the first."""
Call = Callable[[], object]


def bench_sample(
    out: Path,
    run_folder: Path | None = None,
    backbone: str = "mlp",
    nfe: Sequence[int] = (1, 2, 4, 10),
    batches: Sequence[int] = (1, 256),
    ways: Sequence[str] = ("eager", "onnx"),
    repeats: int = 50,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
) -> Path:
    """Time chunks, rounds interleaved between all cells, and write minima and medians as JSON.

    In every round a cell is called once after the other cells, which have taken the nearest caches from it ("cold"),
    and then `AGAIN` times more, as a process that does nothing else would call it.

    Args:
        out: The JSON file.
        run_folder: A trained flow policy; by default one of default size with random weights.
        backbone: Its network, where no policy is given.
        nfe: Network evaluations a chunk.
        batches: Chunks at once; an exported graph takes one.
        ways: Of `WAYS`; graphs on a GPU only.
        repeats: Rounds.
        seed: Of weights, observations and noise.
        device: Where.
        threads: CPU threads.

    Raises:
        ValueError: an unknown way; graphs without a GPU.
    """
    for way in ways:
        if way not in WAYS:
            raise ValueError(f"ways names {way!r}; it is one of {', '.join(WAYS)}.")
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    policy = load_policy(run_folder) if run_folder else build_policy(PolicyConfig(backbone=backbone), SPEC)
    policy = policy.to(device).eval()
    with TemporaryDirectory() as folder:
        calls = _calls(policy, nfe, batches, ways, Path(folder), device, threads)
        compiling = _compiling(calls)
        times = _interleaved(calls, repeats, device)
        precision = _precision(policy, device)
    records = [
        {
            "way": way,
            "nfe": n,
            "batch": batch,
            "min_ms": min(again),
            "median_ms": statistics.median(again),
            "cold_ms": statistics.median(first),
        }
        for (way, n, batch), (first, again) in times.items()
    ]
    facts = {
        "device": device,
        "threads": threads,
        "backbone": policy.config.backbone,
        "floor": _floor(policy),
        "compiling_s": compiling,
    }
    text = {**provenance(device), **facts, "records": records, "precision": precision}
    write_text(out, json.dumps(text, indent=1) + "\n")
    columns = f"{'way':<18}{'evaluations':>12}{'batch':>7}{'least':>11}{'median':>11}{'cold':>11}"
    print(f"{columns}   ({facts['backbone']}, {device})")
    for r in records:
        spent = "".join(f"{r[column]:>8.2f} ms" for column in ("min_ms", "median_ms", "cold_ms"))
        print(f"{r['way']:<18}{r['nfe']:>12}{r['batch']:>7}{spent}")
    return out


def _calls(
    policy: Policy,
    nfe: Sequence[int],
    batches: Sequence[int],
    ways: Sequence[str],
    folder: Path,
    device: str,
    threads: int,
) -> dict[tuple[str, int, int], Call]:
    """(way, evaluations, batch) -> what makes that many chunks."""
    calls: dict[tuple[str, int, int], Call] = {}
    graphed = {way: Graphed(policy, compiled="compiled" in way) for way in ways if "graphed" in way}
    compiled = Compiled(policy) if "compiled" in ways else None
    for n in bar(nfe, desc="build", unit="evaluations"):
        sampler = ChunkSampler(policy, n)
        for batch in batches:
            _, *seen = (x.to(device) for x in sampler.example(batch))
            obs = dict(zip(sampler.names, seen, strict=True))
            if "eager" in ways:
                calls["eager", n, batch] = lambda obs=obs, n=n: policy.act(obs, nfe=n)
            if compiled is not None:
                calls["compiled", n, batch] = lambda obs=obs, n=n: compiled.act(obs, nfe=n)
            for way, fast in graphed.items():
                calls[way, n, batch] = lambda fast=fast, obs=obs, n=n: fast.act(obs, nfe=n)
            for way, weights in (("onnx", "float32"), ("onnx int8", "int8")):
                if way in ways and batch == 1:
                    calls[way, n, 1] = _onnx(policy, n, weights, folder / f"{n}_{weights}.onnx", threads)
    diffusion = _diffusion(policy).to(device).eval()
    sampler = ChunkSampler(policy)
    for batch in batches:
        obs = dict(zip(sampler.names, (x.to(device) for x in sampler.example(batch)[1:]), strict=True))
        for n, solver in ((100, "ddpm"), (10, "ddim")):
            calls[solver, n, batch] = lambda obs=obs, n=n, solver=solver: diffusion.act(obs, n, solver)
    return calls


def _diffusion(policy: Policy) -> Policy:
    """A diffusion policy with the same network."""
    plain = PolicyConfig()
    names = ("method", "prior", "path", "coupling", "times", "grid", "target", "solver")
    changes = {name: getattr(plain, name) for name in names}
    return build_policy(replace(policy.config, type="ddpm", manifold="Euclidean", **changes), policy.spec)


def _compiling(calls: dict[tuple[str, int, int], Call]) -> dict[str, float]:
    """Seconds to the first compiled chunk of each batch size: later ones share the function."""
    seconds: dict[str, float] = {}
    for (way, _, batch), call in calls.items():
        if way == "compiled" and str(batch) not in seconds:
            begin = time.perf_counter()
            call()
            seconds[str(batch)] = time.perf_counter() - begin
    return seconds


def _onnx(policy: Policy, nfe: int, weights: str, path: Path, threads: int) -> Call:
    import onnxruntime

    sampler = ChunkSampler(policy, nfe)
    export(policy, path, nfe)
    if weights == "int8":  # how far it moves chunks is not asked here
        shrink(path, sampler.outputs)
    feeds = {name: x.numpy() for name, x in zip(["noise", *sampler.names], sampler.example(), strict=True)}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feeds)


def _interleaved(
    calls: dict[tuple[str, int, int], Call], repeats: int, device: str
) -> dict[tuple[str, int, int], tuple[list[float], list[float]]]:
    """Milliseconds of each cell's first and further calls, in rounds: what else the machine does meets all alike."""
    times: dict[tuple[str, int, int], tuple[list[float], list[float]]] = {cell: ([], []) for cell in calls}
    for round_ in bar(range(repeats + 2), desc="bench sample", unit="round"):
        for cell, call in calls.items():
            first, again = times[cell]
            for taken in [first, *[again] * AGAIN]:
                begin = time.perf_counter()
                call()
                if device.startswith("cuda"):
                    torch.cuda.synchronize(device)
                if round_ >= 2:  # the first rounds warm up, compile and capture
                    taken.append(1e3 * (time.perf_counter() - begin))
    return times


def _precision(policy: Policy, device: str, count: int = 64) -> dict[str, dict[str, float]]:
    """How far chunks of less exact arithmetic are from those of float64: root mean squares of [m] and [rad]."""
    sampler = ChunkSampler(policy)
    inputs = tuple(x.to(device) for x in sampler.example(count))
    kind = device.partition(":")[0]
    ways: dict[str, AbstractContextManager[Any]] = {
        "float32": nullcontext(),
        "bfloat16 network": torch.autocast(kind, torch.bfloat16),
    }
    with torch.no_grad():
        exact = sampler.double()(*(x.double() for x in inputs))
        sampler.float()
        found = {}
        for name, way in ways.items():
            with way:
                found[name] = sampler(*inputs)
        if kind == "cuda":
            before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("high")
            found["TF32"] = sampler(*inputs)
            torch.set_float32_matmul_precision(before)
    return {name: _apart(chunk.double(), exact) for name, chunk in found.items()}


def _apart(chunk: Tensor, exact: Tensor) -> dict[str, float]:
    xi = se3.minus(chunk[..., :7], exact[..., :7])
    turn = so3.minus(chunk[..., 3:7], exact[..., 3:7])
    way = (chunk[..., :3] - exact[..., :3]).square().sum(-1)
    return {
        "position_m": float(way.mean().sqrt()),
        "rotation_rad": float(turn.square().sum(-1).mean().sqrt()),
        "largest": float(xi.abs().max()),
    }


def _floor(policy: Policy) -> dict[str, float]:
    """What an evaluation of one chunk cannot go below: its weights must be read once."""
    size = sum(x.numel() * x.element_size() for x in policy.net.parameters())
    data = torch.zeros(size // 4, device=policy.length.device)
    taken = []
    for _ in range(50):
        begin = time.perf_counter()
        data.sum().item()
        taken.append(time.perf_counter() - begin)
    return {"weights_mb": size / 1e6, "read_gb_s": size / min(taken) / 1e9, "evaluation_ms": 1e3 * min(taken)}
