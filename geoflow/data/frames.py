"""T_ra = T_wr^-1 T_wa: poses and chunks seen from another frame."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from geoflow.lie import se3, so3
from geoflow.manifolds import SO3


def into_frame(T_wr: Tensor, actions: Tensor) -> Tensor:
    """World-frame actions (..., 7 n + k) of n arms seen from the frames r; extras are left as they are.

    Args:
        T_wr: Pose of each arm's frame in the world, side by side, shape (..., 7 n), broadcast against the actions.
        actions: Poses with extras, shape (..., 7 n + k).
    """
    return _each(se3.between, T_wr, actions)


def out_of_frame(T_wr: Tensor, actions: Tensor) -> Tensor:
    """The inverse of `into_frame`: actions (..., 7 n + k) of the frames r, in the world."""
    return _each(se3.compose, T_wr, actions)


def _each(move: Callable[[Tensor, Tensor], Tensor], T_wr: Tensor, actions: Tensor) -> Tensor:
    """Actions (..., 7 n + k) with each pose moved by its arm's frame, T_wr (..., 7 n)."""
    T_wr = T_wr.unflatten(-1, (-1, 7))
    arms = T_wr.shape[-2]
    poses, extras = actions[..., : 7 * arms], actions[..., 7 * arms :]
    return torch.cat([move(T_wr, poses.unflatten(-1, (arms, 7))).flatten(-2), extras], -1)


FINE_POSITIONS = (0.1, 0.02, 0.004)
"""Scales [m] of the saturating position features."""
FINE_ANGLES = (0.5, 0.1)
"""Scales [rad] of the saturating rotation features."""


def pose_features(T: Tensor) -> Tensor:
    """What a network is shown of a relative pose, shape (..., 24): coarse everywhere, fine near the identity.

    Position [m], the first two columns of R, and tanh(p / s), tanh(omega / s) over a few scales s, so that a
    millimetre next to a hole is as visible as a decimetre away from it. omega is the rotation vector.
    """
    rotation, position = SO3().features(T[..., 3:7]), T[..., :3]
    omega = so3.log(T[..., 3:7])
    fine = [position / s for s in FINE_POSITIONS] + [omega / s for s in FINE_ANGLES]
    return torch.cat([position, rotation, torch.tanh(torch.cat(fine, -1))], -1)


def height_and_up(T_wa: Tensor) -> Tensor:
    """The height [m] of a frame and the world's z axis seen from it, shape (..., 4): what gravity does to it."""
    z = torch.nn.functional.pad(
        T_wa.new_ones(1), (2, 0)
    )  # made on the device: a CUDA graph copies none from the host
    up = so3.act(so3.inverse(T_wa[..., 3:7]), z)
    return torch.cat([T_wa[..., 2:3], up], -1)
