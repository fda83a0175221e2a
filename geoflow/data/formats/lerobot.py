"""LeRobot dataset v3: meta/{info.json, stats.json, tasks.parquet, episodes/}, data/*.parquet, videos/*.mp4.

huggingface.co/docs/lerobot/lerobot-dataset-v3. Many episodes share a file; meta/episodes says which rows of ``index``
are whose. Poses and vectors are written as one ``observation.state`` with a name a number (tcp.x, ..., tcp.qz,
gripper.0), points and the like as features of their own, images as ``observation.images.<name>``: mp4 (H.264, lossy)
where LeRobot's cameras are, which is three channels and even sides, else PNG inside the parquet files, exact. Needs
pyarrow; lerobot itself is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geoflow.data.atomic import write_text
from geoflow.data.demonstrations import DemonstrationError, Episode, Meta
from geoflow.data.formats import header, observations
from geoflow.data.formats.actions import ABSOLUTE, Actions
from geoflow.data.formats.folders import replacing_folder
from geoflow.data.formats.recording import Hints, Recording
from geoflow.data.formats.statistics import Total, of_images, of_rows
from geoflow.data.formats.videos import Frames, Writer

if TYPE_CHECKING:
    import pyarrow

VERSION = "v3.0"
INFO, STATS, TASKS, HEADER = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/geoflow.json"
FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
EPISODES_PATH = f"meta/episodes/{FILE}.parquet"
DATA_PATH = f"data/{FILE}.parquet"
VIDEO_PATH = "videos/{video_key}/" + f"{FILE}.mp4"
CHUNK, DATA_MB, VIDEO_MB = 1000, 100, 200
"""Files of a folder, and about how large one becomes."""
VIDEO_RATIO = 50
"""About how much smaller film is than its frames: what ffmpeg has on disk by now depends on the clock."""
STATE, IMAGES, ACTION, DISTURBED = "observation.state", "observation.images.", "action", "disturbed"
DONE, SUCCESS = "next.done", "next.success"
INDICES = ("timestamp", "frame_index", "episode_index", "index", "task_index")
BATCH, IMAGE_BATCH = 4096, 64
"""Rows decoded at once, without and with images among them."""


def recognises(path: Path) -> bool:
    """Whether this is a dataset folder of LeRobot, of any version."""
    return (path / INFO).is_file()


# Reading.


@contextmanager
def read(path: Path, hints: Hints) -> Iterator[Recording]:
    """Open a dataset.

    Raises:
        DemonstrationError: of another version, damaged, without actions.
    """
    info = _json(path / INFO)
    version = str(info.get("codebase_version"))
    if not version.startswith("v3."):
        raise DemonstrationError(
            f"{path} is a LeRobot dataset {version}; geoflow reads v3: convert it with "
            "python -m lerobot.datasets.v30.convert_dataset_v21_to_v30."
        )
    features = info.get("features", {})
    if ACTION not in features or not {"data_path", "fps"} <= set(info):
        raise DemonstrationError(
            f"{path}: {INFO} lacks the feature {ACTION}, data_path or fps; copy it again."
        )
    known = None
    if (path / HEADER).is_file():
        known = header.from_json((path / HEADER).read_text(encoding="utf-8", errors="replace"), str(path))
    hints = hints.for_own(known is not None)
    rate = hints.rate(float(info["fps"]), str(path))
    episodes = _Episodes(path, info, known, hints)
    if known is not None:
        episodes.kinds = known.meta.observation_kinds
        yield Recording(known.meta, known.actions, episodes, own=True)
        return
    episodes.kinds = episodes.guess_kinds()
    meta = Meta(
        env_id=hints.env_id or "unknown",
        env_kwargs={},
        control_hz=rate,
        observation_kinds=episodes.kinds,
        settings={"robot_type": info.get("robot_type"), "tasks": _tasks(path)},
        attempts=int(info.get("total_episodes", 0)),
    )
    yield Recording(meta, _named_actions(features[ACTION]), episodes)


class _Episodes:
    """The episodes of a dataset, as often as they are asked for."""

    def __init__(
        self, path: Path, info: Mapping[str, Any], known: header.Header | None, hints: Hints
    ) -> None:
        self._path, self._info, self._known, self._hints = path, info, known, hints
        self._features: Mapping[str, Any] = info["features"]
        skipped = {f"observation.{name}" for name in hints.skip} | {IMAGES + name for name in hints.skip}
        self._columns = [
            key
            for key, feature in self._features.items()
            if (key.startswith("observation.") or key in (ACTION, SUCCESS) or (known and key == DISTURBED))
            and key not in skipped
            and feature["dtype"] != "string"
        ]
        self._videos = [key for key in self._columns if self._features[key]["dtype"] == "video"]
        self._names = _names([key for key in self._columns if key.startswith("observation.")])
        self._index = _episode_index(path, self._videos)
        self.kinds: Mapping[str, str] = {}

    def guess_kinds(self) -> dict[str, str]:
        """Kinds of the observations of a foreign dataset, from its first episode."""
        for where, columns, _ in self._raw():
            found = {self._names[key]: x for key, x in columns.items() if key in self._names}
            return observations.kinds_of(found, set(), self._hints, where)
        raise DemonstrationError(f"{self._path} holds no episode; there is nothing to convert.")

    def __iter__(self) -> Iterator[Episode]:
        for i, (where, columns, _) in enumerate(self._raw()):
            found = {self._names[key]: x for key, x in columns.items() if key in self._names}
            if self._known is not None:
                found = self._unpack(found)
            actions = columns[ACTION]
            n = len(actions)
            success = bool(columns[SUCCESS].any()) if SUCCESS in columns else True
            said: dict[str, Any] = {"success": success, "failure": "" if success else "unnamed"}
            yield Episode(
                obs=observations.adopt(found, self.kinds, self._hints, where),
                actions=actions[:, None] if actions.ndim == 1 else actions,
                disturbed=columns[DISTURBED].reshape(n).astype(bool)
                if DISTURBED in columns
                else np.zeros(n, bool),
                **(said | (self._known.outcome(i) if self._known else {})),
            )

    def _unpack(self, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The observations that one state holds, by the names of its numbers."""
        if "state" not in found:
            return found
        state = found.pop("state")
        names = [str(name).rpartition(".")[0] for name in self._features[STATE]["names"]]
        state = state[:, None] if state.ndim == 1 else state
        for name in dict.fromkeys(names):
            found[name] = state[:, [i for i, x in enumerate(names) if x == name]]
        return found

    def _raw(self) -> Iterator[tuple[str, dict[str, np.ndarray], Mapping[str, Any]]]:
        """(where, feature -> rows, line of meta/episodes) of every episode."""
        stored = [key for key in self._columns if key not in self._videos]
        with ExitStack() as stack:
            videos: dict[str, Frames] = {}
            for line, columns in _rows(
                self._path, self._info["data_path"], self._index, stored, self._features
            ):
                where = f"{self._path}, episode {line['episode_index']}"
                for key in self._videos:
                    file = _inside(
                        self._path, self._info["video_path"], video_key=key, **_file(line, f"videos/{key}")
                    )
                    if key not in videos or videos[key].path != file:
                        videos[key] = Frames(file)
                        stack.callback(videos[key].close)
                    start = round(line[f"videos/{key}/from_timestamp"] * float(self._info["fps"]))
                    columns[key] = videos[key].take(start, line["length"])
                yield where, columns, line


