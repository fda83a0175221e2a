"""Diffusion Policy's ReplayBuffer, a zarr folder: data/<name> over all steps, meta/episode_ends (E,).

github.com/real-stanford/diffusion_policy, common/replay_buffer.py: data/action, data/<observation>, episode i holds the
rows from episode_ends[i-1] up to episode_ends[i]. A pose NAME is written NAME_pos and NAME_quat (xyzw), as in its
robomimic tasks. Written as zarr format 2, which its zarr 2 reads; folders and .zip files of formats 2 and 3 are read.

Arrays of objects are refused before zarr sees them: to decode them is to unpickle them.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from geoflow.data.demonstrations import DemonstrationError, Episode, Meta
from geoflow.data.formats import header, observations
from geoflow.data.formats.actions import Actions
from geoflow.data.formats.folders import replacing_folder
from geoflow.data.formats.recording import Hints, Recording

CHUNK_BYTES = 2_000_000
"""About the size of a chunk before compression, as Diffusion Policy chooses it."""
CODECS = {
    "blosc",
    "zlib",
    "gzip",
    "zstd",
    "lz4",
    "bz2",
    "lzma",
    "bytes",
    "crc32c",
    "shuffle",
    "delta",
    "transpose",
}
"""What is decoded; numbers in, numbers out."""
UNREADABLE = (
    KeyError,
    ValueError,
    OSError,
    TypeError,
    AttributeError,
    RuntimeError,
    SystemError,
    MemoryError,
)
"""What zarr and its codecs raise for damaged arrays."""
ACTION, DISTURBED = "action", "disturbed"


def recognises(path: Path) -> bool:
    """Whether this is a zarr folder or .zip with data/ and meta/episode_ends."""
    names = (".zarray", "zarr.json")
    if path.is_dir():
        return any((path / "meta" / "episode_ends" / name).is_file() for name in names)
    if path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            return any(f"meta/episode_ends/{name}" in file.namelist() for name in names)
    return False


@contextmanager
def read(path: Path, hints: Hints) -> Iterator[Recording]:
    """Open a replay buffer.

    Raises:
        DemonstrationError: damaged, without actions, or with arrays that would have to be unpickled.
    """
    _require_python()
    import zarr
    from zarr.storage import LocalStore, ZipStore

    _refuse_objects(path)
    store: Any = ZipStore(path, mode="r") if path.is_file() else LocalStore(path, read_only=True)
    try:
        try:
            root = zarr.open_group(store, mode="r")
            ends = np.asarray(root["meta/episode_ends"], np.int64)
            columns: dict[str, Any] = dict(root["data"].arrays())  # type: ignore[union-attr]
        except UNREADABLE as error:
            raise _damaged(path, error) from error
        if ACTION not in columns:
            raise DemonstrationError(
                f"{path} has no data/{ACTION}, but {', '.join(columns) or 'nothing'}; geoflow reads replay buffers "
                "that hold actions."
            )
        text = root.attrs.get(header.KEY)
        known = None if text is None else header.from_json(str(text), str(path))
        hints = hints.for_own(known is not None)
        _check_lengths(path, ends, columns, complete=known is not None)
        episodes = _Episodes(path, ends, columns, known, hints)
        yield Recording(episodes.meta, known.actions if known else None, episodes, own=known is not None)
    finally:
        store.close()


class _Episodes:
    """The episodes of an open buffer, as often as they are asked for."""

    def __init__(
        self,
        path: Path,
        ends: np.ndarray,
        columns: Mapping[str, Any],
        known: header.Header | None,
        hints: Hints,
    ) -> None:
        self._path, self._ends = path, ends
        self._known, self._hints = known, hints
        self._blocks = {name: _Block(x) for name, x in columns.items()}
        self.meta = self._meta()

    def __iter__(self) -> Iterator[Episode]:
        for i in range(len(self._ends)):
            where = f"{self._path}, episode {i}"
            rows = self._rows(i)
            actions = rows.pop(ACTION)
            disturbed = rows.pop(DISTURBED, None) if self._known else None
            merged, _ = observations.merge_poses(rows, self.meta.observation_kinds if self._known else None)
            yield Episode(
                obs=observations.adopt(merged, self.meta.observation_kinds, self._hints, where),
                actions=actions,
                disturbed=np.zeros(len(actions), bool) if disturbed is None else disturbed.astype(bool),
                **(self._known.outcome(i) if self._known else {}),
            )

    def _rows(self, index: int) -> dict[str, np.ndarray]:
        start, end = (int(self._ends[index - 1]) if index else 0), int(self._ends[index])
        try:
            return {
                name: block.take(start, end)
                for name, block in self._blocks.items()
                if name not in self._hints.skip or name == ACTION
            }
        except UNREADABLE as error:
            raise _damaged(self._path, error) from error

    def _meta(self) -> Meta:
        where = f"{self._path}, episode 0"
        if self._known is not None:
            self._hints.rate(self._known.meta.control_hz, str(self._path))
            return self._known.meta
        rate = self._hints.rate(None, str(self._path))
        rows = self._rows(0)
        rows.pop(ACTION)
        merged, poses = observations.merge_poses(rows)
        return Meta(
            env_id=self._hints.env_id or "unknown",
            env_kwargs={},
            control_hz=rate,
            observation_kinds=observations.kinds_of(merged, poses, self._hints, where),
            attempts=len(self._ends),
        )


def write(path: Path, meta: Meta, episodes: Iterable[Episode], actions: Actions) -> None:
    """Write a replay buffer, whole or not at all; one episode is held at a time."""
    _require_python()
    import zarr

    with replacing_folder(path) as temporary, zarr.config.set({"array.write_empty_chunks": True}):
        root = zarr.open_group(temporary, mode="w", zarr_format=2)
        data = root.create_group("data")
        ends, outcomes = [], []
        columns: dict[str, _Column] = {}
        for episode in episodes:
            rows = observations.split_poses(episode.obs, meta.observation_kinds)
            clash = {ACTION, DISTURBED} & set(rows)
            if clash:
                raise DemonstrationError(
                    f"observation {min(clash)!r} has the name of another array of the format; rename it."
                )
            rows |= {ACTION: episode.actions, DISTURBED: episode.disturbed}
            for name, x in rows.items():
                if name not in columns:
                    columns[name] = _Column(_create(data, name, x))
                columns[name].append(x)
            ends.append((ends[-1] if ends else 0) + len(episode))
            outcomes.append(header.outcome(episode))
        for column in columns.values():
            column.flush()
        numbers = np.array(ends, np.int64)
        root.create_group("meta").create_array("episode_ends", data=numbers, compressors=None)
        root.attrs[header.KEY] = header.to_json(header.Header(meta, actions, outcomes))


class _Column:
    """Rows written a chunk at a time: an array that grows by less rewrites its last chunk."""

    def __init__(self, array: Any) -> None:
        self._array, self._rows = array, np.zeros(array.shape, array.dtype)

    def append(self, rows: np.ndarray) -> None:
        """Add rows; whole chunks are written."""
        self._rows = np.concatenate([self._rows, rows])
        whole = len(self._rows) - len(self._rows) % self._array.chunks[0]
        if whole:
            self._array.append(self._rows[:whole])
            self._rows = self._rows[whole:]

    def flush(self) -> None:
        """Write what is left."""
        if len(self._rows):
            self._array.append(self._rows)


class _Block:
    """Rows read a chunk at a time: neighbouring episodes share one, which is decoded once."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self._start, self._rows = 0, np.zeros(0)

    def take(self, start: int, end: int) -> np.ndarray:
        """Rows from ``start`` up to ``end``."""
        if not self._start <= start <= end <= self._start + len(self._rows):
            size = self._array.chunks[0]
            self._start = start - start % size
            self._rows = np.asarray(self._array[self._start : end + -end % size])
        return self._rows[start - self._start : end - self._start].copy()


