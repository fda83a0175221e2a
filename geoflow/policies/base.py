"""Policy: observation dictionary -> action chunk in the world frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geoflow.data.chunks import Batch, Chunks
from geoflow.data.frames import height_and_up, into_frame, pose_features
from geoflow.flows.flow import Network
from geoflow.flows.inpainting import soft_mask
from geoflow.flows.noise import Generators
from geoflow.lie import se3
from geoflow.manifolds import SE3, Euclidean, Manifold, frechet_mean
from geoflow.policies.backbones import BACKBONES, Condition, InvariantTransformer
from geoflow.policies.config import PolicyConfig
from geoflow.policies.encoders import ENCODERS, VectorEncoder, tokenise
from geoflow.policies.frames import Frames, Units, blocks, chunk_space, split
from geoflow.policies.given import CHANNELS, Given, delays, mark, widened
from geoflow.policies.joining import join
from geoflow.policies.observations import Senses, StateTokens
from geoflow.policies.spec import PolicySpec

Goal = tuple[Tensor, Tensor]
"""Points (B, T, point_dim) that a chunk should go on with, and the weight (T,) of each step."""


@dataclass(frozen=True)
class Onward:
    """The chunk that is executed while the next is computed, and that the next should go on with.

    Attributes:
        actions: What is left of it from now on, world frame, shape (n, 7 + k) or (B, n, 7 + k), n up to the horizon.
        delay: Steps of it that will have been executed when the next chunk is there, 0 to n.
        manner: How the next goes on: "guided" is pulled towards it, the nearer a step the more; "given" has its
            first ``delay`` steps as they are, for a policy that was trained so; "joined" has them too, and comes
            back from there to what it would have been; "naive" does not.
        warm_start: None, or the time t_0 at which sampling begins, from this chunk with as much noise as there is
            then. What it does not reach is taken to stay where it ends.
    """

    actions: Tensor
    delay: int
    manner: str = "guided"
    warm_start: float | None = None


class Policy(nn.Module, ABC):
    """A generative model of action chunks given observations.

    Chunks are expressed in a frame (each arm's in its end effector's, or in the world's), positions in units of one
    isotropic length, extras standardised: `geoflow.policies.frames`.
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
        spec = spec.only(config.observations)
        self.config, self.spec = config, spec
        self.arms, self.extras = spec.arms, spec.action_dim - 7 * spec.arms
        self.frames = _checked(config, spec)
        self.pose_space = chunk_space(config.manifold, self.arms, self.extras)
        flat = config.manifold == "Euclidean"
        self.space: Manifold = Euclidean(self.pose_space.feature_dim) if flat else self.pose_space
        T, F, D = config.horizon, self.space.feature_dim, self.space.tangent_dim
        kind = BACKBONES[config.backbone]
        self.takes_tokens, self.invariant = (
            hasattr(kind, "takes_tokens"),
            issubclass(kind, InvariantTransformer),
        )
        cond = self._build_encoders(config.width if self.takes_tokens else config.width // 2)
        self.net = kind(
            horizon=T,
            inputs=F + (CHANNELS if config.given_steps else 0),
            outputs=D,
            cond=cond,
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

    @classmethod
    def cells(cls, config: PolicyConfig, counts: Sequence[int]) -> list[tuple[int, str]]:
        """How it is to be judged: (evaluations, solver), of the ``counts`` asked for, increasing.

        Raises:
            ValueError: it takes none of these counts.
        """
        solver = cls.default_solver(config) if config.solver == "auto" else config.solver
        return [(count, solver) for count in counts]

    @staticmethod
    def times(config: PolicyConfig) -> int:
        """How many times its network takes: 1, or 2 where it jumps from one to the other."""
        return 1

    @abstractmethod
    def chunk_loss(
        self, x_1: Tensor, cond: Tensor | Condition, generator: Generators, given: Given | None = None
    ) -> Tensor:
        """Training loss (B,) of chunks x_1 (B, T, point_dim) of `space`, given what `condition` gives.

        Where steps are ``given``, `network` shows them, and they count as no error.
        """

    @abstractmethod
    def sample_chunk(
        self,
        cond: Tensor | Condition,
        nfe: int,
        solver: str,
        generator: Generators,
        *,
        path: bool = False,
        given: Given | None = None,
    ) -> Tensor:
        """Chunks (B, T, point_dim) of `space`; with ``path`` all states from noise to chunk, stacked in front.

        What they hold at ``given`` steps does not matter.
        """

    # What users and the training loop call.

    def forward(self, batch: Batch, generator: Generators = None) -> Tensor:
        """Training loss of each batch element, shape (B,)."""
        cond = self.condition(batch.obs, generator)
        x_1, most = self.to_space(batch.obs, batch.actions), self.config.given_steps
        if not most:
            return self.chunk_loss(x_1, cond, generator)
        d = delays(len(x_1), most, generator, x_1)
        given = Given.first(self.standardise(self.space.features(x_1)), d)
        return self.chunk_loss(x_1, cond, generator, given)

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
            onward: A chunk that is being executed and that this one should go on with (real-time chunking). In the
                manner "given" its first ``delay`` actions are returned as they are.

        Returns:
            Actions (T, 7 + k), or (B, T, 7 + k) for batched observations: position [m], quaternion wxyz, extras.

        Raises:
            ValueError: an observation is missing or of another shape than the policy was trained on; nfe < 1; a
                chunk to go on with that is longer than the horizon or shorter than the delay, or a policy that
                cannot go on with one.
        """
        batched, single = self.batched(obs)
        # Going on with a chunk takes the network's gradient with respect to its input, which inference mode forbids.
        guided = onward is not None and onward.manner == "guided"
        with torch.no_grad() if guided else torch.inference_mode():
            chunk = self._act(batched, nfe, solver, generator, path=False, onward=onward)
        return chunk[0 if single else slice(None)]

    def check_manner(self, manner: str, delay: int = 0, warm_start: float | None = None) -> None:
        """Raise ValueError where the policy cannot be executed so; see `Onward`."""
        if manner == "guided":
            self.check_onward()
        most = self.config.given_steps
        if manner == "given" and not most:
            raise ValueError(
                "this policy was not trained to go on with given steps: train it with policy.given_steps, or use the "
                "manner naive or guided."
            )
        if manner == "given" and delay > most:
            raise ValueError(
                f"a delay of {delay} steps; this policy was trained to go on with up to policy.given_steps={most}."
            )
        if warm_start is not None:
            self.check_warm_start()

    def check_onward(self) -> None:
        """Raise ValueError where the policy cannot be guided to go on with a chunk."""
        raise ValueError(
            f"a {type(self).__name__} cannot be guided to go on with the chunk that is being executed; a flow policy "
            "can. Use the naive execution, or train with policy.given_steps."
        )

    def check_warm_start(self) -> None:
        """Raise ValueError where sampling cannot begin from a chunk."""
        raise ValueError(f"a {type(self).__name__} cannot begin from the last chunk; a flow policy can.")

    @torch.inference_mode()
    def sample_path(
        self,
        obs: Mapping[str, Any],
        nfe: int | None = None,
        solver: str | None = None,
        generator: Generators = None,
    ) -> Tensor:
        """How noise becomes a chunk: world-frame states, shape (S + 1, T, 7 + k) ((S + 1, B, T, 7 + k) batched)."""
        batched, single = self.batched(obs)
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
        poses, vectors = self._names("pose"), [obs[name].flatten(1) for name in self._names("vector")]
        seen = self._views(obs, poses)
        if self.frames.in_world:
            seen += [obs[name][:, -1] for name in poses]
        upright = [obs[name][:, -1] for name in poses if self.config.gravity]
        return torch.cat([*_stacked(pose_features, seen), *_stacked(height_and_up, upright), *vectors], -1)

    def observation_parts(self, obs: Mapping[str, Tensor]) -> list[Tensor]:
        """`observation_vector` by observation, (B, n) each: poses first, then vectors."""
        parts = []
        for name in self._names("pose"):
            seen = self._views(obs, [name])
            # The invariant transformer is told where poses are in its own way, and nothing else that depends on it.
            if self.frames.in_world and not self.invariant:
                seen.append(obs[name][:, -1])
            upright = [height_and_up(obs[name][:, -1])] if self.config.gravity else []
            alone = [] if seen or upright else [torch.zeros_like(obs[name][:, -1, :1])]
            parts.append(torch.cat([*_stacked(pose_features, seen), *upright, *alone], -1))
        return [*parts, *(obs[name].flatten(1) for name in self._names("vector"))]

    def _views(self, obs: Mapping[str, Tensor], names: Sequence[str]) -> list[Tensor]:
        """Poses (B, 7) seen from the present pose of each of ``names``: the others, then its own past."""
        # Both T_ab and T_ba are shown: which of the two makes a task's law simple depends on the task.
        pairs = []
        for a in names:
            pairs += [(a, obs[b][:, -1]) for b in self._names("pose") if b != a]
            pairs += [(a, past) for past in obs[a][:, :-1].unbind(1)]
        if not pairs:
            return []
        T_wa, T_wb = torch.stack([obs[a][:, -1] for a, _ in pairs]), torch.stack([T for _, T in pairs])
        return list(se3.compose(se3.inverse(T_wa), T_wb))

    def condition(self, obs: Mapping[str, Tensor], generator: Generators = None) -> Tensor | Condition:
        """What the network is told of observations (B, To, ...), once a chunk.

        A vector (B, C) for the MLP and the U-Nets; for transformers tokens, with the keys and values that no step
        changes. Optional observations may be missing.

        Args:
            obs: name -> (B, To, ...).
            generator: In training, draws crops and what is hidden.
        """
        drawn = generator if isinstance(generator, torch.Generator) else None
        seen = {
            name: x if self.spec.kinds.get(name) != "points" else self._local(obs, x)
            for name, x in obs.items()
        }
        if isinstance(self.encoder, StateTokens):
            return self._tokens(obs, self.encoder, self.senses.tokens(seen, drawn))
        state = [] if self.encoder is None else [self.encoder(self.observation_vector(obs))]
        return torch.cat([*state, *self.senses.vectors(seen, drawn)], -1)

    def _tokens(
        self, obs: Mapping[str, Tensor], encoder: StateTokens, sensed: list[tuple[Tensor, Tensor]]
    ) -> Condition:
        """The observation tokens of a transformer: state, then senses."""
        batch = len(next(iter(obs.values())))
        state, there = encoder(self.observation_parts(obs), batch)
        tokens = torch.cat([state, *(tokens for tokens, _ in sensed)], 1)
        mask = torch.cat([there, *(there for _, there in sensed)], 1)
        if not self.invariant:
            if sensed:  # places that no text of the batch reaches cost nothing
                used = mask.any(0)
                tokens, mask = tokens[:, used], mask[:, used]
            return self.net.prepare(Condition(tokens, mask))
        frames = self.length.new_zeros(*mask.shape, 9)
        for i, name in enumerate(self._names("pose")):
            pose = into_frame(self.frames.first(obs, self.length), obs[name][:, -1:])
            pose = torch.cat([pose[..., :3] / self.length, pose[..., 3:]], -1)
            frames[:, 1 + i] = SE3().features(pose)[:, 0]
        frames = torch.where(mask.unsqueeze(-1), frames, 0)  # a pose that is not there is nowhere
        return self.net.prepare(Condition(tokens, mask, frames))

    def _local(self, obs: Mapping[str, Tensor], cloud: Tensor) -> Tensor:
        """Points (B, To, P, 3 + c) of the world, in the frame and unit of the (first arm's) chunk."""
        T_rw = se3.inverse(self.frames.first(obs, self.length)).unsqueeze(-2)
        return torch.cat([se3.act(T_rw, cloud[..., :3]) / self.length, cloud[..., 3:]], -1)

    def to_space(self, obs: Mapping[str, Tensor], actions: Tensor) -> Tensor:
        """World-frame actions (B, T, 7 + k) as points (B, T, point_dim) of `space`: frames, units, features."""
        points = self.units.into(self.frames.into(obs, actions))
        return self.pose_space.features(points) if isinstance(self.space, Euclidean) else points

    def from_space(self, obs: Mapping[str, Tensor], points: Tensor) -> Tensor:
        """The inverse of `to_space`: actions (..., B, T, 7 + k) in the world frame."""
        if isinstance(self.space, Euclidean):
            points = self.pose_space.from_features(points)
        return self.frames.out_of(obs, self.units.out_of(points))

    @property
    def units(self) -> Units:
        """The units of chunks."""
        return Units(self.arms, self.length, self.extras_mean, self.extras_scale)

    def standardise(self, features: Tensor) -> Tensor:
        """Features (B, T, F) of points as the backbone sees them."""
        return (features - self.feature_mean) / self.feature_scale

    def evaluate_network(
        self, features: Tensor, t: Tensor, cond: Tensor | Condition, given: Given | None = None
    ) -> Tensor:
        """The backbone on standardised features: (B, T, F), (B,), what `condition` gives -> (B, T, D)."""
        return self.run_network(self.standardise(features), t, cond, given)

    def run_network(
        self, x: Tensor, t: Tensor, cond: Tensor | Condition, given: Given | None = None
    ) -> Tensor:
        """The backbone on features that are standardised; ``given`` ones are put in their places."""
        return self.net(mark(x, given) if self.config.given_steps else x, t, cond)

    def network(self, given: Given | None = None) -> Network:
        """`evaluate_network`, where steps are ``given``."""
        return self.evaluate_network if given is None else partial(self.evaluate_network, given=given)

    # Statistics.

    @torch.no_grad()
    def fit(self, chunks: Chunks, samples: int = 8192) -> None:
        """Take units, centres and widths from demonstrations; called once, before training."""
        batch = chunks.sample(samples)
        poses, extras = split(self.frames.into(batch.obs, batch.actions), self.arms)
        position = poses[..., :3]
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
        if isinstance(self.encoder, StateTokens):
            self.encoder.fit(self.observation_parts(batch.obs))
        elif self.encoder is not None:
            self.encoder.fit(self.observation_vector(batch.obs))
        self.senses.fit(batch.obs)
        if isinstance(self.net, InvariantTransformer):
            self.net.fit(self.feature_mean, self.feature_scale)

    def begin_from(self, other: Policy) -> None:
        """Take over weights, units, centres and widths of a trained policy, which may lack given steps.

        Raises:
            ValueError: it is of another shape.
        """
        state, own = other.state_dict(), self.state_dict()
        if self.config.given_steps and not other.config.given_steps:
            T, F = self.config.horizon, self.space.feature_dim
            for name in state.keys() & own.keys():
                if state[name].shape != own[name].shape and name.startswith("net."):
                    state[name] = widened(state[name], own[name].shape, T, F)
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip()
            raise ValueError(f"a policy of another shape to begin from ({reason}).") from error

    def _blocks(self, dim: int) -> list[slice]:
        return blocks(dim, self.arms, self.extras)

    def _names(self, kind: str) -> list[str]:
        """Poses, or the vectors that are always there."""
        optional = self.config.optional
        return [name for name, k in self.spec.kinds.items() if k == kind and name not in optional]

    def _build_encoders(self, width: int) -> int:
        """Encoders of state and senses, ``width`` numbers for each; how many numbers the network is told at once."""
        kinds, shapes, To = self.spec.kinds, self.spec.shapes, self.config.observation_steps
        poses, vectors = self._names("pose"), self._names("vector")
        dummy = {name: se3.identity(1, To) for name in poses}
        dummy |= {name: torch.zeros(1, To, *shapes[name]) for name in vectors}
        if self.takes_tokens:
            self.encoder = StateTokens([part.shape[1] for part in self.observation_parts(dummy)], width)
        else:
            dim = self.observation_vector(dummy).shape[1] if dummy else 0
            self.encoder = VectorEncoder(dim, width) if dim else None
        sensed = {name: kind for name, kind in kinds.items() if name not in dummy}
        self.senses = Senses(
            sensed,
            shapes,
            To,
            width,
            self.config.optional,
            self.config.hidden,
            for_tokens=self.takes_tokens,
        )
        return width if self.takes_tokens else (self.encoder is not None) * width + self.senses.vector_dim

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
        nfe = self.cells(self.config, [self.config.nfe])[0][0] if nfe is None else nfe
        if nfe < 1:
            raise ValueError(f"nfe={nfe}; a chunk needs at least 1 network evaluation.")
        cond = self.condition(obs)
        solver = solver or self.config.solver
        solver = self.default_solver(self.config) if solver == "auto" else solver
        if onward is None:
            points = self.sample_chunk(cond, nfe, solver, generator, path=path)
            return self.from_space(obs, points)
        actions = self._under_way(obs, onward)
        points = self.sample_chunk(
            cond, nfe, solver, generator, path=path, **self._known(obs, onward, actions)
        )
        chunk = self.from_space(obs, points)
        if onward.manner == "joined":
            return join(chunk, actions, onward.delay, arms=self.arms)
        if onward.manner == "given":
            chunk[:, : onward.delay] = actions[:, : onward.delay]
        return chunk

    def _known(self, obs: dict[str, Tensor], onward: Onward, actions: Tensor) -> dict[str, Any]:
        """What `sample_chunk` is told of a chunk under way, (B, n, 7 + k), as points in the present frame."""
        self.check_manner(onward.manner, onward.delay, onward.warm_start)
        T, known = self.config.horizon, actions.shape[1]
        weights = soft_mask(T, onward.delay, known).to(actions)
        x = self.to_space(obs, torch.cat([actions, actions[:, -1:].expand(-1, T - known, -1)], dim=1))
        what: dict[str, Any] = {}
        if onward.manner == "guided":
            what["goal"] = x, weights
        if onward.manner == "given":
            mask = torch.arange(T, device=x.device) < onward.delay
            what["given"] = Given(self.standardise(self.space.features(x)), mask.expand(len(x), -1))
        if onward.warm_start is not None:
            what["warm_start"] = x, onward.warm_start
        return what

    def _under_way(self, obs: dict[str, Tensor], onward: Onward) -> Tensor:
        """The actions (B, n, 7 + k) of a chunk under way."""
        actions = onward.actions.to(self.length)
        actions = actions if actions.dim() == 3 else actions.unsqueeze(0)
        T, known = self.config.horizon, actions.shape[1]
        batch = len(next(iter(obs.values())))
        if actions.shape[0] != batch or not 1 <= known <= T or actions.shape[2] != self.spec.action_dim:
            raise ValueError(
                f"the chunk to go on with has shape {tuple(onward.actions.shape)}; expected ({batch}, n, "
                f"{self.spec.action_dim}) with n from 1 to the horizon {T}."
            )
        return actions

    def batched(self, obs: Mapping[str, Any]) -> tuple[dict[str, Tensor], bool]:
        """Observations as (B, To, d) tensors of the policy's dtype and device, and whether they came unbatched."""
        batched, single = {}, False
        To = self.config.observation_steps
        given = [name for name in self.spec.kinds if obs.get(name) is not None]
        self.spec.require(given, self.config.optional)
        for name in given:
            shape = tuple(self.spec.shapes[name])
            x = self._tensor(name, obs[name])
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
        sizes = {name: len(x) for name, x in batched.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"expected as many of each observation, one at least; got {sizes}.")
        absent = {*self.spec.partial} - {*given, *self.config.optional}
        return batched | {name: self._absent(name, max(sizes.values())) for name in absent}, single

    def _absent(self, name: str, batch: int) -> Tensor:
        """What stands for an observation of another task: NaN, or an empty text."""
        text = self.spec.kinds[name] == "text"
        x = self.length.new_full((), 0 if text else torch.nan, dtype=torch.uint8 if text else None)
        return x.expand(batch, self.config.observation_steps, *self.spec.shapes[name])

    def _tensor(self, name: str, x: Any) -> Tensor:
        """An observation on the policy's device: pictures and texts as bytes, the rest in its dtype."""
        kind, shape = self.spec.kinds[name], tuple(self.spec.shapes[name])
        if not isinstance(x, Tensor):
            x = np.asarray(x)
            if kind == "text" and x.dtype.kind == "U":
                codes = [tokenise(str(text), shape[0]) for text in x.ravel()]
                for text in x.ravel():
                    self.spec.check_text(name, str(text))
                codes = torch.stack(codes).reshape(*x.shape, *shape)
                # One text holds for the whole history.
                return (codes if x.ndim else codes.expand(self.config.observation_steps, -1)).to(
                    self.length.device
                )
            if x.dtype.kind not in "fiub":
                raise ValueError(
                    f"observation {name!r} is {x.dtype}; this policy was trained on numbers ({kind})."
                )
            x = torch.as_tensor(x)
        if kind == "image" and shape[-1] == 3 and x.dtype != torch.uint8:
            raise ValueError(
                f"observation {name!r} is {x.dtype} of shape {tuple(x.shape)}; this policy was trained on pictures "
                f"{shape} of bytes, uint8 from 0 to 255."
            )
        code = kind == "text" or (kind == "image" and x.dtype == torch.uint8)
        return x.to(self.length.device) if code else x.to(self.length)


def _stacked(function: Callable[[Tensor], Tensor], rows: list[Tensor]) -> list[Tensor]:
    """``function`` of each of some tensors of one shape, in one call of it."""
    return list(function(torch.stack(rows))) if rows else []


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


def _checked(config: PolicyConfig, spec: PolicySpec) -> Frames:
    """The frames of a chunk; raises ValueError for a config that does not fit the spec."""
    if config.backbone not in BACKBONES:
        raise ValueError(f"policy.backbone={config.backbone!r}; it is one of {', '.join(BACKBONES)}.")
    poses = [name for name, kind in spec.kinds.items() if kind == "pose"]
    frames = Frames.of(config.frame, poses, spec.arms)
    if spec.arms > 1 and issubclass(BACKBONES[config.backbone], InvariantTransformer):
        raise ValueError(
            f"policy.backbone={config.backbone!r} attends from the poses of one arm; these actions have {spec.arms}. "
            "Use transformer, expert, a U-Net or mlp."
        )
    for name, kind in spec.kinds.items():
        if kind != "pose" and kind not in ENCODERS:
            raise ValueError(
                f"observation {name!r} is of the kind {kind!r}; a policy takes pose, {', '.join(ENCODERS)}."
            )
    for name in spec.partial:
        if name in frames.names:
            raise ValueError(
                f"policy.frame={config.frame!r} ({name}) is not observed in all the tasks; name a pose that is, or "
                "world."
            )
        if spec.kinds[name] in ("points", "embedding") and name not in config.optional:
            raise ValueError(
                f"observation {name!r} is not in all the demonstration files; name it in policy.optional, or leave it "
                "out with policy.observations."
            )
    for name in config.optional:
        if name not in spec.kinds or name in poses:
            allowed = [other for other in spec.kinds if other not in poses]
            raise ValueError(
                f"policy.optional names {name!r}; what may be missing is {', '.join(allowed) or 'none here'}, no pose."
            )
    return frames
