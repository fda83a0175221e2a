"""c(obs): what a network is told of observations, once a chunk: their state, their senses, and estimated poses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geoflow.data.frames import into_frame
from geoflow.flows.noise import Generators
from geoflow.lie import se3
from geoflow.manifolds import SE3
from geoflow.policies.backbones import Condition
from geoflow.policies.config import PolicyConfig
from geoflow.policies.encoders import PICTURES, VectorEncoder
from geoflow.policies.estimates import Estimator
from geoflow.policies.frames import Frames
from geoflow.policies.observations import Senses, StateTokens
from geoflow.policies.spec import PolicySpec
from geoflow.policies.state import StateFeatures


class Conditioning(nn.Module):
    """Encoders of poses and vectors (the state), of all else that is observed (the senses), and of estimated poses.

    Args:
        config: The choices.
        spec: The task, with the observations that are shown alone.
        frames: From where chunks are seen.
        tokens: Whether the network takes tokens, or else one vector.
        places: Whether it is told where the tokens are; then nothing else that depends on it is told.

    Attributes:
        dim: How many numbers the network is told at once: of a token, or of the vector.

    Raises:
        ValueError: an observation of a shape that does not fit its kind, or nothing to tell.
    """

    def __init__(
        self, config: PolicyConfig, spec: PolicySpec, frames: Frames, *, tokens: bool, places: bool
    ) -> None:
        super().__init__()
        kinds, To, optional = spec.kinds, config.observation_steps, config.optional
        width = config.width if tokens else config.width // 2
        self.frames, self.places, self._points = (
            frames,
            places,
            {n for n, k in kinds.items() if k == "points"},
        )
        self.state = StateFeatures(
            tuple(name for name, kind in kinds.items() if kind == "pose"),
            tuple(name for name, kind in kinds.items() if kind == "vector" and name not in optional),
            world=frames.in_world and not places,
            gravity=config.gravity,
        )
        dummy = {name: se3.identity(1, To) for name in self.state.poses}
        dummy |= {name: torch.zeros(1, To, *spec.shapes[name]) for name in self.state.vectors}
        self.encoder: StateTokens | VectorEncoder | None = None
        if tokens:
            self.encoder = StateTokens([part.shape[1] for part in self.state.parts(dummy)], width)
        elif dummy:
            self.encoder = VectorEncoder(self.state.vector(dummy).shape[1], width)
        self.senses = Senses(
            {name: kind for name, kind in kinds.items() if name not in dummy},
            spec.shapes,
            To,
            width,
            optional,
            config.hidden,
            for_tokens=tokens,
            pictures=PICTURES[config.pictures],
        )
        known = width if tokens else (self.encoder is not None) * width + self.senses.vector_dim
        self.estimator = Estimator(known, config.estimated, width) if config.estimated else None
        self.dim = known
        if self.estimator is not None and not tokens:
            self.dim += width - self.senses.picture_dim

    def forward(
        self, obs: Mapping[str, Tensor], length: Tensor, generator: Generators = None
    ) -> tuple[Tensor | Condition, Tensor | None]:
        """What the network is told of observations (B, To, ...), and the poses (B, 2, P, 39) estimated for it.

        Args:
            obs: name -> (B, To, ...). Optional ones may be missing.
            length: The chunks' unit of length [m], shape ().
            generator: In training, draws crops and what is hidden.

        Returns:
            A vector (B, dim), or tokens as a `Condition`; estimates, or None where nothing is estimated.
        """
        drawn = generator if isinstance(generator, torch.Generator) else None
        seen = {name: self._local(obs, x, length) if name in self._points else x for name, x in obs.items()}
        if isinstance(self.encoder, StateTokens):
            return self._tokens(obs, self.encoder, self.senses.tokens(seen, drawn), length)
        state = [] if self.encoder is None else [self.encoder(self.state.vector(obs))]
        sensed = self.senses.vectors(seen, drawn)
        if self.estimator is None:
            return torch.cat([*state, *sensed], -1), None
        # Pictures reach the network through the estimates alone: it would learn the demonstrated scenes by heart.
        estimates, told = self.estimator(torch.cat([*state, *sensed], -1), self._frame(obs, length))
        return torch.cat([*state, *self._unpictured(sensed), told], -1), estimates

    def estimation_loss(self, estimates: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Error (B,) of ``estimates`` (B, 2, P, 39), from observations that hold what was to be estimated."""
        assert self.estimator is not None
        return self.estimator.loss(estimates, obs, self._frame(obs, estimates))

    @torch.no_grad()
    def fit(self, obs: Mapping[str, Tensor], length: Tensor) -> None:
        """Take from data, observations (N, To, ...), what is not learned: means, spreads."""
        if isinstance(self.encoder, StateTokens):
            self.encoder.fit(self.state.parts(obs))
        elif self.encoder is not None:
            self.encoder.fit(self.state.vector(obs))
        self.senses.fit(obs)
        if self.estimator is not None:
            self.estimator.fit(obs, self._frame(obs, length))

    def _frame(self, obs: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """T_wr of the first arm, (B, 7) or (1, 7)."""
        return self.frames.first(obs, like)[:, 0]

    def _local(self, obs: Mapping[str, Tensor], cloud: Tensor, length: Tensor) -> Tensor:
        """Points (B, To, P, 3 + c) of the world, in the frame and unit of the (first arm's) chunk."""
        T_rw = se3.inverse(self.frames.first(obs, length)).unsqueeze(-2)
        return torch.cat([se3.act(T_rw, cloud[..., :3]) / length, cloud[..., 3:]], -1)

    def _unpictured(self, sensed: list[Any]) -> list[Any]:
        """What the other senses than pictures gave."""
        return [x for x, kind in zip(sensed, self.senses.kinds, strict=True) if kind != "image"]

    def _tokens(
        self,
        obs: Mapping[str, Tensor],
        encoder: StateTokens,
        sensed: list[tuple[Tensor, Tensor]],
        length: Tensor,
    ) -> tuple[Condition, Tensor | None]:
        """The observation tokens of a transformer: state, then senses, then what is estimated."""
        batch = len(next(iter(obs.values())))
        state, there = encoder(self.state.parts(obs), batch)
        tokens = torch.cat([state, *(tokens for tokens, _ in sensed)], 1)
        mask = torch.cat([there, *(there for _, there in sensed)], 1)
        estimates = None
        if self.estimator is not None:
            known = torch.where(mask.unsqueeze(-1), tokens, 0).sum(1) / mask.sum(1, keepdim=True)
            estimates, told = self.estimator(known, self._frame(obs, length))
            kept = [(state, there), *self._unpictured(sensed), (told.unsqueeze(1), there.new_ones(batch, 1))]
            tokens, mask = (torch.cat(parts, 1) for parts in zip(*kept, strict=True))
        if self.places:
            return Condition(tokens, mask, self._where(obs, mask, length)), estimates
        return Condition(tokens, mask), estimates

    def _where(self, obs: Mapping[str, Tensor], mask: Tensor, length: Tensor) -> Tensor:
        """`Condition.frames` (B, N, 9): the poses', in the frame and unit of the chunk; other tokens are nowhere."""
        frames = length.new_zeros(*mask.shape, 9)
        for i, name in enumerate(self.state.poses):
            pose = into_frame(self.frames.first(obs, length), obs[name][:, -1:])
            pose = torch.cat([pose[..., :3] / length, pose[..., 3:]], -1)
            frames[:, 1 + i] = SE3().features(pose)[:, 0]
        return torch.where(mask.unsqueeze(-1), frames, 0)  # a pose that is not there is nowhere