def _require_python() -> None:
    """Raise where zarr 3, whose interface this is, cannot be installed."""
    if sys.version_info < (3, 11):
        raise DemonstrationError(
            "replay buffers of Diffusion Policy need zarr 3, which needs Python 3.11 or later; "
            "convert in such an environment."
        )


def _create(group: Any, name: str, x: np.ndarray) -> Any:
    from numcodecs import Blosc

    row = max(1, x[0].nbytes)
    return group.create_array(
        name,
        shape=(0, *x.shape[1:]),
        chunks=(min(4096, max(1, CHUNK_BYTES // row)), *x.shape[1:]),
        dtype=x.dtype,
        compressors=Blosc(cname="lz4", clevel=5, shuffle=Blosc.NOSHUFFLE),
    )


def _check_lengths(path: Path, ends: np.ndarray, columns: Mapping[str, Any], complete: bool) -> None:
    """Raise unless ends grow and every array has as many rows; of our own files, unless every chunk is there."""
    if ends.ndim != 1 or len(ends) == 0 or ends[0] <= 0 or (np.diff(ends) <= 0).any():
        raise DemonstrationError(
            f"{path}: meta/episode_ends is {ends.tolist()[:5]}...; expected growing numbers of steps."
        )
    for name, x in columns.items():
        if x.shape[0] < ends[-1]:
            raise DemonstrationError(
                f"{path}: data/{name} has {x.shape[0]} rows, but the episodes end at {ends[-1]}; "
                "the buffer is incomplete: copy it again."
            )
        # zarr reads a chunk that is missing as zeros, and other writers leave out chunks of zeros.
        if complete and x.nchunks_initialized < x.nchunks:
            raise DemonstrationError(
                f"{path}: {x.nchunks - x.nchunks_initialized} chunks of data/{name} are missing; copy the buffer again."
            )


def _refuse_objects(path: Path) -> None:
    """Raise unless every array is of numbers and is stored by codecs that only know numbers."""
    for name, text in _descriptions(path):
        try:
            value = json.loads(text)
            kind = str(value.get("dtype", value.get("data_type", "")))
            codecs = [
                *(value.get("filters") or []),
                *(value.get("codecs") or []),
                *([value["compressor"]] if value.get("compressor") else []),
            ]
            names = {str(codec.get("id", codec.get("name"))) for codec in codecs}
        except (ValueError, AttributeError) as error:
            raise _damaged(path, error) from error
        strange = names - CODECS
        if "O" in kind or strange:
            what = f"its codec {min(strange)}" if strange else f"its dtype {kind}"
            raise DemonstrationError(
                f"{path}: {name} cannot be read because of {what}; geoflow decodes arrays of numbers stored with "
                f"{', '.join(sorted(CODECS))}, and unpickles nothing: remove the array, or write it again."
            )


def _descriptions(path: Path) -> Iterator[tuple[str, str]]:
    """(name, JSON) of every array."""
    ends = (".zarray", "zarr.json")
    if path.is_dir():
        for end in ends:
            for file in sorted(path.rglob(end)):
                yield str(file.relative_to(path)), file.read_text(encoding="utf-8", errors="replace")
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(ends):
                    yield name, archive.read(name).decode("utf-8", errors="replace")
    except (zipfile.BadZipFile, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DemonstrationError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return DemonstrationError(f"{path}: cannot be read ({reason}); the buffer is damaged or incomplete.")
