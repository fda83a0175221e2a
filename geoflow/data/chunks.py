"""Chunks: windows of demonstrations, (observations up to now, the next T actions), drawn from a memory map."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geoflow.data.demonstrations import DemonstrationError, Demonstrations, Episode, Meta

WINDOWS = ("whole", "begun")


@dataclass(frozen=True)
class Batch:
    """Observations and the chunks that follow them.

    Attributes:
        obs: name -> (B, To, d), the present observation last.
        actions: (B, T, 7 n + k), world frame: position [m] and quaternion wxyz of each of n arms, extras.
        counts: (B, T) bool, the actions that are to be learned; None: all.
    """

    obs: dict[str, Tensor]
    actions: Tensor
    counts: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on ``device``."""
        counts = None if self.counts is None else self.counts.to(device)
        return Batch({name: x.to(device) for name, x in self.obs.items()}, self.actions.to(device), counts)


class Chunks:
    """Windows of one demonstration file, or of several, and which of their actions are to be learned.

    What the expert does after a disturbance answers it, and nobody could know before. So a window is either left out
    unless it is undisturbed ("whole"), or it is there, and of its actions count those up to the first disturbed step
    ("begun"; what is recorded at that step is still the expert's): long chunks have few windows of the first kind.

    The files' rows are copied once into unnamed temporary files and mapped into memory from there: the
    operating system keeps in memory what is in use, and what a batch costs does not depend on the files' size.

    At the end of an episode the last action is repeated; before its beginning, the first observation.

    Several files may be of several tasks. An observation that is recorded in some of them only is not there in
    the others' windows: NaN, or an empty text. (Pictures have no such number, and must be in all files or none.)

    Args:
        paths: The demonstration file or files.
        horizon: T, actions in a chunk.
        observation_steps: To, observations in a window.
        observations: Names of those to read; all by default.
        windows: "whole" or "begun".

    Raises:
        ValueError: other windows.
        DemonstrationError: a file cannot be used, or not beside the first: another control rate, other actions,
            or another kind or shape of an observation of the same name; or pictures are bytes in some only.
    """

    def __init__(
        self,
        paths: Path | str | Sequence[Path | str],
        horizon: int,
        observation_steps: int = 1,
        observations: Sequence[str] = (),
        windows: str = "whole",
    ) -> None:
        if windows not in WINDOWS:
            raise ValueError(f"windows={windows!r}; expected one of {', '.join(WINDOWS)}.")
        self.windows = windows
        self.horizon, self.observation_steps = horizon, observation_steps
        self.paths = (Path(paths),) if isinstance(paths, (Path, str)) else tuple(map(Path, paths))
        self.metas, self.kinds, self.shapes = _together(self.paths)
        self.texts: dict[str, set[str]] = {name: set() for name, kind in self.kinds.items() if kind == "text"}
        """Every text that was recorded, by observation."""
        read = [name for name in self.kinds if name in observations or not observations]
        self._require_pictures(read)
        self._files = {name: _Rows(name) for name in (*(f"obs/{name}" for name in read), "actions")}
        starts, first, last, until = [], [], [], []
        rows = episodes = 0
        for path in self.paths:
            with Demonstrations(path, read) as demonstrations:
                episodes += len(demonstrations)
                for episode in demonstrations:
                    n = len(episode.actions)
                    self._append(episode, read)
                    after = _undisturbed(episode.disturbed)
                    # Beyond the end of an episode there is no disturbance.
                    used = np.flatnonzero(
                        (after >= horizon) | (np.arange(n) + after == n) | (windows == "begun")
                    )
                    starts.append(rows + used)
                    first.append(np.full(len(used), rows))
                    last.append(np.full(len(used), rows + n - 1))
                    until.append(np.where(used + after[used] == n, horizon, after[used] + 1))
                    rows += n
        self._rows = {name: file.map() for name, file in self._files.items()}
        self._start, self._first, self._last, self._until = map(np.concatenate, (starts, first, last, until))
        if len(self._start) == 0:
            raise DemonstrationError(
                f"{', '.join(map(str, self.paths))}: no window of {horizon} undisturbed actions in {episodes} "
                "demonstrations; collect with a smaller --collect.disturbance, or train with a smaller "
                "--policy.horizon or with --train.windows begun."
            )

    @property
    def dtypes(self) -> dict[str, str]:
        """Whether pictures are "uint8", 0 to 255, or "float32", of those that are read."""
        return {
            name: str(self._rows[f"obs/{name}"].dtype)
            for name, kind in self.kinds.items()
            if kind == "image" and f"obs/{name}" in self._rows
        }

    def _append(self, episode: Episode, names: Sequence[str]) -> None:
        """Write the rows of an episode, with what is not there in the places of what was not recorded."""
        n = len(episode.actions)
        self._files["actions"].append(episode.actions)
        for name in names:
            x = episode.obs.get(name)
            if x is None:
                text = self.kinds[name] == "text"
                x = np.full((n, *self.shapes[name]), 0 if text else np.nan, np.uint8 if text else np.float32)
            elif name in self.texts:
                self.texts[name] |= {
                    bytes(row).rstrip(b"\0").decode(errors="replace") for row in np.unique(x, axis=0)
                }
            self._files[f"obs/{name}"].append(x)

    def _require_pictures(self, names: Sequence[str]) -> None:
        for name in names:
            without = [
                path
                for path, meta in zip(self.paths, self.metas, strict=True)
                if name not in meta.observation_kinds
            ]
            if self.kinds[name] == "image" and without:
                raise DemonstrationError(
                    f"{without[0]} has no pictures {name!r}, which another of the files has; collect all with the "
                    "same cameras, or name other observations in policy.observations."
                )

    def __len__(self) -> int:
        return len(self._start)

    @property
    def action_dim(self) -> int:
        """7 n + k."""
        return self._rows["actions"].shape[1]

    def batch(self, indices: np.ndarray, observations: Collection[str] | None = None) -> Batch:
        """The windows ``indices`` (B,), with these observations; with all of them by default."""
        start, first, last = self._start[indices, None], self._first[indices, None], self._last[indices, None]
        past = np.maximum(start - np.arange(self.observation_steps)[::-1], first)
        future = np.minimum(start + np.arange(self.horizon), last)
        rows = {name.removeprefix("obs/"): x for name, x in self._rows.items() if name != "actions"}
        names = rows if observations is None else observations
        obs = {name: torch.from_numpy(rows[name][past]) for name in names}
        counts = None
        if self.windows == "begun":
            counts = torch.from_numpy(np.arange(self.horizon) < self._until[indices, None])
        return Batch(obs, torch.from_numpy(self._rows["actions"][future]), counts)

    def sample(self, count: int, seed: int = 0) -> Batch:
        """``count`` windows drawn without replacement (all, where there are fewer), for statistics."""
        order = np.random.default_rng(seed).permutation(len(self))[:count]
        return self.batch(np.sort(order))

    def pieces(self, size: int, observations: Collection[str]) -> Iterator[Batch]:
        """All windows in order, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))), observations)

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


def _together(
    paths: Sequence[Path],
) -> tuple[tuple[Meta, ...], dict[str, str], dict[str, tuple[int, ...]]]:
    """What the files say of themselves, and kind and shape of all their observations, if they go together."""
    metas: list[Meta] = []
    kinds: dict[str, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    actions: tuple[int, ...] = ()
    for path in paths:
        with Demonstrations(path) as demonstrations:
            meta, widths = demonstrations.meta, demonstrations.shapes
        actions = actions or widths["actions"]
        if widths["actions"] != actions:
            raise DemonstrationError(
                f"{path} has actions of shape {widths['actions']}, {paths[0]} of {actions}; one policy gives actions "
                "of one shape: train on files of the same robot."
            )
        if metas:
            meta.expect(control_hz=metas[0].control_hz, arms=metas[0].arms, where=str(path))
        metas.append(meta)
        for name, kind in meta.observation_kinds.items():
            found, known = (kind, widths[f"obs/{name}"]), (kinds.get(name), shapes.get(name))
            if name in kinds and found != known:
                raise DemonstrationError(
                    f"{path} has {name!r} as {found[0]} of shape {found[1]}, another of the files as {known[0]} of "
                    f"shape {known[1]}; an observation has one kind and shape: collect again with the same options."
                )
            kinds[name], shapes[name] = found
    return tuple(metas), kinds, shapes


def _undisturbed(disturbed: np.ndarray) -> np.ndarray:
    """How many steps from each on are undisturbed, until the first that is not or the end."""
    stops = np.append(np.flatnonzero(disturbed), len(disturbed))
    steps = np.arange(len(disturbed))
    return stops[np.searchsorted(stops, steps)] - steps


class _Rows:
    """Rows appended to an unnamed temporary file, mapped into memory when complete."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as its memory map)
        self._shape: tuple[int, ...] = ()
        self._dtype = np.dtype(np.float32)
        self._count = 0

    def append(self, rows: np.ndarray) -> None:
        dtype = np.dtype(np.uint8 if rows.dtype == np.uint8 else np.float32)
        if self._count and dtype != self._dtype:
            raise DemonstrationError(
                f"{self._name} is {self._dtype} in some demonstrations and {rows.dtype} in others; a policy sees "
                "pictures of one kind, bytes or numbers: collect all in the same way."
            )
        self._shape, self._dtype = rows.shape[1:], dtype
        self._file.write(np.ascontiguousarray(rows, self._dtype).tobytes())
        self._count += len(rows)

    def map(self) -> np.memmap:
        self._file.flush()
        return np.memmap(self._file, self._dtype, "r", shape=(self._count, *self._shape))
