"""T_ab of all poses that are seen: what a network is told of poses and vectors, as numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geoflow.data.frames import height_and_up, pose_features
from geoflow.lie import se3


@dataclass(frozen=True)
class StateFeatures:
    """Relative poses, coarse and fine, and vectors.

    Every pair of present poses is seen from each other, and the past of a pose from its present, so nothing changes
    when the whole scene is moved. What gravity needs, and where asked for the poses themselves, are added.

    Attributes:
        poses: Names of the poses, (B, To, 7) each.
        vectors: Names of the vectors, (B, To, d) each.
        world: Whether poses are told as they are, too.
        gravity: Whether heights and which way is up are told.
    """

    poses: tuple[str, ...]
    vectors: tuple[str, ...]
    world: bool
    gravity: bool

    def vector(self, obs: Mapping[str, Tensor]) -> Tensor:
        """All of it side by side, shape (B, N).

        Raises:
            ValueError: one pose alone, of which there is nothing to tell.
        """
        seen = self._views(obs, self.poses)
        if self.world:
            seen += [obs[name][:, -1] for name in self.poses]
        upright = [obs[name][:, -1] for name in self.poses if self.gravity]
        vectors = [obs[name].flatten(1) for name in self.vectors]
        if not (seen or upright or vectors):
            raise ValueError(
                f"the pose {', '.join(self.poses)} is seen from nowhere else, so that there is nothing to tell of it. "
                "Leave policy.gravity on, show more observations or observation_steps, or use the backbone transformer."
            )
        return torch.cat([*_stacked(pose_features, seen), *_stacked(height_and_up, upright), *vectors], -1)

    def parts(self, obs: Mapping[str, Tensor]) -> list[Tensor]:
        """`vector` by observation, (B, n) each: poses first, then vectors."""
        parts = []
        for name in self.poses:
            seen = self._views(obs, [name])
            if self.world:
                seen.append(obs[name][:, -1])
            upright = [height_and_up(obs[name][:, -1])] if self.gravity else []
            alone = [] if seen or upright else [torch.zeros_like(obs[name][:, -1, :1])]
            parts.append(torch.cat([*_stacked(pose_features, seen), *upright, *alone], -1))
        return [*parts, *(obs[name].flatten(1) for name in self.vectors)]

    def _views(self, obs: Mapping[str, Tensor], names: Sequence[str]) -> list[Tensor]:
        """Poses (B, 7) seen from the present pose of each of ``names``: the others, then its own past."""
        # Both T_ab and T_ba are shown: which of the two makes a task's law simple depends on the task.
        now = {name: obs[name][:, -1] for name in self.poses}
        pairs = []
        for a in names:
            pairs += [(now[a], now[b]) for b in self.poses if b != a]
            pairs += [(now[a], past) for past in obs[a][:, :-1].unbind(1)]
        if not pairs:
            return []
        T_wa, T_wb = (torch.stack(side) for side in zip(*pairs, strict=True))
        return list(se3.between(T_wa, T_wb))


def _stacked(function: Callable[[Tensor], Tensor], rows: list[Tensor]) -> list[Tensor]:
    """``function`` of each of some tensors of one shape, in one call of it."""
    return list(function(torch.stack(rows))) if rows else []
