"""x = T_rw T_wa / length: world-frame actions as points of a space, each arm's seen from a frame of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from geoflow.data.frames import into_frame, out_of_frame
from geoflow.lie import se3
from geoflow.manifolds import SE3, SO3, Euclidean, Manifold, Product
from geoflow.policies.foreign import import_class

WORLD = "world"
POSE_SPACES = {
    "SE3": SE3(),
    "R3xSO3": Product(Euclidean(3), SO3()),
    "Euclidean": Product(Euclidean(3), SO3()),
}


def chunk_space(manifold: str, arms: int, extras: int) -> Product:
    """A pose for each arm, then the extras: points (..., 7 * arms + extras), as an action has them.

    Args:
        manifold: The geometry of a pose, one of `POSE_SPACES` or module:Class.
        arms: Poses.
        extras: Other numbers.

    Raises:
        ValueError: a manifold that is unknown or not of poses.
    """
    return Product(*[_pose_space(manifold)] * arms, Euclidean(extras))


def blocks(dim: int, arms: int, extras: int) -> list[slice]:
    """Position and rotation of each arm, and each extra: parts of ``dim`` tangents or features with one width each."""
    pose = (dim - extras) // arms
    parts = [part for i in range(0, dim - extras, pose) for part in (slice(i, i + 3), slice(i + 3, i + pose))]
    return [*parts, *(slice(i, i + 1) for i in range(dim - extras, dim))]


@dataclass(frozen=True)
class Frames:
    """From where each arm is seen.

    Attributes:
        names: For each arm the pose observation whose present value is its frame, or all `WORLD`.
    """

    names: tuple[str, ...]

    @classmethod
    def of(cls, name: str, poses: list[str], arms: int) -> Frames:
        """The frames that ``policy.frame`` names, of the pose observations ``poses``.

        One name is every arm's; with several arms it may be the beginning of one name an arm: tcp for tcp_left
        and tcp_right.

        Raises:
            ValueError: it names none, or not one for each arm.
        """
        if name == WORLD or name in poses:
            return cls((name,) * arms)
        each = tuple(pose for pose in poses if pose.startswith(f"{name}_"))
        if arms > 1 and len(each) == arms:
            return cls(each)
        several = f", or the beginning of {arms} of them, one an arm" if arms > 1 else ""
        raise ValueError(
            f"policy.frame={name!r}; it is world or a pose observation: {', '.join(poses)}{several}."
        )

    @property
    def in_world(self) -> bool:
        """Whether nothing moves with a hand."""
        return self.names[0] == WORLD

    def poses(self, obs: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """T_wr of each arm, side by side: (B, 1, 7 * arms), or (1, 1, 7 * arms) for the world."""
        if self.in_world:
            return se3.identity(1, 1, dtype=like.dtype, device=like.device).repeat(1, 1, len(self.names))
        return torch.cat([obs[name][:, -1:] for name in self.names], -1)

    def first(self, obs: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """T_wr of the first arm (B, 1, 7), in which is seen what belongs to no arm."""
        return self.poses(obs, like)[..., :7]

    def into(self, obs: Mapping[str, Tensor], actions: Tensor) -> Tensor:
        """World-frame actions (..., B, T, 7 * arms + k) as the frames see them."""
        return into_frame(self.poses(obs, actions), actions)

    def out_of(self, obs: Mapping[str, Tensor], local: Tensor) -> Tensor:
        """The inverse of `into`."""
        return out_of_frame(self.poses(obs, local), local)


@dataclass(frozen=True)
class Units:
    """One length for all positions, so that scaling is an automorphism of the group; each extra standardised.

    Attributes:
        arms: Poses of an action.
        length: Unit of length [m], shape ().
        mean: Of each extra, shape (k,).
        scale: Of each extra, shape (k,).
    """

    arms: int
    length: Tensor
    mean: Tensor
    scale: Tensor

    def into(self, local: Tensor) -> Tensor:
        """Actions (..., 7 * arms + k) in metres as points in these units."""
        poses, extras = split(local, self.arms)
        poses = torch.cat([poses[..., :3] / self.length, poses[..., 3:]], -1)
        return torch.cat([poses.flatten(-2), (extras - self.mean) / self.scale], -1)

    def out_of(self, points: Tensor) -> Tensor:
        """The inverse of `into`."""
        poses, extras = split(points, self.arms)
        poses = torch.cat([poses[..., :3] * self.length, poses[..., 3:]], -1)
        return torch.cat([poses.flatten(-2), extras * self.scale + self.mean], -1)


def split(actions: Tensor, arms: int) -> tuple[Tensor, Tensor]:
    """The poses (..., arms, 7) and the extras (..., k) of actions (..., 7 * arms + k)."""
    return actions[..., : 7 * arms].unflatten(-1, (arms, 7)), actions[..., 7 * arms :]


def _pose_space(name: str) -> Manifold:
    """The geometry of a pose: one of `POSE_SPACES`, or module:Class, made without arguments."""
    if name in POSE_SPACES:
        return POSE_SPACES[name]
    kind = import_class("policy.manifold", name, Manifold, POSE_SPACES)
    try:
        space = kind()  # pyright: ignore[reportAbstractUsage] (a subclass, which import_class has checked)
    except TypeError as error:
        raise ValueError(f"policy.manifold={name!r} is made without arguments ({error}).") from error
    if space.point_dim != 7:
        raise ValueError(
            f"policy.manifold={name!r} stores a point in {space.point_dim} numbers; a pose has 7: x y z qw qx qy qz."
        )
    return space
