"""Policy: observation dictionary -> action chunk in the world frame. Geometry, frames and units live here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geoflow.data.chunks import Batch, Chunks
from geoflow.data.frames import height_and_up, into_frame, out_of_frame, pose_features
from geoflow.flows.inpainting import soft_mask
from geoflow.flows.noise import Generators
from geoflow.lie import se3
from geoflow.manifolds import SE3, SO3, Euclidean, Manifold, Product, frechet_mean
from geoflow.policies.backbones import BACKBONES
from geoflow.policies.config import PolicyConfig
from geoflow.policies.encoders import VectorEncoder
from geoflow.policies.foreign import import_class

Goal = tuple[Tensor, Tensor]
"""Points (B, T, point_dim) that a chunk should go on with, and the weight (T,) of each step."""

POSE_SPACES = {
    "SE3": SE3(),
    "R3xSO3": Product(Euclidean(3), SO3()),
    "Euclidean": Product(Euclidean(3), SO3()),
}


@dataclass(frozen=True)
class PolicySpec:
    """What a policy acts on: fixed by the demonstrations it is trained on.

    Attributes:
        env_id: The gymnasium id of the task.
        control_hz: Actions a second.
        kinds: Observation name -> "pose", "vector" or "image".
        shapes: Observation name -> shape of one observation.
        action_dim: 7 + k.
    """

    env_id: str
    control_hz: float
    kinds: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    action_dim: int

    @classmethod
    def of(cls, chunks: Chunks) -> PolicySpec:
        """The spec of a demonstration file."""
        meta = chunks.meta
        return cls(
            meta.env_id, meta.control_hz, dict(meta.observation_kinds), chunks.shapes, chunks.action_dim
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PolicySpec:
        """From the JSON of a checkpoint."""
        shapes = {name: tuple(shape) for name, shape in values["shapes"].items()}
        return cls(**{**values, "shapes": shapes})

    def to_dict(self) -> dict[str, Any]:
        """For the JSON of a checkpoint."""
        return asdict(self)


@dataclass(frozen=True)
class Onward:
    """The chunk that is executed while the next is computed, and that the next should go on with.

    Attributes:
        actions: What is left of it from now on, world frame, shape (n, 7 + k) or (B, n, 7 + k), n up to the horizon.
        delay: Steps of it that will have been executed when the next chunk is there, 0 to n.
    """

    actions: Tensor
    delay: int


class Policy(nn.Module, ABC):
    """A generative model of action chunks given observations.

    Chunks are expressed in a frame (the end effector's, or the world's), positions in units of one isotropic
    length (so that scaling is an automorphism of the group; per-axis scaling is not), extras standardised.
    A subclass adds how noise becomes a chunk: `chunk_loss` and `sample_chunk` on points of `space`.

    Args:
        config: The choices.
        spec: The task.
    """

    length: Tensor
    extras_mean: Tensor
    extras_scale: Tensor
    chunk_mean: Tensor
    chunk_scale: Tensor
    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self, config: PolicyConfig, spec: PolicySpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.extras = spec.action_dim - 7
        _check_config(config, spec)
        self.pose_space = Product(_pose_space(config.manifold), Euclidean(self.extras))
        flat = config.manifold == "Euclidean"
        self.space: Manifold = Euclidean(self.pose_space.feature_dim) if flat else self.pose_space
        T, F, D = config.horizon, self.space.feature_dim, self.space.tangent_dim
        self.encoder = VectorEncoder(self._observation_dim(), width=config.width // 2)
        self.net = BACKBONES[config.backbone](
            horizon=T,
            inputs=F,
            outputs=D,
            cond=config.width // 2,
            width=config.width,
            depth=config.depth,
            times=self.times(config),
        )
        for name, value in {
            "length": torch.ones(()),
            "extras_mean": torch.zeros(self.extras),
            "extras_scale": torch.ones(self.extras),
            "chunk_mean": self.space.identity(T),
            "chunk_scale": torch.ones(T, D),
            "feature_mean": torch.zeros(T, F),
            "feature_scale": torch.ones(T, F),
        }.items():
            self.register_buffer(name, value)

    # What a subclass says.

    @staticmethod
    @abstractmethod
    def default_solver(config: PolicyConfig) -> str:
        """What solver "auto" means."""

    @staticmethod
    def times(config: PolicyConfig) -> int:
        """How many times its network takes: 1, or 2 where it jumps from one to the other."""
        return 1

    @abstractmethod
    def chunk_loss(self, x_1: Tensor, cond: Tensor, generator: Generators) -> Tensor:
        """Training loss (B,) of chunks x_1 (B, T, point_dim) of `space`, given cond (B, C)."""

    @abstractmethod
    def sample_chunk(
        self, cond: Tensor, nfe: int, solver: str, generator: Generators, *, path: bool = False
    ) -> Tensor:
        """Chunks (B, T, point_dim) of `space`; with ``path`` all states from noise to chunk, stacked in front."""

    # What users and the training loop call.

    def forward(self, batch: Batch, generator: Generators = None) -> Tensor:
        """Training loss of each batch element, shape (B,)."""
        cond = self.encoder(self.observation_vector(batch.obs))
        return self.chunk_loss(self.to_space(batch.obs, batch.actions), cond, generator)

    def act(
        self,
        obs: Mapping[str, Any],
        nfe: int | None = None,
        solver: str | None = None,
        generator: Generators = None,
        onward: Onward | None = None,
    ) -> Tensor:
        """The next chunk, in the world frame.

        Args:
            obs: name -> array or tensor of shape (d,), (To, d) or (B, To, d), the present observation last.
            nfe: Network evaluations; the policy's own by default.
            solver: The policy's own by default.
            generator: Source of randomness; one per batch element makes the result independent of the batch.
            onward: A chunk that is being executed and that this one should go on with (real-time chunking).

        Returns:
            Actions (T, 7 + k), or (B, T, 7 + k) for batched observations: position [m], quaternion wxyz, extras.

        Raises:
            ValueError: an observation is missing or of another shape than the policy was trained on; nfe < 1; a
                chunk to go on with that is longer than the horizon or shorter than the delay, or a policy that
                cannot go on with one.
        """
        batched, single = self._batched(obs)
        # Going on with a chunk takes the network's gradient with respect to its input, which inference mode forbids.
        with torch.inference_mode() if onward is None else torch.no_grad():
            chunk = self._act(batched, nfe, solver, generator, path=False, onward=onward)
        return chunk[0 if single else slice(None)]

    def check_onward(self) -> None:
        """Raise ValueError where the policy cannot go on with a given chunk."""
        raise ValueError(
            f"a {type(self).__name__} cannot go on with the chunk that is being executed; a flow policy can. Use the "
            "naive execution."
        )

    @torch.inference_mode()
    def sample_path(
        self,
        obs: Mapping[str, Any],
        nfe: int | None = None,
        solver: str | None = None,
        generator: Generators = None,
    ) -> Tensor:
        """How noise becomes a chunk: world-frame states, shape (S + 1, T, 7 + k) ((S + 1, B, T, 7 + k) batched)."""
        batched, single = self._batched(obs)
        states = self._act(batched, nfe, solver, generator, path=True)
        return states[:, 0] if single else states

    @property
    def parameter_count(self) -> int:
        """Trained numbers."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    # Frames and units.

    def observation_vector(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Everything the network is told, shape (B, N): relative poses, coarse and fine, and vectors.

        Every pair of present poses is seen from each other, and the past of a pose from its present, so in an
        end-effector frame nothing changes when the whole scene is moved. What gravity needs, and in the world
        frame the poses themselves, are added.
        """
        poses = [name for name, kind in self.spec.kinds.items() if kind == "pose"]
        vectors = [obs[name].flatten(1) for name, kind in self.spec.kinds.items() if kind == "vector"]
        seen = []
        for a in poses:
            # Both T_ab and T_ba: which of the two makes a task's law simple depends on the task.
            seen += [se3.compose(se3.inverse(obs[a][:, -1]), obs[b][:, -1]) for b in poses if b != a]
            # The past of a pose, seen from its present.
            seen += [
                se3.compose(se3.inverse(obs[a][:, -1]), obs[a][:, step])
                for step in range(obs[a].shape[1] - 1)
            ]
        if self.config.frame == "world":
            seen += [obs[name][:, -1] for name in poses]
        upright = [height_and_up(obs[name][:, -1]) for name in poses] if self.config.gravity else []
        return torch.cat([*(pose_features(T) for T in seen), *upright, *vectors], -1)

    def to_space(self, obs: Mapping[str, Tensor], actions: Tensor) -> Tensor:
        """World-frame actions (B, T, 7 + k) as points (B, T, point_dim) of `space`: frame, units, features."""
        local = into_frame(self._frame(obs), actions)
        position = local[..., :3] / self.length
        extras = (local[..., 7:] - self.extras_mean) / self.extras_scale
        points = torch.cat([position, local[..., 3:7], extras], -1)
        return self.pose_space.features(points) if isinstance(self.space, Euclidean) else points

    def from_space(self, obs: Mapping[str, Tensor], points: Tensor) -> Tensor:
        """The inverse of `to_space`: actions (..., B, T, 7 + k) in the world frame."""
        if isinstance(self.space, Euclidean):
            points = self.pose_space.from_features(points)
        extras = points[..., 7:] * self.extras_scale + self.extras_mean
        local = torch.cat([points[..., :3] * self.length, points[..., 3:7], extras], -1)
        return out_of_frame(self._frame(obs), local)

    def evaluate_network(self, features: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """The backbone on standardised features: (B, T, F), (B,), (B, C) -> (B, T, D)."""
        return self.net((features - self.feature_mean) / self.feature_scale, t, cond)

    # Statistics.

    @torch.no_grad()
    def fit(self, chunks: Chunks, samples: int = 8192) -> None:
        """Take units, centres and widths from demonstrations; called once, before training."""
        batch = chunks.sample(samples)
        local = into_frame(self._frame(batch.obs), batch.actions)
        position, extras = local[..., :3], local[..., 7:]
        self.length.copy_((position - position.mean((0, 1))).square().sum(-1).mean().sqrt().clamp(min=1e-3))
        self.extras_mean.copy_(extras.mean((0, 1)))
        self.extras_scale.copy_(extras.std((0, 1)).clamp(min=1e-2))
        x_1 = self.to_space(batch.obs, batch.actions)
        self.chunk_mean.copy_(_center(self.space, x_1.double()))
        spread = self.space.log(self.chunk_mean.expand_as(x_1), x_1).square().mean(0)
        self.chunk_scale.copy_(_by_block(spread, self._blocks(self.space.tangent_dim)).sqrt())
        features = self.space.features(x_1)
        self.feature_mean.copy_(features.mean(0))
        spread = features.var(0)
        self.feature_scale.copy_(_by_block(spread, self._blocks(self.space.feature_dim)).sqrt())
        self.encoder.fit(self.observation_vector(batch.obs))

    def _blocks(self, dim: int) -> list[slice]:
        """Position, rotation and each extra: the parts of a tangent or feature that share one width."""
        rotation_end = dim - self.extras
        return [slice(0, 3), slice(3, rotation_end), *(slice(i, i + 1) for i in range(rotation_end, dim))]

    def _frame(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Pose of the chunk frame in the world, shape (B, 1, 7)."""
        if self.config.frame == "world":
            any_obs = next(iter(obs.values()))
            return se3.identity(1, 1, dtype=any_obs.dtype, device=any_obs.device)
        return obs[self.config.frame][:, -1:]

    def _observation_dim(self) -> int:
        shapes, kinds, To = self.spec.shapes, self.spec.kinds, self.config.observation_steps
        dummy = {}
        for name in kinds:
            x = torch.zeros(1, To, *shapes[name])
            if kinds[name] == "pose":
                x[..., 3] = 1.0
            dummy[name] = x
        return self.observation_vector(dummy).shape[-1]

    def _act(
        self,
        obs: dict[str, Tensor],
        nfe: int | None,
        solver: str | None,
        generator: Generators,
        *,
        path: bool,
        onward: Onward | None = None,
    ) -> Tensor:
        nfe = self.config.nfe if nfe is None else nfe
        if nfe < 1:
            raise ValueError(f"nfe={nfe}; a chunk needs at least 1 network evaluation.")
        cond = self.encoder(self.observation_vector(obs))
        solver = solver or self.config.solver
        solver = self.default_solver(self.config) if solver == "auto" else solver
        goal = {} if onward is None else {"goal": self._goal(obs, onward)}
        points = self.sample_chunk(cond, nfe, solver, generator, path=path, **goal)
        return self.from_space(obs, points)

    def _goal(self, obs: dict[str, Tensor], onward: Onward) -> Goal:
        """A chunk under way as a chunk of `space` in the present frame, and how much each step counts."""
        self.check_onward()
        actions = onward.actions.to(self.length)
        actions = actions if actions.dim() == 3 else actions.unsqueeze(0)
        T, known = self.config.horizon, actions.shape[1]
        batch = len(next(iter(obs.values())))
        if actions.shape[0] != batch or not 1 <= known <= T or actions.shape[2] != self.spec.action_dim:
            raise ValueError(
                f"the chunk to go on with has shape {tuple(onward.actions.shape)}; expected ({batch}, n, "
                f"{self.spec.action_dim}) with n from 1 to the horizon {T}."
            )
        weights = soft_mask(T, onward.delay, known).to(actions)
        actions = torch.cat([actions, actions[:, -1:].expand(-1, T - known, -1)], dim=1)
        return self.to_space(obs, actions), weights

    def _batched(self, obs: Mapping[str, Any]) -> tuple[dict[str, Tensor], bool]:
        """Observations as (B, To, d) tensors of the policy's dtype and device, and whether they came unbatched."""
        batched, single = {}, False
        To = self.config.observation_steps
        for name in self.spec.kinds:
            shape = tuple(self.spec.shapes[name])
            if name not in obs:
                raise ValueError(
                    f"observation {name!r} is missing; this policy was trained on {sorted(self.spec.kinds)} "
                    f"and was given {sorted(obs)}."
                )
            x = torch.as_tensor(np.asarray(obs[name]) if not isinstance(obs[name], Tensor) else obs[name])
            x = x.to(self.length)
            single = x.dim() <= len(shape) + 1
            if x.shape == shape and To == 1:
                x = x[None, None]
            elif single:
                x = x[None]
            if x.dim() != len(shape) + 2 or x.shape[1:] != (To, *shape):
                raise ValueError(
                    f"observation {name!r} has shape {tuple(x.shape)}; this policy was trained on (B, {To}, "
                    f"{', '.join(map(str, shape))}), and takes one unbatched as well."
                )
            batched[name] = x
        return batched, single


def _center(space: Manifold, x: Tensor) -> Tensor:
    """The Frechet mean over the first axis, or the mean of features where rotations spread too far for one."""
    try:
        return frechet_mean(space, x, tolerance=1e-5)
    except RuntimeError:
        return space.from_features(space.features(x).mean(0))


def _by_block(variance: Tensor, blocks: list[slice], floor: float = 0.05) -> Tensor:
    """One variance per chunk step and block, at least ``floor^2`` of the block's largest, shape as given."""
    out = torch.empty_like(variance)
    for block in blocks:
        pooled = variance[..., block].mean(-1, keepdim=True)
        out[..., block] = pooled.clamp(min=max(float(pooled.max()) * floor**2, 1e-8))
    return out


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


def _check_config(config: PolicyConfig, spec: PolicySpec) -> None:
    if config.backbone not in BACKBONES:
        raise ValueError(f"policy.backbone={config.backbone!r}; it is one of {', '.join(BACKBONES)}.")
    poses = [name for name, kind in spec.kinds.items() if kind == "pose"]
    if config.frame != "world" and config.frame not in poses:
        raise ValueError(
            f"policy.frame={config.frame!r}; it is world or a pose observation: {', '.join(poses)}."
        )
    images = [name for name, kind in spec.kinds.items() if kind == "image"]
    if images:
        raise ValueError(f"observations {images} are images; this policy takes poses and vectors.")
