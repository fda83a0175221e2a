"""Episodes -> LeRobot dataset v3, whole or not at all; one episode is held at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from geoflow.data.atomic import write_text
from geoflow.data.demonstrations import DemonstrationError, Episode, Meta
from geoflow.data.formats import header
from geoflow.data.formats.actions import ABSOLUTE, Actions
from geoflow.data.formats.folders import replacing_folder
from geoflow.data.formats.lerobot import files
from geoflow.data.formats.lerobot.layout import (
    ACTION,
    DATA_PATH,
    DISTURBED,
    DONE,
    HEADER,
    IMAGES,
    INDICES,
    INFO,
    STATE,
    STATS,
    SUCCESS,
    TASKS,
    VERSION,
    VIDEO_PATH,
)
from geoflow.data.formats.statistics import Total, of_images, of_rows


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
        self._data = files.Parquet(root, DATA_PATH, self.features)
        self._lines = files.Lines(root)
        self._films = {key: files.Film(root, key, self._rate) for key in self._videos}
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
            "chunks_size": files.CHUNK,
            "data_files_size_in_mb": files.DATA_MB,
            "video_files_size_in_mb": files.VIDEO_MB,
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
