"""How far a policy's chunks are from what the expert did, step by step, on demonstrations it was not trained on.

    geoflow collect --seed 77 --disturbance 0 --episodes 30 --out demos/unseen.h5 ...      # as it was trained on
    python scripts/open_loop_errors.py --run runs/peg_se3 --demos demos/unseen.h5

Nothing is executed, so errors do not add up: what lies far ahead is hard to foresee, and how far decides how much of a
chunk should be executed (``execute``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from geoflow.cli.errors import sentence
from geoflow.data.chunks import Chunks
from geoflow.lie import so3
from geoflow.policies.checkpoint import load_policy
from geoflow.policies.frames import split

BATCH = 64


@dataclass(frozen=True)
class Arguments:
    """What is measured."""

    run: Path
    """A run folder."""
    demos: tuple[Path, ...]
    """Demonstrations of seeds that it was not trained on."""
    windows: int = 256
    """Chunks, drawn at random."""
    nfe: int | None = None
    """Network evaluations a chunk; the policy's own by default."""


def errors(args: Arguments) -> tuple[Tensor, Tensor]:
    """Millimetres and degrees (N, T, arms) between chunks and demonstrations; NaN after the first disturbed step."""
    policy = load_policy(args.run).eval()
    config = policy.config
    names = [*policy.spec.kinds]
    chunks = Chunks(args.demos, config.horizon, config.observation_steps, names, windows="begun")
    batch = chunks.sample(args.windows)
    generator = torch.Generator().manual_seed(0)
    parts = [
        policy.act({name: x[i : i + BATCH] for name, x in batch.obs.items()}, args.nfe, generator=generator)
        for i in range(0, len(batch.actions), BATCH)
    ]
    (found, _), (shown, _) = (split(x, policy.arms) for x in (torch.cat(parts), batch.actions))
    way = 1e3 * (found[..., :3] - shown[..., :3]).norm(dim=-1)
    turn = torch.rad2deg(so3.minus(found[..., 3:], shown[..., 3:]).norm(dim=-1))
    if batch.counts is not None:
        way[~batch.counts], turn[~batch.counts] = torch.nan, torch.nan
    return way, turn


def main(args: Arguments) -> None:
    """Print the table."""
    way, turn = (x.flatten(2).movedim(1, 0).flatten(1) for x in errors(args))
    print(
        "| step | mm, median | 90th percentile | degrees, median | 90th percentile |\n|---|---|---|---|---|"
    )
    for step in sorted({*np.unique(np.geomspace(1, len(way), 8).round().astype(int)), len(way)}):
        row = [float(x[step - 1].nanquantile(q)) for x in (way, turn) for q in (0.5, 0.9)]
        print(f"| {step} | " + " | ".join(f"{value:.3g}" for value in row) + " |")


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments, description=__doc__))
    except (ValueError, OSError) as error:
        raise SystemExit(f"open_loop_errors: {sentence(error)}") from None
