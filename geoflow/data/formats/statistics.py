"""Minimum, maximum, mean, deviation and quantiles of an episode, and of all: what LeRobot normalises with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
IMAGES = 100
"""Frames of an episode that are looked at."""

Statistics = dict[str, np.ndarray]


def of_rows(x: np.ndarray) -> Statistics:
    """Of numbers (N,) or (N, ...), each shape (1,) or (...), and the count (1,)."""
    return _of((x[:, None] if x.ndim == 1 else x).astype(np.float64), len(x))


def of_images(x: np.ndarray) -> Statistics:
    """Of uint8 images (N, H, W, C) in [0, 1], each shape (C, 1, 1), and the count (1,); of evenly spaced frames."""
    frames = x[np.unique(np.linspace(0, len(x) - 1, min(len(x), IMAGES)).astype(int))]
    found = _of(frames.reshape(-1, x.shape[-1]) / 255.0, len(frames))
    return {name: v if name == "count" else v[:, None, None] for name, v in found.items()}


def _of(x: np.ndarray, count: int) -> Statistics:
    quantiles = np.quantile(x, QUANTILES, axis=0)
    return {
        "min": x.min(0),
        "max": x.max(0),
        "mean": x.mean(0),
        "std": x.std(0),
        "count": np.array([count]),
        **{f"q{round(100 * q):02d}": value for q, value in zip(QUANTILES, quantiles, strict=True)},
    }


class Total:
    """Of all episodes: mean and deviation exact, quantiles the weighted mean of the episodes', as LeRobot has them."""

    def __init__(self) -> None:
        self._found: dict[str, Statistics] = {}

    def add(self, episode: Mapping[str, Statistics]) -> None:
        """Take an episode in."""
        for key, new in episode.items():
            self._found[key] = _join(self._found[key], new) if key in self._found else new

    def to_lists(self) -> dict[str, dict[str, list]]:
        """As JSON has it."""
        return {key: {name: x.tolist() for name, x in found.items()} for key, found in self._found.items()}


def _join(a: Statistics, b: Statistics) -> Statistics:
    """Chan, Golub and LeVeque's update of mean and variance."""
    n, m = float(a["count"][0]), float(b["count"][0])
    share = m / (n + m)
    step = b["mean"] - a["mean"]
    variance = (1 - share) * a["std"] ** 2 + share * b["std"] ** 2 + share * (1 - share) * step**2
    return {
        "min": np.minimum(a["min"], b["min"]),
        "max": np.maximum(a["max"], b["max"]),
        "mean": a["mean"] + share * step,
        "std": np.sqrt(variance),
        "count": a["count"] + b["count"],
        **{name: a[name] + share * (b[name] - a[name]) for name in a if name[0] == "q"},
    }
