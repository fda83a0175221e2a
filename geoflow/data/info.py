"""What a demonstration file holds, in words: one pass over its episodes, one in memory at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geoflow.data.demonstrations import Demonstrations


def describe(path: Path | str) -> str:
    """A description for people. Every episode is read, and so checked.

    Raises:
        DemonstrationError: the file, or an episode of it, cannot be used.
    """
    with Demonstrations(path) as demonstrations:
        meta = demonstrations.meta
        lengths, disturbed, seeds = [], 0, []
        low, high = np.full(3, np.inf), np.full(3, -np.inf)
        shapes: dict[str, tuple[int, ...]] = {}
        for episode in demonstrations:
            lengths.append(len(episode))
            seeds.append(episode.seed)
            disturbed += int(episode.disturbed.sum())
            position = episode.actions[:, : 7 * meta.arms].reshape(-1, 7)[:, :3]
            low, high = np.minimum(low, position.min(0)), np.maximum(high, position.max(0))
            shapes = {name: x.shape[1:] for name, x in episode.obs.items()} | {
                "actions": episode.actions.shape[1:]
            }
    steps = sum(lengths)
    kinds = {
        **meta.observation_kinds,
        "actions": "pose + extras" if meta.arms == 1 else f"{meta.arms} poses + extras",
    }
    lines = {
        "file": f"{path}, {Path(path).stat().st_size / 1e6:.1f} MB",
        "task": f"{meta.env_id} {dict(meta.env_kwargs) or ''} at {meta.control_hz:g} Hz",
        "demonstrations": f"{len(lengths)}, {steps} steps, {steps / meta.control_hz / 60:.1f} min",
        "steps of one": f"{min(lengths)} to {max(lengths)}, median {int(np.median(lengths))}",
        "attempts": f"{meta.attempts}" + "".join(f", {kind} {n}" for kind, n in meta.failures.items()),
        "disturbed": f"{100 * disturbed / steps:.1f} % of the steps",
        "seeds": f"{min(seeds)} to {max(seeds)}",
        "positions [m]": "  ".join(
            f"{axis} {a:.3f} to {b:.3f}" for axis, a, b in zip("xyz", low, high, strict=True)
        ),
        **{f"  {name}": f"{kinds[name]} {shape}" for name, shape in shapes.items()},
        "settings": ", ".join(f"{key} {x}" for key, x in meta.settings.items()),
        "versions": ", ".join(f"{key} {x}" for key, x in meta.versions.items()),
    }
    width = max(map(len, lines)) + 2
    return "\n".join(f"{key:<{width}}{value}" for key, value in lines.items())
