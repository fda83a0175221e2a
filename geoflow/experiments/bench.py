"""Time and error of the group operations: what a pose costs, forward and backward, and how exact float32 is."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from geoflow.data.atomic import write_text
from geoflow.experiments.progress import bar
from geoflow.experiments.provenance import provenance
from geoflow.lie import se3

Inputs = dict[str, Tensor]
OPERATIONS: dict[str, Callable[[Inputs], tuple[Tensor, ...]]] = {
    "exp": lambda i: (se3.exp(i["twist"]),),
    "log": lambda i: (se3.log(i["start"]),),
    "compose": lambda i: (se3.compose(i["start"], i["end"]),),
    "inverse": lambda i: (se3.inverse(i["start"]),),
    "geodesic": lambda i: se3.geodesic(i["start"], i["end"], i["time"]),
}
"""Row-major tensors in, row-major tensors out; nothing else is inside the clock."""


def bench_lie(out: Path, batch: int = 4096, repeats: int = 50, seed: int = 0, device: str = "cpu") -> Path:
    """Time each operation and write the medians, with their error against float64, as JSON.

    Args:
        out: The JSON file.
        batch: Poses in a batch.
        repeats: Timed calls.
        seed: Of the poses: Haar rotations and positions within 1 m.
        device: Where.
    """
    generator = torch.Generator().manual_seed(seed)
    start, end = (se3.random_uniform(batch, generator=generator).to(device) for _ in range(2))
    times = torch.rand(batch, generator=generator).to(device)
    inputs = {"start": start, "end": end, "twist": se3.log(end), "time": times}
    records = []
    for name, operation in bar(OPERATIONS.items(), desc="bench lie", unit="operation"):
        leaves = {key: x.clone().requires_grad_() for key, x in inputs.items()}

        def backward(
            operation: Callable[[Inputs], tuple[Tensor, ...]] = operation, leaves: Inputs = leaves
        ) -> None:
            for x in leaves.values():
                x.grad = None
            outputs = operation(leaves)
            torch.autograd.backward(outputs, [torch.ones_like(y) for y in outputs])

        def forward(operation: Callable[[Inputs], tuple[Tensor, ...]] = operation) -> None:
            operation(inputs)

        exact = operation({key: x.double() for key, x in inputs.items()})
        pairs = zip(operation(inputs), exact, strict=True)
        records.append(
            {
                "operation": name,
                "batch": batch,
                "forward_us": _microseconds(forward, repeats, device),
                "forward_backward_us": _microseconds(backward, repeats, device),
                "error": max(float((found.double() - true).abs().max()) for found, true in pairs),
            }
        )
    write_text(out, json.dumps({**provenance(device), "device": device, "records": records}, indent=1) + "\n")
    print(
        f"{'operation':<12}{'forward':>12}{'+ backward':>14}{'float32 error':>16}   (batch {batch}, {device})"
    )
    for r in records:
        spent = f"{r['forward_us']:>9.0f} us{r['forward_backward_us']:>11.0f} us"
        print(f"{r['operation']:<12}{spent}{r['error']:>16.1e}")
    return out


def _microseconds(call: Callable[[], None], repeats: int, device: str) -> float:
    """Median time of a call, after some that warm up."""
    times = []
    for i in range(repeats + 5):
        _synchronise(device)
        begin = time.perf_counter()
        call()
        _synchronise(device)
        if i >= 5:
            times.append(1e6 * (time.perf_counter() - begin))
    return statistics.median(times)


def _synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