def _rows(
    root: Path, template: str, index: list[dict[str, Any]], columns: list[str], features: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """(line, column -> rows) of every episode; held are one episode and one batch."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = any(features[key]["dtype"] == "image" for key in columns)
    files: dict[Path, list[dict[str, Any]]] = {}
    for line in index:
        files.setdefault(_inside(root, template, **_file(line, "data")), []).append(line)
    for file, lines in files.items():
        rest = iter(lines)
        line = next(rest, None)
        pieces: list[Any] = []
        count = 0
        try:
            with pq.ParquetFile(file) as parquet:
                missing = [
                    key for key in [*columns, "episode_index"] if key not in parquet.schema_arrow.names
                ]
                if missing:
                    raise DemonstrationError(
                        f"{file} has no column {missing[0]}, which {INFO} names; copy it again."
                    )
                size = IMAGE_BATCH if images else BATCH
                for batch in parquet.iter_batches(size, columns=[*columns, "episode_index"]):
                    while len(batch) and line is not None:
                        number = np.asarray(batch["episode_index"])
                        mine = int((np.cumsum(number != line["episode_index"]) == 0).sum())
                        pieces.append(batch.slice(0, mine))
                        count += mine
                        batch = batch.slice(mine)
                        if len(batch) and count < line["length"]:
                            break  # the sentence below
                        if count >= line["length"]:
                            yield line, _columns(pa.Table.from_batches(pieces), columns, features, file)
                            line, pieces, count = next(rest, None), [], 0
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DemonstrationError(f"{file} cannot be read ({reason}); copy the dataset again.") from error
        if line is not None:
            raise DemonstrationError(
                f"{file} holds {count} rows of episode {line['episode_index']}, and meta/episodes says "
                f"{line['length']}; the dataset is incomplete: copy it again."
            )


def _columns(
    table: pyarrow.Table, columns: list[str], features: Mapping[str, Any], file: Path
) -> dict[str, np.ndarray]:
    found = {}
    for key in columns:
        column = table[key].combine_chunks()
        if column.null_count:
            raise DemonstrationError(f"{file}: {key} has {column.null_count} rows without a value.")
        if features[key]["dtype"] == "image":
            found[key] = np.stack([_image(x.as_py(), file) for x in column])
            continue
        while hasattr(column, "flatten") and not _flat(column):
            column = column.flatten()
        values = column.to_numpy(zero_copy_only=False)
        if values.dtype.kind not in "fiub":
            raise DemonstrationError(
                f"{file}: {key} is of {table[key].type}, no numbers; leave it out with --skip."
            )
        shape = tuple(features[key]["shape"])
        found[key] = values.reshape(
            len(table), *(shape if values.size == len(table) * int(np.prod(shape)) else (-1,))
        )
    return found


def _flat(column: Any) -> bool:
    import pyarrow.types as types

    nested = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return not any(test(column.type) for test in nested)


def _image(value: Mapping[str, Any], file: Path) -> np.ndarray:
    import imageio.v3 as imageio

    content = value.get("bytes")
    if content is None:
        raise DemonstrationError(
            f"{file} refers to an image {value.get('path')} outside; embed images in the dataset."
        )
    try:
        image = imageio.imread(content, extension=".png", plugin="pillow")
    except (OSError, SyntaxError, ValueError) as error:  # a SyntaxError is Pillow's for a broken PNG
        raise DemonstrationError(f"{file} holds an image that cannot be decoded ({error}).") from error
    return image[..., None] if image.ndim == 2 else image


def _episode_index(root: Path, videos: list[str]) -> list[dict[str, Any]]:
    """The lines of meta/episodes that say where an episode is, in order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    for key in videos:
        wanted += [f"videos/{key}/{x}" for x in ("chunk_index", "file_index", "from_timestamp")]
    lines: list[dict[str, Any]] = []
    for file in sorted((root / "meta" / "episodes").glob("*/*.parquet")):
        try:
            lines += pq.read_table(file, columns=wanted).to_pylist()
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DemonstrationError(f"{file} cannot be read ({reason}); copy the dataset again.") from error
        if lines and set(wanted) - set(lines[-1]):
            raise DemonstrationError(
                f"{file} has no column {min(set(wanted) - set(lines[-1]))}; copy it again."
            )
    total = _json(root / INFO).get("total_episodes", len(lines))
    if not lines or len(lines) != total:
        raise DemonstrationError(
            f"{root}: meta/episodes has {len(lines)} episodes, and {INFO} says {total}; the dataset is incomplete: "
            "copy it again."
        )
    return sorted(lines, key=lambda line: line["episode_index"])


def _file(line: Mapping[str, Any], prefix: str) -> dict[str, int]:
    return {name: int(line[f"{prefix}/{name}"]) for name in ("chunk_index", "file_index")}


def _inside(root: Path, template: str, **values: Any) -> Path:
    """A path of the dataset, which its description must not lead out of."""
    try:
        path = root / template.format(**values)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise DemonstrationError(
            f"{root}: the path {template!r} of {INFO} cannot be used ({error})."
        ) from error
    if not path.resolve().is_relative_to(root.resolve()):
        raise DemonstrationError(f"{root}: the path {template!r} of {INFO} leads out of the dataset.")
    return path


def _named_actions(feature: Mapping[str, Any]) -> Actions | None:
    """The convention whose names the numbers of the feature have, if there is one."""
    names = feature.get("names")
    names = next(iter(names.values()), None) if isinstance(names, Mapping) else names
    if not isinstance(names, list):
        return None
    for convention, representation in ABSOLUTE.items():
        if tuple(names[: representation.width]) == representation.names:
            return Actions(convention)
    return None


def _tasks(root: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(root / TASKS)
    except (pa.ArrowException, OSError):
        return []
    texts = [name for name in table.column_names if name != "task_index"]
    return [str(x) for x in table[texts[0]].to_pylist()] if texts else []


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, FileNotFoundError) as error:
        raise DemonstrationError(f"{path} cannot be read ({error}); copy the dataset again.") from error
    if not isinstance(value, dict):
        raise DemonstrationError(f"{path} holds no description of a dataset; copy it again.")
    return value


def _names(keys: list[str]) -> dict[str, str]:
    """Our names of observation features: the last word, or all but the first where that is not unique."""
    short = {key: key.removeprefix(IMAGES).removeprefix("observation.") for key in keys}
    double = {name for name in short.values() if list(short.values()).count(name) > 1}
    return {key: key.removeprefix("observation.") if name in double else name for key, name in short.items()}


# Writing.


def write(path: Path, meta: Meta, episodes: Iterable[Episode], actions: Actions) -> None:
    """Write a dataset folder, whole or not at all; one episode is held at a time."""
    with replacing_folder(path) as root, ExitStack() as stack:
        dataset: _Dataset | None = None
        outcomes = []
        for i, episode in enumerate(episodes):
            if dataset is None:
                dataset = _Dataset(root, meta, actions, episode)
                stack.callback(dataset.close)
            dataset.append(i, episode)
            outcomes.append(header.outcome(episode))
        assert dataset is not None
        dataset.finish()
        write_text(root / HEADER, header.to_json(header.Header(meta, actions, outcomes)))


class _Dataset:
    """A dataset that grows by an episode at a time."""

    def __init__(self, root: Path, meta: Meta, actions: Actions, first: Episode) -> None:
        self._root, self._meta = root, meta
        rate = meta.control_hz
        self._rate: float = int(rate) if float(rate).is_integer() else rate
        kinds = meta.observation_kinds
        self._vectors = [name for name, kind in kinds.items() if kind in ("pose", "vector")]
        self._images = [name for name, kind in kinds.items() if kind == "image"]
        self._others = [name for name in kinds if name not in (*self._vectors, *self._images)]
        for name in (*self._images, *self._others):
            if "/" in name or name == "state":
                raise DemonstrationError(
                    f"LeRobot allows no / in names, and state is taken; rename the observation {name!r}."
                )
        self._videos = {f"{IMAGES}{n}": n for n in self._images if _filmable(first.obs[n])}
        self.features = self._features(first, actions)
        self._data = _Parquet(root, DATA_PATH, self.features)
        self._lines = _Lines(root)
        self._films = {key: _Film(root, key, self._rate) for key in self._videos}
        self._total = Total()
        self._frames = 0
        self._count = 0

    def append(self, index: int, episode: Episode) -> None:
        """Add an episode."""
        n = len(episode)
        rows = self._rows(index, episode)
        place = self._data.place()
        self._data.append(rows)
        statistics = {key: of_rows(x) for key, x in rows.items() if self.features[key]["dtype"] != "image"}
        line: dict[str, Any] = {
            "episode_index": index,
            "tasks": [self._task],
            "length": n,
            "data/chunk_index": place[0],
            "data/file_index": place[1],
            "dataset_from_index": self._frames,
            "dataset_to_index": self._frames + n,
        }
        for name in self._images:
            key = IMAGES + name
            statistics[key] = of_images(episode.obs[name])
            if key in self._films:
                line |= self._films[key].append(episode.obs[name])
        for key, values in statistics.items():
            line |= {f"stats/{key}/{name}": x.tolist() for name, x in values.items()}
        self._lines.append(line)
        self._total.add(statistics)
        self._frames += n
        self._count += 1

    def finish(self) -> None:
        """Write what is known at the end."""
        self.close()
        _write_tasks(self._root / TASKS, self._task)
        info = {
            "codebase_version": VERSION,
            "robot_type": "unknown",
            "total_episodes": self._count,
            "total_frames": self._frames,
            "total_tasks": 1,
            "chunks_size": CHUNK,
            "data_files_size_in_mb": DATA_MB,
            "video_files_size_in_mb": VIDEO_MB,
            "fps": self._rate,
            "splits": {"train": f"0:{self._count}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if self._videos else None,
            "features": self.features,
        }
        write_text(self._root / INFO, json.dumps(info, indent=4))
        write_text(self._root / STATS, json.dumps(self._total.to_lists(), indent=4))

    def close(self) -> None:
        """Close every file; again, if need be."""
        for part in (self._data, self._lines, *self._films.values()):
            part.close()

    @property
    def _task(self) -> str:
        return self._meta.env_id

    def _features(self, first: Episode, actions: Actions) -> dict[str, dict[str, Any]]:
        features: dict[str, dict[str, Any]] = {}
        names = []
        for name in self._vectors:
            pose = self._meta.observation_kinds[name] == "pose"
            parts = ABSOLUTE["absolute_wxyz"].names if pose else range(first.obs[name].shape[-1])
            names += [f"{name}.{part}" for part in parts]
        if names:
            features[STATE] = {"dtype": "float32", "shape": [len(names)], "names": names}
        for name in self._images:
            features[IMAGES + name] = self._camera(IMAGES + name, first.obs[name])
        for name in self._others:
            x = first.obs[name]
            features[f"observation.{name}"] = {
                "dtype": str(x.dtype),
                "shape": list(x.shape[1:]),
                "names": None,
            }
        width = first.actions.shape[-1]
        features[ACTION] = {"dtype": "float32", "shape": [width], "names": actions.names_with_extras(width)}
        for key in (DONE, SUCCESS, DISTURBED):
            features[key] = {"dtype": "bool", "shape": [1], "names": None}
        for key in INDICES:
            dtype = "float32" if key == "timestamp" else "int64"
            features[key] = {"dtype": dtype, "shape": [1], "names": None}
        return features

    def _camera(self, key: str, x: np.ndarray) -> dict[str, Any]:
        height, width, channels = x.shape[1:]
        feature = {"shape": [height, width, channels], "names": ["height", "width", "channels"]}
        if key not in self._videos:
            return {"dtype": "image", **feature}
        info = {
            "video.height": height,
            "video.width": width,
            "video.codec": "h264",
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": self._rate,
            "video.channels": channels,
            "has_audio": False,
        }
        return {"dtype": "video", **feature, "info": info}

    def _rows(self, index: int, episode: Episode) -> dict[str, np.ndarray]:
        n = len(episode)
        frame = np.arange(n)
        last = frame == n - 1
        rows: dict[str, np.ndarray] = {}
        if STATE in self.features:
            rows[STATE] = np.concatenate([episode.obs[name] for name in self._vectors], -1)
        rows |= {
            IMAGES + name: episode.obs[name] for name in self._images if IMAGES + name not in self._videos
        }
        rows |= {f"observation.{name}": episode.obs[name] for name in self._others}
        return rows | {
            ACTION: episode.actions,
            DONE: last,
            SUCCESS: last & episode.success,
            DISTURBED: episode.disturbed,
            "timestamp": (frame / self._rate).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.full(n, index),
            "index": self._frames + frame,
            "task_index": np.zeros(n, np.int64),
        }


def _filmable(x: np.ndarray) -> bool:
    """Whether H.264 in yuv420p can hold it."""
    return x.shape[-1] == 3 and x.shape[1] % 2 == 0 and x.shape[2] % 2 == 0


@dataclass
class _Place:
    """Chunk and file, one after the other."""

    chunk: int = 0
    file: int = 0

    def next(self) -> None:
        self.chunk, self.file = divmod(self.chunk * CHUNK + self.file + 1, CHUNK)

    def values(self) -> dict[str, int]:
        return {"chunk_index": self.chunk, "file_index": self.file}


class _Parquet:
    """Rows over files of a limited size; an episode is never cut."""

    def __init__(self, root: Path, template: str, features: Mapping[str, Any]) -> None:
        import pyarrow as pa

        self._root, self._template, self._features = root, template, features
        types = {key: self._type(feature) for key, feature in features.items() if feature["dtype"] != "video"}
        self._schema = pa.schema(list(types.items()))
        self._place = _Place()
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
class _Lines:
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
class _Film:
    """The videos of one camera, over files of a limited size; an episode is never cut."""

    root: Path
    key: str
    rate: float
    place: _Place = field(default_factory=_Place)
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


def _write_tasks(path: Path, task: str) -> None:
    """One task, in pandas' layout, whose index is the task."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = {"field_name": "task_index", "name": "task_index", "numpy_type": "int64", "pandas_type": "int64"}
    index = {"field_name": "task", "name": "task", "numpy_type": "object", "pandas_type": "unicode"}
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [{**column, "metadata": None}, {**index, "metadata": None}],
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": pa.array([0]), "task": [task]})
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)
