"""The same commanded poses in the numbers of others: (N, 7 + k) to (N, w + k) and back.

absolute_wxyz         x y z qw qx qy qz, world; geoflow's own
absolute_xyzw         x y z qx qy qz qw, world
absolute_rotvec       x y z rx ry rz, world; the rotation vector [rad] of robosuite's absolute OSC_POSE
absolute_6d_rows      x y z and the first two ROWS of R; Diffusion Policy, through PyTorch3D's matrix_to_rotation_6d
absolute_6d_columns   x y z and the first two COLUMNS of R; Zhou et al. 2019 (arXiv:1812.07035)
delta_rotvec          p_target = p + a d_p, R_target = Exp(b d_r) R, with p, R the observed pose of the same step and
                      (a, b) the scale [m, rad]; in world axes, as robosuite's OSC_POSE with control_delta

Extras follow unchanged but for the gripper's numbers, which `GRIPPERS` names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial

import numpy as np
import torch
from torch import Tensor

from geoflow.data.demonstrations import DemonstrationError, Episode
from geoflow.lie import se3, so3

ORTHONORMAL_TOLERANCE = 1e-2
"""How far the two vectors of a stored 6-D rotation may be from orthonormal."""
EXTRAS_TOLERANCE = 1e-3
"""How far beyond [-1, 1] an extra may lie."""


@dataclass(frozen=True)
class Representation:
    """One way to write a pose.

    Attributes:
        names: Of its numbers, without extras.
        encode: Poses (N, 7) -> (N, w).
        decode: The inverse.
    """

    names: tuple[str, ...]
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]

    @property
    def width(self) -> int:
        """w."""
        return len(self.names)


def _same(x: Tensor) -> Tensor:
    return x


_XYZ = ("x", "y", "z")
ABSOLUTE = {
    "absolute_wxyz": Representation((*_XYZ, "qw", "qx", "qy", "qz"), _same, _same),
    "absolute_xyzw": Representation((*_XYZ, "qx", "qy", "qz", "qw"), se3.to_xyzw, se3.from_xyzw),
    "absolute_rotvec": Representation((*_XYZ, "rx", "ry", "rz"), se3.to_rotvec, se3.from_rotvec),
    "absolute_6d_rows": Representation(
        (*_XYZ, "r11", "r12", "r13", "r21", "r22", "r23"),
        partial(se3.to_6d, by="rows"),
        partial(se3.from_6d, by="rows"),
    ),
    "absolute_6d_columns": Representation(
        (*_XYZ, "r11", "r21", "r31", "r12", "r22", "r32"),
        partial(se3.to_6d, by="columns"),
        partial(se3.from_6d, by="columns"),
    ),
}
"""Conventions that need the action alone."""
DELTA = "delta_rotvec"
DELTA_NAMES = ("dx", "dy", "dz", "drx", "dry", "drz")
CONVENTIONS = (*ABSOLUTE, DELTA)

GRIPPERS: dict[str, tuple[float, float]] = {
    "closed_positive": (-1.0, 1.0),
    "open_positive": (1.0, -1.0),
    "closed_unit": (0.0, 1.0),
    "open_unit": (1.0, 0.0),
}
"""Gripper convention -> its number for open and for closed; ours, and robosuite's, is the first."""


