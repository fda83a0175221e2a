"""robomimic HDF5: data/demo_<i>/{obs/<name>, actions, rewards, dones, states}.

robomimic.github.io/docs/datasets/overview.html ("Dataset Structure"): data/ has the attributes ``total`` and
``env_args`` (JSON: env_name, type, env_kwargs), every demo ``num_samples``. A pose NAME is written NAME_pos and
NAME_quat (xyzw), as robosuite has its observations. Of robosuite's own files the control rate, the action convention
and the scale of deltas are read from ``env_args``. ``next_obs`` is not written: set
``train.hdf5_load_next_obs`` to False. robomimic wants actions within [-1, 1]; absolute poses are not, so train on
them with its action normalisation, or convert with --to-actions delta_rotvec and a scale.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from geoflow.data.atomic import replacing
from geoflow.data.demonstrations import FORMAT, DemonstrationError, Episode, Meta
from geoflow.data.formats import hdf5, header, observations
from geoflow.data.formats.actions import Actions
from geoflow.data.formats.recording import Hints, Recording

GYM_TYPE = 2
"""robomimic's EnvType of gym environments."""


def recognises(path: Path) -> bool:
    """Whether this is an HDF5 file with data/demo_*, and not one of ours."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r", locking=False) as file:
            data: Any = file.get("data")
            return (
                isinstance(data, h5py.Group)
                and data.attrs.get("format") != FORMAT
                and bool(hdf5.numbered(data, "demo_"))
            )
    except (OSError, KeyError, RuntimeError):
        return False


@contextmanager
def read(path: Path, hints: Hints) -> Iterator[Recording]:
    """Open a file.

    Raises:
        DemonstrationError: damaged, without demonstrations or observations, of several robots.
    """
    with hdf5.reading(path) as file:
        try:
            data: Any = file["data"]
            names = hdf5.numbered(data, "demo_")
            if not names:
                raise DemonstrationError(f"{path} holds no demonstration (no group data/demo_<i>).")
            ours = data.attrs.get(header.KEY)
            known = None if ours is None else header.from_json(ours, str(path))
            hints = hints.for_own(known is not None)
            env = _env_args(data, path)
            columns, poses = _observations(data[names[0]], known, hints, f"{path}, {names[0]}")
        except hdf5.UNREADABLE as error:
            raise hdf5.damaged(str(path), error) from error
        if known is not None:
            hints.rate(known.meta.control_hz, str(path))
            meta, actions = known.meta, known.actions
        else:
            meta = Meta(
                env_id=hints.env_id or str(env.get("env_name", "unknown")),
                env_kwargs=env.get("env_kwargs", {}),
                control_hz=hints.rate(_rate(env), str(path)),
                observation_kinds=observations.kinds_of(columns, poses, hints, f"{path}, {names[0]}"),
                attempts=len(names),
            )
            actions = _robosuite_actions(env, poses, path)
        episodes = _Episodes(data, names, known, meta, hints, path)
        yield Recording(meta, actions, episodes, own=known is not None)


class _Episodes:
    """The episodes of an open file, as often as they are asked for."""

    def __init__(
        self,
        data: Any,
        names: list[str],
        known: header.Header | None,
        meta: Meta,
        hints: Hints,
        path: Path,
    ) -> None:
        self._data, self._names, self._known, self._meta = data, names, known, meta
        self._hints, self._path = hints, path

    def __iter__(self) -> Iterator[Episode]:
        for name in self._names:
            where = f"{self._path}, {name}"
            try:
                yield self._episode(self._data[name], where)
            except hdf5.UNREADABLE as error:
                raise hdf5.damaged(where, error) from error

    def _episode(self, group: Any, where: str) -> Episode:
        columns, _ = _observations(group, self._known, self._hints, where)
        actions = np.asarray(group["actions"])
        if "num_samples" in group.attrs and int(group.attrs["num_samples"]) != len(actions):
            raise DemonstrationError(
                f"{where}: num_samples is {group.attrs['num_samples']}, but there are {len(actions)} actions; "
                "the file is incomplete: copy it again."
            )
        disturbed = (
            np.asarray(group["disturbed"], bool) if "disturbed" in group else np.zeros(len(actions), bool)
        )
        return Episode(
            obs=observations.adopt(columns, self._meta.observation_kinds, self._hints, where),
            actions=actions,
            disturbed=disturbed,
            seed=int(group.attrs.get("seed", 0)),
            success=bool(group.attrs.get("success", True)),
            failure=str(group.attrs.get("failure", "")),
        )


def write(path: Path, meta: Meta, episodes: Iterable[Episode], actions: Actions) -> None:
    """Write a file, whole or not at all; one episode is held at a time."""
    with replacing(path) as temporary, hdf5.writing(temporary) as file:
        data = file.create_group("data")
        total = 0
        for i, episode in enumerate(episodes):
            _write_episode(data.create_group(f"demo_{i}"), episode, meta.observation_kinds)
            total += len(episode)
        data.attrs["total"] = total
        env = {"env_name": meta.env_id, "type": GYM_TYPE, "env_kwargs": dict(meta.env_kwargs)}
        data.attrs["env_args"] = json.dumps(env)
        data.attrs[header.KEY] = header.to_json(header.Header(meta, actions))


def _write_episode(group: h5py.Group, episode: Episode, kinds: Mapping[str, str]) -> None:
    n = len(episode)
    for key in ("seed", "success", "failure"):
        group.attrs[key] = getattr(episode, key)
    group.attrs["num_samples"] = n
    last = np.arange(n) == n - 1
    group.create_dataset("actions", data=episode.actions)
    group.create_dataset("disturbed", data=episode.disturbed)
    group.create_dataset("rewards", data=(last & episode.success).astype(np.float64))
    group.create_dataset("dones", data=last.astype(np.int64))
    group.create_dataset("states", data=np.zeros((n, 1)))  # dummy values, as the format wants of no robosuite
    obs = group.create_group("obs")
    for name, x in observations.split_poses(episode.obs, kinds).items():
        hdf5.write_column(obs, name, x)


def _observations(
    group: Any, known: header.Header | None, hints: Hints, where: str
) -> tuple[dict[str, np.ndarray], set[str]]:
    if "obs" not in group:
        raise DemonstrationError(
            f"{where} has no observations; extract them with robomimic's dataset_states_to_obs.py first."
        )
    columns = {name: x for name, x in hdf5.arrays(group["obs"]).items() if name not in hints.skip}
    return observations.merge_poses(columns, known.meta.observation_kinds if known else None)


def _env_args(data: Any, path: Path) -> dict[str, Any]:
    try:
        env = json.loads(data.attrs.get("env_args", "{}"))
    except ValueError as error:
        raise DemonstrationError(f"{path}: the attribute env_args of data/ is no JSON ({error}).") from error
    return env if isinstance(env, dict) else {}


def _rate(env: Mapping[str, Any]) -> float | None:
    rate = env.get("env_kwargs", {}).get("control_freq")
    return None if rate is None else float(rate)


def _robosuite_actions(env: Mapping[str, Any], poses: set[str], path: Path) -> Actions | None:
    """What robosuite's controller of one arm says of its actions; None where it says nothing that we know.

    Before robosuite 1.5 the controller is described by controller_configs itself, with control_delta and world
    axes; from 1.5 on by its body_parts, with input_type and input_ref_frame.
    """
    kwargs = env.get("env_kwargs", {})
    controller = kwargs.get("controller_configs") or {}
    robots = kwargs.get("robots") or []
    if isinstance(robots, list) and len(robots) > 1:
        raise DemonstrationError(f"{path} is of {len(robots)} robots; geoflow's actions are of one tool.")
    if isinstance(controller, list):
        controller = controller[0] if controller else {}
    parts = controller.get("body_parts")
    if parts:
        controller = parts.get("right", {})
        delta = {"delta": True, "absolute": False}.get(controller.get("input_type", ""))
        world = controller.get("input_ref_frame") == "world"
    else:
        delta, world = controller.get("control_delta"), True
    if controller.get("type") != "OSC_POSE" or delta is None or not world:
        return None
    if not delta:
        return Actions("absolute_rotvec")
    limits = np.broadcast_to(np.asarray(controller.get("output_max", np.nan), float), 6)
    scale = (float(limits[0]), float(limits[3]))
    if not (np.allclose(limits[:3], scale[0]) and np.allclose(limits[3:], scale[1])):
        return None
    tcp = "robot0_eef" if "robot0_eef" in poses else ""
    return replace(Actions("delta_rotvec", tcp=tcp), scale=scale)
