"""Demonstrations on disk: HDF5, data/demo_<i>/{obs/<name>, actions, disturbed}, read one episode at a time.

data                          attributes: the fields of `Meta`, and the format and its conventions
data/demo_<i>                 attributes: seed, success, failure, num_samples
data/demo_<i>/obs/<name>      (N, 7) pose | (N, d) vector | (N, H, W, C) image, uint8, or float unless C = 3 |
                              (N, P, 3 + c) points, xyz in the world [m] | (N, L) text, uint8, 0 after the end |
                              (N, [n,] d) embedding
data/demo_<i>/actions         (N, 7 n + k) the expert's absolute pose in the world of each of n arms, then extras
data/demo_<i>/disturbed       (N,) bool, True where what was executed is not the recorded action
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from geoflow.data.atomic import replacing

FORMAT = "geoflow-demonstrations"
FORMAT_VERSION = 1
POSE_CONVENTION = "xyz_wxyz"
ACTION_CONVENTION = "absolute_pose_world+extras"
"""Of one arm; see `action_convention`."""
MOST_ARMS = 16
KINDS = ("pose", "vector", "image", "points", "text", "embedding")
UNIT_TOLERANCE = 1e-3
"""How far the norm of a stored quaternion may be from 1."""


class DemonstrationError(ValueError):
    """A demonstration file cannot be used; the message names the file, what was found and what would work."""


@dataclass(frozen=True)
class Episode:
    """One run of the expert, N steps: ``obs[name][t]`` was seen, then ``actions[t]`` was asked for.

    Attributes:
        obs: Observation name -> (N, ...): poses x y z qw qx qy qz [m], vectors, images.
        actions: (N, 7 n + k) float32: the pose of each of n arms in the world, quaternion wxyz, then extras in
            [-1, 1].
        disturbed: (N,) bool: True where something else than ``actions[t]`` was executed.
        seed: What the environment was reset with.
        success: Whether the task was done.
        failure: Why not; empty on success.
    """

    obs: dict[str, np.ndarray]
    actions: np.ndarray
    disturbed: np.ndarray
    seed: int = 0
    success: bool = True
    failure: str = ""

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class Meta:
    """What holds for a whole file.

    Attributes:
        env_id: The gymnasium id of the task.
        env_kwargs: What it was made with.
        control_hz: Actions a second.
        observation_kinds: Observation name -> one of `KINDS`.
        versions: Package -> version that recorded the file.
        settings: How it was collected (seed, episodes, disturbance, ...).
        attempts: Episodes run.
        failures: Kind -> how many of the attempts failed so; they are not in the file.
        arms: Poses in an action.
        cameras: Picture -> where its camera is on what carries it (x y z qw qx qy qz) and its vertical field of view
            [degrees], where that is known.
    """

    env_id: str
    env_kwargs: Mapping[str, Any]
    control_hz: float
    observation_kinds: Mapping[str, str]
    versions: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    arms: int = 1
    cameras: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def expect(
        self,
        env_id: str | None = None,
        control_hz: float | None = None,
        where: str = "the demonstration file",
        arms: int | None = None,
    ) -> None:
        """Raise a DemonstrationError unless the file is of this task, this control rate [1/s] and so many arms.

        The part of an id before ":" says where it is registered, and is not compared.
        """
        if env_id is not None and env_id.split(":")[-1] != self.env_id.split(":")[-1]:
            raise DemonstrationError(
                f"{where} was recorded in {self.env_id}, but {env_id} was asked for; "
                f"pass a file of that task, or --env {self.env_id}"
            )
        if control_hz is not None and not np.isclose(control_hz, self.control_hz):
            raise DemonstrationError(
                f"{where} was recorded at {self.control_hz:g} actions a second, but the environment "
                f"runs at {control_hz:g}; collect again at {control_hz:g}."
            )
        if arms is not None and arms != self.arms:
            raise DemonstrationError(
                f"{where} has the poses of {self.arms} arm(s) in its actions; expected {arms}: pass "
                "files of one robot."
            )


def action_convention(arms: int) -> str:
    """What a file says of its actions: the poses of so many arms, then extras."""
    return ACTION_CONVENTION if arms == 1 else f"{arms}*{ACTION_CONVENTION}"


def _arms(convention: object) -> int | None:
    """The inverse of `action_convention`; None for another convention."""
    known = {action_convention(arms): arms for arms in range(1, MOST_ARMS + 1)}
    return known.get(convention) if isinstance(convention, str) else None


class Demonstrations:
    """The episodes of a file, a lazy sequence: memory holds the one that was asked for.

    ``with Demonstrations(path) as demos: for episode in demos: ...``

    Opening checks the file and its conventions; reading an episode checks its shapes and numbers.

    Args:
        path: The file.
        observations: Names of those that are read, where they are recorded; all by default.

    Raises:
        DemonstrationError: not a demonstration file, truncated, empty, of another convention; on reading, an
            episode with a NaN, a wrong shape or a quaternion that is not a unit one.
        FileNotFoundError: there is no such file.
    """

    meta: Meta

    def __init__(self, path: Path | str, observations: Sequence[str] = ()) -> None:
        self.path = Path(path)
        self._only = set(observations)
        self._file = _open(self.path)
        try:
            self.meta = _read_meta(self._file, self.path)
            self._data: Any = self._file["data"]  # a group; h5py's types cannot say so
            self._names = sorted((n for n in self._data if n.startswith("demo_")), key=_number)
            if not self._names:
                raise DemonstrationError(
                    f"{self.path} holds no demonstration ({self.meta.attempts} attempts, "
                    f"{sum(self.meta.failures.values())} failed); collect some with geoflow collect."
                )
            self._widths = _widths(self._data[self._names[0]])
        except _UNREADABLE as error:
            self.close()
            raise _damaged(str(self.path), error) from error
        except DemonstrationError:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Episode:
        name = self._names[index]
        where = f"{self.path}, {name}"
        try:
            group = self._data[name]
            actions = np.asarray(group["actions"])
            undisturbed = np.zeros(len(actions), bool)
            episode = Episode(
                obs={key: np.asarray(x) for key, x in group["obs"].items() if self._reads(key)},
                actions=actions,
                disturbed=np.asarray(group["disturbed"], bool) if "disturbed" in group else undisturbed,
                seed=int(group.attrs.get("seed", 0)),
                success=bool(group.attrs.get("success", True)),
                failure=str(group.attrs.get("failure", "")),
            )
            widths = _widths(group)
        except _UNREADABLE as error:
            raise _damaged(where, error) from error
        kinds = {key: kind for key, kind in self.meta.observation_kinds.items() if self._reads(key)}
        check(episode, kinds, where, self.meta.arms)
        if widths != self._widths:
            column, first = next((n, w) for n, w in self._widths.items() if widths.get(n) != w)
            raise DemonstrationError(
                f"{where}: one step of {column} has shape {widths.get(column)}, in {self._names[0]} it is "
                f"{first}; all demonstrations of a file must agree."
            )
        return episode

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one step, of ``actions`` and of each ``obs/<name>``, read or not."""
        return dict(self._widths)

    def _reads(self, name: str) -> bool:
        return not self._only or name in self._only

    def __iter__(self) -> Iterator[Episode]:
        return (self[i] for i in range(len(self)))

    def __enter__(self) -> Demonstrations:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; ``meta`` and ``len`` stay."""
        self._file.close()

    def expect(self, env_id: str | None = None, control_hz: float | None = None) -> None:
        """`Meta.expect`, naming this file."""
        self.meta.expect(env_id, control_hz, str(self.path))


def write(path: Path | str, meta: Meta, episodes: Iterable[Episode]) -> None:
    """Write a demonstration file, whole or not at all; one of ``episodes`` is held at a time.

    Raises:
        DemonstrationError: an episode has a NaN, a wrong shape or a quaternion that is not a unit one.
        OSError: no permission, or no space left; what stood at ``path`` is untouched.
    """
    with replacing(path) as temporary, _Disk(temporary) as disk:
        with h5py.File(disk, "w") as file:
            data = file.create_group("data")
            for key, value in _meta_attributes(meta).items():
                data.attrs[key] = value
            for i, episode in enumerate(episodes):
                where = f"episode {i} (seed {episode.seed}) for {path}"
                check(episode, meta.observation_kinds, where, meta.arms)
                _write_episode(data.create_group(f"demo_{i}"), episode)
                if disk.error is not None:
                    break
        if disk.error is not None:
            raise OSError(disk.error.errno, os.strerror(disk.error.errno or 0), str(path)) from disk.error


def check(episode: Episode, kinds: Mapping[str, str], where: str, arms: int = 1) -> None:
    """Raise a DemonstrationError that begins with ``where`` unless the episode keeps the conventions."""
    n = len(episode.actions)
    if n == 0:
        raise DemonstrationError(f"{where}: has no step; remove it, or collect it again.")
    if set(episode.obs) != set(kinds):
        raise DemonstrationError(
            f"{where}: has the observations {sorted(episode.obs)}, but observation_kinds names "
            f"{sorted(kinds)}; they must be the same."
        )
    columns = {"actions": (episode.actions, "action"), "disturbed": (episode.disturbed, "flag")}
    columns |= {f"obs/{name}": (x, kinds[name]) for name, x in episode.obs.items()}
    for name, (x, kind) in columns.items():
        _check_column(x, kind, n, f"{where}: {name}", arms)


def _check_column(x: np.ndarray, kind: str, n: int, where: str, arms: int) -> None:
    several = "(N, 7 + k)" if arms == 1 else f"(N, {7 * arms} + k), the poses of {arms} arms first,"
    wanted = {
        "action": (several, x.ndim == 2 and x.shape[-1] >= 7 * arms),
        "flag": ("(N,)", x.ndim == 1),
        "pose": ("(N, 7)", x.ndim == 2 and x.shape[-1] == 7),
        "vector": ("(N, d)", x.ndim == 2),
        "image": ("(N, H, W, C)", x.ndim == 4),
        "points": ("(N, P, 3 + c)", x.ndim == 3 and x.shape[-1] >= 3),
        "text": ("(N, L) bytes, uint8", x.ndim == 2 and x.dtype == np.uint8),
        "embedding": ("(N, d) or (N, n, d)", x.ndim in (2, 3)),
    }
    if kind not in wanted:
        raise DemonstrationError(f"{where} is of the unknown kind {kind!r}; kinds are {', '.join(KINDS)}.")
    shape, good = wanted[kind]
    if not good or len(x) != n:
        raise DemonstrationError(
            f"{where} has shape {x.shape}; expected {shape} with N = {n} steps ({kind})."
        )
    if kind == "image" and x.shape[-1] == 3 and x.dtype != np.uint8:
        raise DemonstrationError(
            f"{where} has dtype {x.dtype}; expected colours as uint8, 0 to 255 (image): scale and round them."
        )
    if kind in ("flag", "text") or (kind == "image" and x.dtype == np.uint8):
        return
    if not np.issubdtype(x.dtype, np.floating):
        expected = "uint8 or float32" if kind == "image" else "float32"
        raise DemonstrationError(f"{where} has dtype {x.dtype}; expected {expected} ({kind}).")
    bad = ~np.isfinite(x).all(tuple(range(1, x.ndim)))
    if bad.any():
        t = int(bad.argmax())
        row = x[t]
        found = (
            np.array2string(row, precision=3)
            if row.ndim == 1
            else f"not finite in {(~np.isfinite(row)).sum()} places"
        )
        raise DemonstrationError(
            f"{where} is {found} at step {t}; every number must be finite: leave this demonstration out, or collect "
            "it again."
        )
    if kind in ("action", "pose"):
        poses = x[:, : 7 * arms] if kind == "action" else x
        norm = np.linalg.norm(poses.reshape(n, -1, 7)[..., 3:].astype(np.float64), axis=-1)
        t, arm = (int(i) for i in np.unravel_index(np.abs(norm - 1).argmax(), norm.shape))
        if abs(norm[t, arm] - 1) > UNIT_TOLERANCE:
            raise DemonstrationError(
                f"{where} has a quaternion of norm {norm[t, arm]:.4g} at step {t}; expected poses "
                "x y z qw qx qy qz with unit quaternions: normalise them before writing."
            )


class _Disk(io.RawIOBase):
    """A file for HDF5 to write to, which keeps the first error to itself.

    HDF5 does not survive an error of its own file driver: a full disk ends in a segmentation fault when its
    objects are closed. So it is told that all went well, and `write` raises afterwards.
    """

    def __init__(self, path: Path) -> None:
        self._raw = io.FileIO(path, "w+")
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and self.error is None:
            try:
                done += self._raw.write(view[done:]) or 0
            except OSError as error:
                self.error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._raw.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        view[:] = bytes(len(view))  # past the end, after an error
        return self._raw.readinto(view) or 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def close(self) -> None:
        self._raw.close()
        super().close()


def _write_episode(group: h5py.Group, episode: Episode) -> None:
    for key in ("seed", "success", "failure"):
        group.attrs[key] = getattr(episode, key)
    group.attrs["num_samples"] = len(episode)  # robomimic's name for N
    group.create_dataset("actions", data=episode.actions)
    group.create_dataset("disturbed", data=episode.disturbed)
    obs = group.create_group("obs")
    for name, x in episode.obs.items():
        # One frame a chunk: images compress well, and reading a frame does not decode its neighbours.
        image = {"compression": "gzip", "compression_opts": 1, "chunks": (1, *x.shape[1:])}
        obs.create_dataset(name, data=x, **(image if x.ndim == 4 else {}))


def _meta_attributes(meta: Meta) -> dict[str, Any]:
    """The attributes of the data group; mappings as JSON."""
    conventions = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "pose_convention": POSE_CONVENTION,
        "action_convention": action_convention(meta.arms),
    }
    values = {name: getattr(meta, name) for name in Meta.__dataclass_fields__ if name != "arms"}
    return conventions | {
        key: json.dumps(dict(value), sort_keys=True) if isinstance(value, Mapping) else value
        for key, value in values.items()
    }


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {what}; expected a demonstration file, as made by geoflow collect.")
    try:
        # Files are replaced, never changed in place, so there is nothing to lock.
        return h5py.File(path, "r", locking=False)
    except PermissionError as error:
        raise PermissionError(f"{path} cannot be read: no permission.") from error
    except OSError as error:
        size = path.stat().st_size
        if "truncated" in str(error):
            problem = f"is truncated ({size} bytes are left); copy or collect it again"
        elif size == 0:
            problem = "is empty (0 bytes); copy or collect it again"
        else:
            problem = "is not an HDF5 file; pass a demonstration file, as made by geoflow collect"
        raise DemonstrationError(f"{path} {problem}.") from error


def _read_meta(file: h5py.File, path: Path) -> Meta:
    attributes: dict[str, Any] = dict(file["data"].attrs) if "data" in file else {}
    if attributes.get("format") != FORMAT:
        raise DemonstrationError(
            f"{path} is an HDF5 file of another kind (data/ has format {attributes.get('format')!r}, "
            f"expected {FORMAT!r}); make one with geoflow collect or geoflow.data.demonstrations.write."
        )
    if attributes.get("format_version") != FORMAT_VERSION:
        raise DemonstrationError(
            f"{path} has format_version {attributes.get('format_version')}; this geoflow reads "
            f"{FORMAT_VERSION}: install the geoflow that wrote it, or collect again."
        )
    arms = _arms(attributes.get("action_convention"))
    for key, expected, good in (
        ("pose_convention", POSE_CONVENTION, attributes.get("pose_convention") == POSE_CONVENTION),
        ("action_convention", ACTION_CONVENTION, arms is not None),
    ):
        if not good:
            raise DemonstrationError(
                f"{path} has {key} {attributes.get(key)!r}; geoflow reads {expected!r}: convert the poses "
                "and write the file again with geoflow.data.demonstrations.write."
            )
    values = {name: attributes[name] for name in Meta.__dataclass_fields__ if name in attributes}
    missing = [n for n in ("env_id", "env_kwargs", "control_hz", "observation_kinds") if n not in values]
    if missing:
        raise DemonstrationError(
            f"{path} does not say {missing[0]} (an attribute of data/); collect it again."
        )
    for name, kind in Meta.__dataclass_fields__.items():
        if name in values and str(kind.type).startswith("Mapping"):
            values[name] = json.loads(values[name])
    values["control_hz"] = float(values["control_hz"])
    values["attempts"] = int(values.get("attempts", 0))
    assert arms is not None
    return Meta(**values, arms=arms)


def _widths(group: Any) -> dict[str, tuple[int, ...]]:
    """Name -> shape of one step, of everything that is stored for each step."""
    return {"actions": group["actions"].shape[1:]} | {
        f"obs/{name}": x.shape[1:] for name, x in group["obs"].items()
    }


def _number(name: str) -> int:
    tail = name.removeprefix("demo_")
    return int(tail) if tail.isdigit() else -1


_UNREADABLE = (OSError, KeyError, RuntimeError, AttributeError, TypeError)
"""What h5py raises for a damaged file, and for a dataset or group that is missing or is the other one."""


def _damaged(where: str, error: Exception) -> DemonstrationError:
    reason = str(error).strip("'\"").split(",")[0].split(" (")[0]
    return DemonstrationError(
        f"{where}: cannot be read ({reason}); the file is damaged or incomplete: copy or collect it again."
    )