@dataclass(frozen=True)
class Actions:
    """How a file writes its actions.

    Attributes:
        convention: One of `CONVENTIONS`.
        gripper: One of `GRIPPERS`, for every extra.
        scale: What a delta of 1 means [m, rad]; of delta_rotvec alone.
        tcp: The pose observation that deltas start from; of delta_rotvec alone.

    Raises:
        DemonstrationError: an unknown name, or a scale that is not positive.
    """

    convention: str = "absolute_wxyz"
    gripper: str = "closed_positive"
    scale: tuple[float, float] = (1.0, 1.0)
    tcp: str = ""

    def __post_init__(self) -> None:
        _known("action convention", self.convention, CONVENTIONS)
        _known("gripper convention", self.gripper, GRIPPERS)
        if len(self.scale) != 2 or not all(np.isfinite(s) and s > 0 for s in self.scale):
            raise DemonstrationError(
                f"the scale of deltas is {self.scale}; expected two positive numbers, metres and radians, "
                "as in 0.05 0.5 (robosuite's OSC_POSE)."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the numbers, without extras."""
        return DELTA_NAMES if self.convention == DELTA else ABSOLUTE[self.convention].names

    def names_with_extras(self, width: int) -> list[str]:
        """Of ``width`` numbers: a single extra is the gripper."""
        extras = width - len(self.names)
        return [*self.names, *(["gripper"] if extras == 1 else [f"extra_{i}" for i in range(extras)])]

    def with_tcp(self, kinds: Mapping[str, str], where: str) -> Actions:
        """The same, deltas starting from the pose observation that there is, if there is one alone or a "tcp".

        Absolute conventions lose the scale and the tcp, which mean nothing to them.

        Raises:
            DemonstrationError: deltas, and it cannot be known which observation they start from.
        """
        if self.convention != DELTA:
            return Actions(self.convention, self.gripper)
        poses = [name for name, kind in kinds.items() if kind == "pose"]
        name = self.tcp or ("tcp" if "tcp" in poses else poses[0] if len(poses) == 1 else "")
        if name not in poses:
            found = f"its pose observations are {', '.join(poses)}" if poses else "it has no pose observation"
            asked = f"the one asked for, {name!r}, is not among them" if name else "name one with --tcp"
            raise DemonstrationError(
                f"{where}: delta actions start from the observed pose of the tool, and {found}; {asked}."
            )
        return replace(self, tcp=name)

    def encode(self, episode: Episode, where: str) -> np.ndarray:
        """The episode's actions (N, 7 + k), absolute poses in the world, in this convention: (N, w + k) float32.

        Raises:
            DemonstrationError: scaled deltas beyond [-1, 1], which robosuite would clip.
        """
        x = torch.from_numpy(np.asarray(episode.actions, np.float64))
        if self.convention == DELTA:
            pose = self._delta(self._start(episode, where), x[:, :7])
            self._check_range(pose, where)
        else:
            pose = ABSOLUTE[self.convention].encode(x[:, :7])
        opened, closed = GRIPPERS[self.gripper]
        extras = opened + (closed - opened) * (x[:, 7:] + 1) / 2
        # Ours in ours stays what it was, to the bit.
        extras = x[:, 7:] if self.gripper == "closed_positive" else extras
        return torch.cat([pose, extras], -1).numpy().astype(np.float32)

    def decode(self, episode: Episode, where: str, own: bool = False) -> np.ndarray:
        """The inverse: actions of this convention (N, w + k) as absolute poses with extras, (N, 7 + k) float32.

        Extras beyond [-1, 1] tell of another convention, unless the file is geoflow's ``own``.

        Raises:
            DemonstrationError: too few numbers, a 6-D rotation that is none, extras beyond the gripper's range.
        """
        actions = np.asarray(episode.actions)
        width = len(self.names)
        if actions.ndim != 2 or actions.shape[1] < width or actions.dtype.kind not in "fiu":
            raise DemonstrationError(
                f"{where}: actions have shape {actions.shape} and dtype {actions.dtype}; {self.convention} needs "
                f"(N, {width} + k) numbers ({' '.join(self.names)}, then extras): give another --from-actions of "
                f"{', '.join(CONVENTIONS)}."
            )
        x = torch.from_numpy(actions.astype(np.float64))
        if not bool(torch.isfinite(x).all()):
            raise DemonstrationError(
                f"{where}: actions hold a number that is not finite; leave the episode out."
            )
        if "6d" in self.convention:
            self._check_orthonormal(x[:, 3:9], where)
        if self.convention == DELTA:
            pose = self._target(self._start(episode, where), x[:, :6])
        else:
            pose = ABSOLUTE[self.convention].decode(x[:, :width])
        opened, closed = GRIPPERS[self.gripper]
        extras = x[:, width:]
        if self.gripper != "closed_positive":
            extras = 2 * (extras - opened) / (closed - opened) - 1
        if not own and extras.numel() and float(extras.abs().max()) > 1 + EXTRAS_TOLERANCE:
            low, high = float(x[:, width:].min()), float(x[:, width:].max())
            raise DemonstrationError(
                f"{where}: numbers {width + 1} to {actions.shape[1]} of the actions lie between {low:.4g} and "
                f"{high:.4g}, which is no gripper command of {self.gripper} (open {opened:g}, closed {closed:g}); "
                f"give another --from-gripper of {', '.join(GRIPPERS)}, or another --from-actions."
            )
        return torch.cat([pose, extras], -1).numpy().astype(np.float32)

    def _start(self, episode: Episode, where: str) -> Tensor:
        assert self.tcp in episode.obs, where  # with_tcp has chosen it
        return torch.from_numpy(np.asarray(episode.obs[self.tcp], np.float64))

    def _delta(self, start: Tensor, target: Tensor) -> Tensor:
        turn = so3.to_rotvec(so3.compose(target[:, 3:], so3.inverse(start[:, 3:])))
        return torch.cat([(target[:, :3] - start[:, :3]) / self.scale[0], turn / self.scale[1]], -1)

    def _target(self, start: Tensor, delta: Tensor) -> Tensor:
        turn = so3.from_rotvec(delta[:, 3:] * self.scale[1])
        position = start[:, :3] + delta[:, :3] * self.scale[0]
        return torch.cat([position, so3.normalise(so3.compose(turn, start[:, 3:]))], -1)

    def _check_range(self, delta: Tensor, where: str) -> None:
        largest = float(delta.abs().max())
        if self.scale != (1.0, 1.0) and largest > 1 + EXTRAS_TOLERANCE:
            raise DemonstrationError(
                f"{where}: an action lies {largest:.3g} times the scale {self.scale} away from the tool, and "
                "robosuite would clip it to 1; give a larger --to-scale, or an absolute --to-actions."
            )

    def _check_orthonormal(self, vectors: Tensor, where: str) -> None:
        a, b = vectors[:, :3], vectors[:, 3:]
        off = torch.stack([a.norm(dim=-1) - 1, b.norm(dim=-1) - 1, (a * b).sum(-1)]).abs()
        if float(off.max()) > ORTHONORMAL_TOLERANCE:
            t = int(off.max(0).values.argmax())
            raise DemonstrationError(
                f"{where}: numbers 4 to 9 of action {t} are {vectors[t].tolist()}, not two orthonormal vectors as "
                f"{self.convention} has them; give another --from-actions of {', '.join(CONVENTIONS)}."
            )


def _known(what: str, name: str, names: tuple[str, ...] | Mapping[str, object]) -> None:
    if name not in names:
        close = get_close_matches(name, names, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise DemonstrationError(f"unknown {what} {name!r}; {hint}known are {', '.join(names)}.")
