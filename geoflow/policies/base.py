"""Policy: observation dictionary -> action chunk in the world frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from geoflow.data.chunks import Batch, Chunks
from geoflow.flows.flow import Network
from geoflow.flows.inpainting import soft_mask
from geoflow.flows.noise import Generators
from geoflow.manifolds import Euclidean, Manifold
from geoflow.policies.backbones import BACKBONES, Condition, InvariantTransformer
from geoflow.policies.checks import check_estimated, check_same, check_takes, checked_frames
from geoflow.policies.conditioning import Conditioning
from geoflow.policies.config import PolicyConfig
from geoflow.policies.frames import Units, chunk_space, split
from geoflow.policies.given import CHANNELS, Given, delays, mark, widened
from geoflow.policies.intake import Intake
from geoflow.policies.onward import Onward
from geoflow.policies.spec import PolicySpec
from geoflow.policies.statistics import ChunkStatistics, unit_of_length


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
        given = ("given",) if config.given_steps else ()
        check_takes(type(self).chunk_loss, *given)
        check_takes(type(self).sample_chunk, "path", *given)
        self.arms, self.extras = spec.arms, spec.action_dim - 7 * spec.arms
        self.frames = checked_frames(config, spec)
        self.intake = Intake(spec, config.observation_steps, config.optional)
        self.pose_space = chunk_space(config.manifold, self.arms, self.extras)
        flat = config.manifold == "Euclidean"
        self.space: Manifold = Euclidean(self.pose_space.feature_dim) if flat else self.pose_space
        T, F, D = config.horizon, self.space.feature_dim, self.space.tangent_dim
        kind = BACKBONES[config.backbone]
        self.takes_tokens = hasattr(kind, "takes_tokens")
        self.invariant = issubclass(kind, InvariantTransformer)
        self.conditioning = Conditioning(
            config, spec, self.frames, tokens=self.takes_tokens, places=self.invariant
        )
        self.net = kind(
            horizon=T,
            inputs=F + (CHANNELS if config.given_steps else 0),
            outputs=D,
            cond=self.conditioning.dim,
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
        self,
        x_1: Tensor,
        cond: Tensor | Condition,
        generator: Generators,
        given: Given | None = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """Training loss (B,) of chunks x_1 (B, T, point_dim) of `space`, given what `condition` gives.

        Where steps are ``given``, `network` shows them, and they count as no error, nor do others than ``counts``
        (B, T): see `counted`.
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
        cond, estimates = self._conditioned(batch.obs, generator)
        loss = self._chunk_loss(batch, cond, generator)
        return loss if estimates is None else loss + self.conditioning.estimation_loss(estimates, batch.obs)

    def _chunk_loss(self, batch: Batch, cond: Tensor | Condition, generator: Generators) -> Tensor:
        x_1, most = self.to_space(batch.obs, batch.actions), self.config.given_steps
        counts: dict[str, Any] = {}
        if batch.counts is not None:
            check_takes(type(self).chunk_loss, "counts")
            counts["counts"] = batch.counts
        if not most:
            return self.chunk_loss(x_1, cond, generator, **counts)
        d = delays(len(x_1), most, generator, x_1)
        given = Given.first(self.standardise(self.space.features(x_1)), d)
        return self.chunk_loss(x_1, cond, generator, given, **counts)

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

    def chosen(self, nfe: int | None, solver: str | None) -> tuple[int, str]:
        """Evaluations and solver of a chunk: what a call says, or else the policy's own.

        Raises:
            ValueError: no whole number of evaluations, 1 at least.
        """
        nfe = self.cells(self.config, [self.config.nfe])[0][0] if nfe is None else nfe
        if not isinstance(nfe, Integral) or nfe < 1:
            raise ValueError(
                f"nfe={nfe!r}; a chunk needs at least 1 network evaluation, a whole number of them."
            )
        solver = solver or self.config.solver
        return nfe, self.default_solver(self.config) if solver == "auto" else solver

    def check_manner(self, manner: str, delay: int = 0, warm_start: float | None = None) -> None:
        """Raise ValueError where the policy cannot be executed so; see `Onward`."""
        if manner == "guided":
            self.check_onward()
            check_takes(type(self).sample_chunk, "goal")
        most = self.config.given_steps
        if manner == "given" and not most:
            raise ValueError(
                "this policy was not trained to go on with given steps: train it with policy.given_steps, or use the "
                "manner naive, joined or guided."
            )
        if manner == "given" and delay > most:
            raise ValueError(
                f"a delay of {delay} steps; this policy was trained to go on with up to policy.given_steps={most}."
            )
        if warm_start is not None:
            self.check_warm_start()
            check_takes(type(self).sample_chunk, "warm_start")

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

    @torch.inference_mode()
    def estimates(self, obs: Mapping[str, Any]) -> Tensor:
        """Poses ``policy.estimated`` (B, 2, P, 39) of observations (B, To, d), in the world and in the chunk's frame.

        Raises:
            ValueError: it estimates none.
        """
        estimates = self._conditioned(self.batched(obs)[0])[1]
        if estimates is None:
            raise ValueError("this policy estimates no poses: it was trained without policy.estimated.")
        return estimates

    @property
    def parameter_count(self) -> int:
        """Trained numbers."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    # Frames and units.

    def condition(self, obs: Mapping[str, Tensor], generator: Generators = None) -> Tensor | Condition:
        """What the network is told of observations (B, To, ...), once a chunk.

        A vector (B, C) for the MLP and the U-Nets; for transformers tokens, with the keys and values that no step
        changes. Optional observations may be missing.

        Args:
            obs: name -> (B, To, ...).
            generator: In training, draws crops and what is hidden.
        """
        return self._conditioned(obs, generator)[0]

    def _conditioned(
        self, obs: Mapping[str, Tensor], generator: Generators = None
    ) -> tuple[Tensor | Condition, Tensor | None]:
        """`condition`, and the estimates that are part of it."""
        cond, estimates = self.conditioning(obs, self.length, generator)
        return (self.net.prepare(cond) if isinstance(cond, Condition) else cond), estimates

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
        """Take units, centres and widths from demonstrations; called once, before training.

        Raises:
            ValueError: poses that are to be estimated are not in all of the demonstrations.
        """
        check_estimated(self.config, PolicySpec.of(chunks))
        batch = chunks.sample(samples)
        poses, extras = split(self.frames.into(batch.obs, batch.actions), self.arms)
        self.length.copy_(unit_of_length(poses[..., :3]))
        self.extras_mean.copy_(extras.mean((0, 1)))
        self.extras_scale.copy_(extras.std((0, 1)).clamp(min=1e-2))
        x_1 = self.to_space(batch.obs, batch.actions)
        found = ChunkStatistics.of(self.space, x_1, self.arms, self.extras)
        self.chunk_mean.copy_(found.mean)
        self.chunk_scale.copy_(found.scale)
        self.feature_mean.copy_(found.feature_mean)
        self.feature_scale.copy_(found.feature_scale)
        self.conditioning.fit(batch.obs, self.length)
        if isinstance(self.net, InvariantTransformer):
            self.net.fit(self.feature_mean, self.feature_scale)

    def begin_from(self, other: Policy) -> None:
        """Take over weights, units, centres and widths of a trained policy, which may lack given steps.

        Raises:
            ValueError: it is of another shape, geometry or robot, or sees other things.
        """
        check_same(self.config, self.spec, other.config, other.spec)
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
        nfe, solver = self.chosen(nfe, solver)
        cond = self.condition(obs)
        if onward is None:
            points = self.sample_chunk(cond, nfe, solver, generator, path=path)
            return self.from_space(obs, points)
        actions = onward.batched(len(cond), self.config.horizon, self.spec.action_dim, self.length)
        points = self.sample_chunk(
            cond, nfe, solver, generator, path=path, **self._known(obs, onward, actions)
        )
        chunk = self.from_space(obs, points)
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

    def batched(self, obs: Mapping[str, Any]) -> tuple[dict[str, Tensor], bool]:
        """Observations as (B, To, d) tensors of the policy's dtype and device, and whether they came unbatched."""
        return self.intake.batched(obs, self.length)
