"""LeRobot dataset v3 -> episodes: one episode and one batch of rows are held at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geoflow.data.demonstrations import DemonstrationError, Episode, Meta
from geoflow.data.formats import header, observations
from geoflow.data.formats.actions import ABSOLUTE, Actions
from geoflow.data.formats.lerobot.layout import ACTION, DISTURBED, HEADER, IMAGES, INFO, STATE, SUCCESS, TASKS
from geoflow.data.formats.recording import Hints, Recording
from geoflow.data.formats.videos import Frames

if TYPE_CHECKING:
    import pyarrow

BATCH, IMAGE_BATCH = 4096, 64
"""Rows decoded at once, without and with images among them."""


def recognises(path: Path) -> bool:
    """Whether this is a dataset folder of LeRobot, of any version."""
    return (path / INFO).is_file()


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
