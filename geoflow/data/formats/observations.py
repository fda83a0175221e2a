"""Observations in the shapes of others: what is a pose, a vector, an image; poses in one piece or in two."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from geoflow.data.demonstrations import DemonstrationError
from geoflow.data.formats.recording import Hints

POSITION, QUATERNION, SITE_QUATERNION = "_pos", "_quat", "_quat_site"
"""Endings of a pose in two pieces: metres, and a quaternion xyzw, as robosuite has them.

robosuite's ``_quat`` is that of the hand's body, ``_quat_site`` that of the grip site, which its absolute actions
command; they differ by a fixed rotation. Where both are there, the site's is taken.
"""


def split_poses(obs: Mapping[str, np.ndarray], kinds: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Every pose NAME (N, 7) as NAME_pos (N, 3) and NAME_quat (N, 4), xyzw.

    Raises:
        DemonstrationError: one of these names is taken.
    """
    columns: dict[str, np.ndarray] = {}
    for name, x in obs.items():
        parts = {name: x}
        if kinds[name] == "pose":
            parts = {name + POSITION: x[:, :3], name + QUATERNION: np.roll(x[:, 3:], -1, axis=-1)}
        for key, part in parts.items():
            if key in columns:
                raise DemonstrationError(
                    f"observation {key!r} would be there twice: the pose {name!r} is written in two pieces; "
                    "rename one of them."
                )
            columns[key] = part
    return columns


def merge_poses(
    columns: Mapping[str, np.ndarray], kinds: Mapping[str, str] | None = None
) -> tuple[dict[str, np.ndarray], set[str]]:
    """The inverse of `split_poses`, and the names of the poses.

    Args:
        columns: Name -> (N, ...).
        kinds: Kinds of the merged observations; where they are not known, every pair NAME_pos (N, 3) and
            NAME_quat (N, 4) is a pose.
    """
    merged: dict[str, np.ndarray] = {}
    used: set[str] = set()
    poses = set()
    for key, position in columns.items():
        name = key.removesuffix(POSITION)
        quaternion = name + (SITE_QUATERNION if name + SITE_QUATERNION in columns else QUATERNION)
        if name == key or quaternion not in columns or (name in columns):
            continue
        pair = position.ndim == 2 and position.shape[-1] == 3 and columns[quaternion].shape[1:] == (4,)
        if not pair or (kinds is not None and kinds.get(name) != "pose"):
            continue
        if len(position) != len(columns[quaternion]):
            continue  # the check of the episode names the shorter one
        merged[name] = np.concatenate([position, np.roll(columns[quaternion], 1, axis=-1)], -1)
        used |= {key, name + QUATERNION, name + SITE_QUATERNION}
        poses.add(name)
    rest = {key: x for key, x in columns.items() if key not in used}
    return merged | rest, poses


def kinds_of(columns: Mapping[str, np.ndarray], poses: set[str], hints: Hints, where: str) -> dict[str, str]:
    """Kinds of foreign observations, by shape and dtype; poses are those that are known to be, or hinted at.

    Raises:
        DemonstrationError: an observation is none of ours, or a hint names what is not there.
    """
    missing = [name for name in hints.poses if name not in columns]
    if missing:
        raise DemonstrationError(
            f"{where} has no observation {missing[0]!r}; its observations are {', '.join(columns)}."
        )
    kinds = {}
    for name, x in columns.items():
        if name in poses or name in hints.poses:
            if x.ndim != 2 or x.shape[-1] != 7:
                raise DemonstrationError(
                    f"{where}: observation {name} of shape {x.shape} is no pose (N, 7); leave it out of --poses."
                )
            kinds[name] = "pose"
        elif x.dtype == np.uint8 and x.ndim == 4:
            kinds[name] = "image"
        elif x.ndim <= 2 and x.dtype.kind in "fiub":
            kinds[name] = "vector"
        else:
            raise DemonstrationError(
                f"{where}: observation {name} of shape {x.shape} and dtype {x.dtype} is neither a vector (N, d) nor "
                f"a uint8 image (N, H, W, C); leave it out with --skip {name}."
            )
    return kinds


def adopt(
    columns: Mapping[str, np.ndarray], kinds: Mapping[str, str], hints: Hints, where: str
) -> dict[str, np.ndarray]:
    """Foreign observations as ours: float32, quaternions wxyz, (N,) as (N, 1).

    Raises:
        DemonstrationError: an observation is missing.
    """
    obs = {}
    for name, kind in kinds.items():
        if name not in columns:
            raise DemonstrationError(f"{where}: has no observation {name!r}, which the first episode has.")
        x = columns[name]
        if x.dtype == np.uint8 and kind not in ("pose", "vector"):
            obs[name] = x
            continue
        x = x[:, None] if x.ndim == 1 else x
        if hints.poses.get(name) == "xyzw":
            x = np.concatenate([x[:, :3], np.roll(x[:, 3:], 1, axis=-1)], -1)
        obs[name] = np.ascontiguousarray(x, np.float32)
    return obs
