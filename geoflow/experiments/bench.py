"""Time and error of the group operations: what a pose costs, forward and backward, and how exact float32 is."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from geoflow.data.atomic import write_text
from geoflow.experiments.provenance import provenance
from geoflow.lie import se3

OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "exp": lambda xi, eta: se3.exp(xi),
    "log": lambda xi, eta: se3.log(se3.exp(xi)),
    "compose": lambda xi, eta: se3.compose(se3.exp(xi), se3.exp(eta)),
    "inverse": lambda xi, eta: se3.inverse(se3.exp(xi)),
}
"""Of two twists; log, compose and inverse act on poses that exp makes, and their times include it."""


def bench_lie(out: Path, batch: int = 4096, repeats: int = 50, seed: int = 0, device: str = "cpu") -> Path:
    """Time each operation and write the medians, with their error against float64, as JSON.

    Args:
        out: The JSON file.
        batch: Poses in a batch.
        repeats: Timed calls.
        seed: Of the twists: normal, 1 m and 1 rad wide.
        device: Where.
    """
    generator = torch.Generator().manual_seed(seed)
    exact = torch.randn(2, batch, 6, generator=generator, dtype=torch.float64).to(device)
    records = []
    for name, operation in tqdm(OPERATIONS.items(), desc="bench lie", unit="operation"):
        twists = exact.float().requires_grad_()

        def backward(operation: Callable[[Tensor, Tensor], Tensor] = operation, x: Tensor = twists) -> None:
            x.grad = None
            operation(x[0], x[1]).sum().backward()

        def forward(operation: Callable[[Tensor, Tensor], Tensor] = operation, x: Tensor = twists) -> None:
            with torch.no_grad():
                operation(x[0], x[1])

        with torch.no_grad():
            error = operation(*exact.float()).double() - operation(*exact.float().double())
        records.append(
            {
                "operation": name,
                "batch": batch,
                "forward_us": _microseconds(forward, repeats, device),
                "forward_backward_us": _microseconds(backward, repeats, device),
                "error": float(error.abs().max()),
            }
        )
    write_text(out, json.dumps({**provenance(device), "device": device, "records": records}, indent=1) + "\n")
    print(
        f"{'operation':<12}{'forward':>12}{'+ backward':>14}{'float32 error':>16}   (batch {batch}, {device})"
    )
    for r in records:
        times = f"{r['forward_us']:>9.0f} us{r['forward_backward_us']:>11.0f} us"
        print(f"{r['operation']:<12}{times}{r['error']:>16.1e}")
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
