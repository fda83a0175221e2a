"""Files of a LeRobot dataset, of limited size each, that grow by an episode; an episode is never cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from geoflow.data.formats.lerobot.layout import EPISODES_PATH, VIDEO_PATH
from geoflow.data.formats.videos import Writer

CHUNK, DATA_MB, VIDEO_MB = 1000, 100, 200
"""Files of a folder, and about how large one becomes."""
VIDEO_RATIO = 50
"""About how much smaller film is than its frames: what ffmpeg has on disk by now depends on the clock."""


@dataclass
class Place:
    """Chunk and file, one after the other."""

    chunk: int = 0
    file: int = 0

    def next(self) -> None:
        self.chunk, self.file = divmod(self.chunk * CHUNK + self.file + 1, CHUNK)

    def values(self) -> dict[str, int]:
        return {"chunk_index": self.chunk, "file_index": self.file}


class Parquet:
    """Rows over files of a limited size; an episode is never cut."""

    def __init__(self, root: Path, template: str, features: Mapping[str, Any]) -> None:
        import pyarrow as pa

        self._root, self._template, self._features = root, template, features
        types = {key: self._type(feature) for key, feature in features.items() if feature["dtype"] != "video"}
        self._schema = pa.schema(list(types.items()))
        self._place = Place()
        self._size = 0
        self._writer: Any = None

    def place(self) -> tuple[int, int]:
        """(chunk, file) of what is appended next."""
        if self._size > DATA_MB * 1e6:
            self.close()
            self._place.next()
            self._size = 0
        return self._place.chunk, self._place.file

    def append(self, rows: Mapping[str, np.ndarray]) -> None:
        """Add an episode."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._writer is None:
            path = self._root / self._template.format(**self._place.values())
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(path, self._schema, compression="snappy")
        table = pa.table([self._array(key, rows[key]) for key in self._schema.names], schema=self._schema)
        self._writer.write_table(table)
        self._size += table.nbytes

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _type(self, feature: Mapping[str, Any]) -> Any:
        import pyarrow as pa

        if feature["dtype"] == "image":
            return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        value = pa.bool_() if feature["dtype"] == "bool" else getattr(pa, feature["dtype"])()
        # A single number is no list: so LeRobot wants it.
        for size in [] if feature["shape"] == [1] else feature["shape"][::-1]:
            value = pa.list_(value, size)
        return value

    def _array(self, key: str, x: np.ndarray) -> Any:
        import pyarrow as pa

        kind = self._schema.field(key).type
        if self._features[key]["dtype"] == "image":
            return pa.array([{"bytes": _png(image), "path": None} for image in x], kind)
        column = pa.array(np.ascontiguousarray(x).reshape(-1))
        for size in [] if self._features[key]["shape"] == [1] else self._features[key]["shape"][::-1]:
            column = pa.FixedSizeListArray.from_arrays(column, size)
        return column


def _png(image: np.ndarray) -> bytes:
    import imageio.v3 as imageio

    return imageio.imwrite("<bytes>", image[..., 0] if image.shape[-1] == 1 else image, extension=".png")


@dataclass
class Lines:
    """meta/episodes, written a hundred lines at a time."""

    root: Path
    waiting: list[dict[str, Any]] = field(default_factory=list)
    writer: Any = None

    def append(self, line: dict[str, Any]) -> None:
        """Add the line of an episode."""
        self.waiting.append(line | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0})
        if len(self.waiting) >= 100:
            self._flush()

    def close(self) -> None:
        """Finish the file."""
        self._flush()
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self.waiting:
            return
        if self.writer is None:
            table = pa.Table.from_pylist(self.waiting)
            path = self.root / EPISODES_PATH.format(chunk_index=0, file_index=0)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.writer = pq.ParquetWriter(path, table.schema, compression="snappy")
        else:
            table = pa.Table.from_pylist(self.waiting, schema=self.writer.schema)
        self.writer.write_table(table)
        self.waiting = []


@dataclass
class Film:
    """The videos of one camera, over files of a limited size; an episode is never cut."""

    root: Path
    key: str
    rate: float
    place: Place = field(default_factory=Place)
    writer: Writer | None = None

    def append(self, frames: np.ndarray) -> dict[str, Any]:
        """Add an episode; where it is, for meta/episodes."""
        if self.writer is not None and self.writer.frames * frames[0].nbytes > VIDEO_MB * 1e6 * VIDEO_RATIO:
            self.close()
            self.place.next()
        if self.writer is None:
            path = self.root / VIDEO_PATH.format(video_key=self.key, **self.place.values())
            self.writer = Writer(path, frames.shape[1:], self.rate)
        start = self.writer.frames
        self.writer.append(frames)
        values = {
            **self.place.values(),
            "from_timestamp": start / self.rate,
            "to_timestamp": self.writer.frames / self.rate,
        }
        return {f"videos/{self.key}/{name}": x for name, x in values.items()}

    def close(self) -> None:
        """Finish the file."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None
