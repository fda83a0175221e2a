"""Chunks: windows of demonstrations, (observations up to now, the next T actions), drawn from a memory map."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geoflow.data.demonstrations import DemonstrationError, Demonstrations


@dataclass(frozen=True)
class Batch:
    """Observations and the chunks that follow them.

    Attributes:
        obs: name -> (B, To, d), the present observation last.
        actions: (B, T, 7 + k), world frame: position [m], quaternion wxyz, extras.
    """

    obs: dict[str, Tensor]
    actions: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on ``device``."""
        return Batch({name: x.to(device) for name, x in self.obs.items()}, self.actions.to(device))


class Chunks:
    """Every window of a demonstration file whose actions are the undisturbed expert's.

    The file's rows are copied once into an unnamed temporary file and mapped into memory from there: the
    operating system keeps in memory what is in use, and what a batch costs does not depend on the file's size.

    At the end of an episode the last action is repeated; before its beginning, the first observation.

    Args:
        path: The demonstration file.
        horizon: T, actions in a chunk.
        observation_steps: To, observations in a window.
    """

    def __init__(self, path: Path | str, horizon: int, observation_steps: int = 1) -> None:
        self.horizon, self.observation_steps = horizon, observation_steps
        with Demonstrations(path) as demonstrations:
            self.meta = demonstrations.meta
            starts, first, last = [], [], []
            rows = 0
            self._files: dict[str, _Rows] = {}
            for episode in demonstrations:
                columns = {f"obs/{name}": x for name, x in episode.obs.items()} | {"actions": episode.actions}
                for name, x in columns.items():
                    self._files.setdefault(name, _Rows()).append(x)
                n = len(episode.actions)
                clean = _clean_starts(episode.disturbed, horizon)
                starts.append(rows + clean)
                first.append(np.full(len(clean), rows))
                last.append(np.full(len(clean), rows + n - 1))
                rows += n
        self._rows = {name: file.map() for name, file in self._files.items()}
        self._start, self._first, self._last = (np.concatenate(x) for x in (starts, first, last))
        if len(self._start) == 0:
            raise DemonstrationError(
                f"{path}: no window of {horizon} undisturbed actions in {len(demonstrations)} demonstrations; "
                "collect with a smaller --collect.disturbance, or train with a smaller --policy.horizon."
            )

    def __len__(self) -> int:
        return len(self._start)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one observation, by name."""
        return {name[4:]: x.shape[1:] for name, x in self._rows.items() if name.startswith("obs/")}

    @property
    def action_dim(self) -> int:
        """7 + k."""
        return self._rows["actions"].shape[1]

    def batch(self, indices: np.ndarray) -> Batch:
        """The windows ``indices`` (B,)."""
        start, first, last = self._start[indices, None], self._first[indices, None], self._last[indices, None]
        past = np.maximum(start - np.arange(self.observation_steps)[::-1], first)
        future = np.minimum(start + np.arange(self.horizon), last)
        obs = {name: torch.from_numpy(self._rows[f"obs/{name}"][past]) for name in self.shapes}
        return Batch(obs, torch.from_numpy(self._rows["actions"][future]))

    def sample(self, count: int, seed: int = 0) -> Batch:
        """``count`` windows drawn without replacement (all, where there are fewer), for statistics."""
        order = np.random.default_rng(seed).permutation(len(self))[:count]
        return self.batch(np.sort(order))

    def shuffled(self, step: int, batch_size: int, seed: int) -> np.ndarray:
        """Indices (batch_size,) of optimiser step ``step``: epochs of permutations that depend on the seed alone.

        A pure function of its arguments, so a resumed training draws what an uninterrupted one would have.
        """
        position = step * batch_size + np.arange(batch_size)
        epochs = {int(e): self._permutation(int(e), seed) for e in np.unique(position // len(self))}
        return np.array([epochs[p // len(self)][p % len(self)] for p in position])

    def _permutation(self, epoch: int, seed: int) -> np.ndarray:
        cached = getattr(self, "_epochs", {})
        if (epoch, seed) not in cached:
            order = np.random.default_rng([seed, epoch]).permutation(len(self))
            # Only the epoch before may still be asked for: a batch straddles two at most.
            cached = {key: x for key, x in cached.items() if key[0] >= epoch - 1} | {(epoch, seed): order}
            self._epochs = cached
        return cached[epoch, seed]


def _clean_starts(disturbed: np.ndarray, horizon: int) -> np.ndarray:
    """Steps from which ``horizon`` actions (or all that are left) are undisturbed."""
    n = len(disturbed)
    before = np.concatenate([[0], np.cumsum(disturbed)])
    start = np.arange(n)
    return start[before[np.minimum(start + horizon, n)] == before[start]]


class _Rows:
    """Rows appended to an unnamed temporary file, mapped into memory when complete."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as its memory map)
        self._shape: tuple[int, ...] = ()
        self._dtype = np.dtype(np.float32)
        self._count = 0

    def append(self, rows: np.ndarray) -> None:
        self._shape = rows.shape[1:]
        self._dtype = np.dtype(np.uint8 if rows.dtype == np.uint8 else np.float32)
        self._file.write(np.ascontiguousarray(rows, self._dtype).tobytes())
        self._count += len(rows)

    def map(self) -> np.memmap:
        self._file.flush()
        return np.memmap(self._file, self._dtype, "r", shape=(self._count, *self._shape))
