"""Minari's HDF5 backend: data/metadata.json and data/main_data.hdf5, episode_<i>/{observations, actions, ...}.

minari.farama.org/content/dataset_standards. Of N actions Minari has N + 1 observations; ours have N, so the last one
is written twice, and the last one read is left out. Rewards are 1 at the end of a success. A dataset is found by
``minari.load_dataset(id)`` when its folder is ``$MINARI_DATASETS_PATH/<id>``; the id is the folder's name, so name
the destination as in insert/expert-v0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from geoflow.data.atomic import write_text
from geoflow.data.demonstrations import DemonstrationError, Episode, Meta
from geoflow.data.formats import hdf5, header, observations
from geoflow.data.formats.actions import Actions
from geoflow.data.formats.folders import replacing_folder
from geoflow.data.formats.recording import Hints, Recording

DATA, METADATA, MAIN = "data", "metadata.json", "main_data.hdf5"
VERSION = "0.5.3"
"""The Minari whose layout this is; later ones read it."""
PLAIN = "observation"
"""Our name of observations that are no dict."""
_NAME = re.compile(r"[-_\w]+")


def recognises(path: Path) -> bool:
    """Whether this is a dataset folder of Minari, or its data folder."""
    return (_data_folder(path) / METADATA).is_file()


@contextmanager
def read(path: Path, hints: Hints) -> Iterator[Recording]:
    """Open a dataset.

    Raises:
        DemonstrationError: damaged, of another backend, of JPEG images.
    """
    folder = _data_folder(path)
    metadata = _metadata(folder / METADATA)
    if metadata.get("data_format", "hdf5") != "hdf5":
        raise DemonstrationError(
            f"{path} is of Minari's {metadata['data_format']} backend; geoflow reads its hdf5 backend: write it again "
            "with minari.create_dataset_from_buffers(..., data_format='hdf5')."
        )
    if not (folder / MAIN).is_file():
        raise DemonstrationError(f"{path} has no {DATA}/{MAIN}; download or copy the dataset again.")
    ours = metadata.get(header.KEY)
    known = None if ours is None else header.from_json(ours, str(path))
    hints = hints.for_own(known is not None)
    with hdf5.reading(folder / MAIN) as file:
        names = hdf5.numbered(file, "episode_")
        if not names or len(names) != int(metadata.get("total_episodes", len(names))):
            raise DemonstrationError(
                f"{path} holds {len(names)} episodes, and {METADATA} says {metadata.get('total_episodes')}; "
                "the dataset is incomplete: download or copy it again."
            )
        if known is not None:
            hints.rate(known.meta.control_hz, str(path))
            meta = known.meta
        else:
            where = f"{path}, {names[0]}"
            try:
                columns = _observations(file[names[0]], hints)
            except hdf5.UNREADABLE as error:
                raise hdf5.damaged(where, error) from error
            env = _env_spec(metadata)
            meta = Meta(
                env_id=hints.env_id or str(env.get("id", "unknown")),
                env_kwargs=env.get("kwargs", {}),
                control_hz=hints.rate(None, str(path)),
                observation_kinds=observations.kinds_of(columns, set(), hints, where),
                attempts=len(names),
            )
        episodes = _Episodes(file, names, meta, hints, path)
        yield Recording(meta, known.actions if known else None, episodes, own=known is not None)


class _Episodes:
    """The episodes of an open dataset, as often as they are asked for."""

    def __init__(self, file: h5py.File, names: list[str], meta: Meta, hints: Hints, path: Path) -> None:
        self._file, self._names, self._meta, self._hints, self._path = file, names, meta, hints, path

    def __iter__(self) -> Iterator[Episode]:
        for name in self._names:
            where = f"{self._path}, {name}"
            try:
                yield self._episode(self._file[name], where)
            except hdf5.UNREADABLE as error:
                raise hdf5.damaged(where, error) from error

    def _episode(self, group: Any, where: str) -> Episode:
        if isinstance(group["actions"], h5py.Group):
            raise DemonstrationError(
                f"{where}: actions are a dict or a tuple; geoflow reads one Box of numbers."
            )
        actions = np.asarray(group["actions"])
        n = len(actions)
        columns = _observations(group, self._hints)
        short = [name for name, x in columns.items() if len(x) not in (n, n + 1)]
        if short:
            raise DemonstrationError(
                f"{where}: {len(columns[short[0]])} observations {short[0]!r} of {n} actions; expected {n + 1}: "
                "the dataset is damaged."
            )
        columns = {name: x[:n] for name, x in columns.items()}
        infos: Any = group.get("infos") if isinstance(group.get("infos"), h5py.Group) else {}
        ours = "disturbed" in infos and len(infos["disturbed"]) == n
        return Episode(
            obs=observations.adopt(columns, self._meta.observation_kinds, self._hints, where),
            actions=actions,
            disturbed=np.asarray(infos["disturbed"], bool) if ours else np.zeros(n, bool),
            seed=int(group.attrs.get("seed", 0)),
            success=bool(group.attrs.get("success", True)),
            failure=str(group.attrs.get("failure", "")),
        )


def write(path: Path, meta: Meta, episodes: Iterable[Episode], actions: Actions) -> None:
    """Write a dataset folder, whole or not at all; one episode is held at a time.

    Raises:
        DemonstrationError: the folder's name is no dataset id.
    """
    if not _NAME.fullmatch(path.name):
        raise DemonstrationError(
            f"{path.name!r} is no id of a Minari dataset; name the folder with letters, digits, _ and -, as in "
            "insert-expert-v0."
        )
    with replacing_folder(path) as temporary:
        folder = temporary / DATA
        folder.mkdir()
        steps, count, first = 0, 0, None
        with hdf5.writing(folder / MAIN) as file:
            for i, episode in enumerate(episodes):
                first = first or episode
                _write_episode(file.create_group(f"episode_{i}"), i, episode)
                steps, count = steps + len(episode), count + 1
        assert first is not None
        spaces = {name: _box(x[0]) for name, x in first.obs.items()}
        metadata = {
            "total_episodes": count,
            "total_steps": steps,
            "data_format": "hdf5",
            "observation_space": json.dumps({"type": "Dict", "subspaces": spaces}),
            "action_space": json.dumps(_box(first.actions[0])),
            "dataset_id": _dataset_id(path),
            "minari_version": VERSION,
            "dataset_size": round((folder / MAIN).stat().st_size / 1e6, 1),
            "description": f"Demonstrations of {meta.env_id}, converted by geoflow.",
            header.KEY: header.to_json(header.Header(meta, actions)),
        }
        write_text(folder / METADATA, json.dumps(metadata))


def _write_episode(group: h5py.Group, index: int, episode: Episode) -> None:
    n = len(episode)
    group.attrs["id"] = index
    group.attrs["total_steps"] = n
    for key in ("seed", "success", "failure"):
        group.attrs[key] = getattr(episode, key)
    last = np.arange(n) == n - 1
    group.create_dataset("actions", data=episode.actions)
    group.create_dataset("rewards", data=(last & episode.success).astype(np.float64))
    group.create_dataset("terminations", data=last & episode.success)
    group.create_dataset("truncations", data=last & (not episode.success))
    group.create_group("infos").create_dataset("disturbed", data=episode.disturbed)
    obs = group.create_group("observations")
    for name, x in episode.obs.items():
        hdf5.write_column(obs, name, np.concatenate([x, x[-1:]]))


def _box(x: np.ndarray) -> dict[str, Any]:
    """A gymnasium Box as Minari writes it; bounds of real numbers are infinite, for they are not known."""
    low, high = (0, 255) if x.dtype == np.uint8 else (-np.inf, np.inf)
    return {
        "type": "Box",
        "dtype": str(x.dtype),
        "shape": list(x.shape),
        "low": np.full(x.shape, low).tolist(),
        "high": np.full(x.shape, high).tolist(),
    }


def _dataset_id(path: Path) -> str:
    """The path below a folder called datasets, else the folder's name."""
    *folders, name = path.absolute().parts
    if "datasets" not in folders:
        return name
    return "/".join([*folders[len(folders) - folders[::-1].index("datasets") :], name])


def _data_folder(path: Path) -> Path:
    return path / DATA if (path / DATA).is_dir() else path


def _metadata(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DemonstrationError(
            f"{path} is no JSON ({error}); download or copy the dataset again."
        ) from error
    if not isinstance(value, dict):
        raise DemonstrationError(f"{path} holds no description of a dataset; download or copy it again.")
    return value


def _env_spec(metadata: dict[str, Any]) -> dict[str, Any]:
    try:
        spec = json.loads(metadata.get("env_spec") or "{}")
    except ValueError:
        return {}
    return spec if isinstance(spec, dict) else {}


def _observations(group: Any, hints: Hints) -> dict[str, np.ndarray]:
    found = group["observations"]
    columns = hdf5.arrays(found) if isinstance(found, h5py.Group) else {PLAIN: np.asarray(found)}
    return {name: x for name, x in columns.items() if name not in hints.skip}
