"""Senses: the encoders of what is neither a pose nor plain numbers, and what stands for a missing observation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geoflow.policies.encoders import ENCODERS, Encoder


@dataclass(frozen=True)
class Seen:
    """What an encoder made of one observation.

    Attributes:
        tokens: (B, S, n, W), n for each of S steps.
        mask: (B, S, n) bool, True where a token is there.
        present: (B,) bool, False where the observation is missing.
    """

    tokens: Tensor
    mask: Tensor
    present: Tensor


class Senses(nn.Module):
    """Pictures, clouds, texts, embeddings and optional vectors, each through an encoder of its own.

    Args:
        kinds: Observation name -> kind, of these observations.
        shapes: Observation name -> shape of one observation.
        steps: To.
        width: W, channels of a token.
        optional: Observation name -> how often it is hidden in training; it may be missing.
        for_tokens: Whether `tokens` will be asked for, or else `vector`.

    Raises:
        ValueError: a shape that does not fit the kind.
    """

    def __init__(
        self,
        kinds: Mapping[str, str],
        shapes: Mapping[str, Sequence[int]],
        steps: int,
        width: int,
        optional: Mapping[str, float],
        *,
        for_tokens: bool,
    ) -> None:
        super().__init__()
        self._names, self._optional = list(kinds), dict(optional)
        # In lists, not by name: an observation may be called as no module may.
        self.encoders = nn.ModuleList(
            _made(name, ENCODERS[kinds[name]], shapes[name], steps, width) for name in kinds
        )
        shapes_out = [(encoder.steps, encoder.tokens, encoder.width) for _, encoder in self._each()]
        # Tokens are told apart by what is added to them; one that is missing is masked. A vector has a fixed place,
        # and something stands there when it is missing.
        self.labels = nn.ParameterList(
            nn.Parameter(0.02 * torch.randn(shape)) for shape in shapes_out if for_tokens
        )
        self.stand_ins = nn.ParameterList(
            nn.Parameter(0.02 * torch.randn(S * W) if name in optional else torch.zeros(0))
            for name, (S, _, W) in zip(kinds, shapes_out, strict=True)
            if not for_tokens
        )
        self.vector_dim = sum(S * W for S, _, W in shapes_out)
        """Numbers of all vectors together."""

    def fit(self, obs: Mapping[str, Tensor]) -> None:
        """Take from data, observations (N, To, ...), what is not learned."""
        for name, encoder in self._each():
            if name in obs:
                encoder.fit(obs[name])

    def vectors(self, obs: Mapping[str, Tensor], generator: torch.Generator | None) -> list[Tensor]:
        """One vector (B, S * W) for each observation: the mean of each step's tokens."""
        vectors = []
        for seen, stand_in in zip(self._see(obs, generator), self.stand_ins, strict=True):
            there = seen.mask.unsqueeze(-1)
            pooled = torch.where(there, seen.tokens, 0).sum(2) / there.sum(2)
            vector = pooled.flatten(1)
            vectors.append(torch.where(seen.present[:, None], vector, stand_in) if len(stand_in) else vector)
        return vectors

    def tokens(
        self, obs: Mapping[str, Tensor], generator: torch.Generator | None
    ) -> list[tuple[Tensor, Tensor]]:
        """Tokens (B, N, W) of each observation, and which are there, (B, N)."""
        return [
            ((seen.tokens + label).flatten(1, 2), (seen.mask & seen.present[:, None, None]).flatten(1, 2))
            for seen, label in zip(self._see(obs, generator), self.labels, strict=True)
        ]

    def _each(self) -> Iterator[tuple[str, Encoder]]:
        for name, encoder in zip(self._names, self.encoders, strict=True):
            assert isinstance(encoder, Encoder)
            yield name, encoder

    def _see(self, obs: Mapping[str, Tensor], generator: torch.Generator | None) -> Iterator[Seen]:
        any_obs = next(iter(obs.values()))
        batch, device = len(any_obs), any_obs.device
        for name, encoder in self._each():
            present = torch.full((batch,), name in obs, device=device)
            if name not in obs:
                shape = (batch, encoder.steps, encoder.tokens)
                tokens = torch.zeros(*shape, encoder.width, device=device)
                yield Seen(tokens, torch.ones(shape, dtype=torch.bool, device=device), present)
                continue
            if self.training and self._optional.get(name):
                source = device if generator is None else generator.device
                drawn = torch.rand(batch, generator=generator, device=source).to(device)
                present = drawn >= self._optional[name]
            tokens, mask = encoder(obs[name], generator)
            yield Seen(tokens, mask, present)


def _made(name: str, kind: type[Encoder], shape: Sequence[int], steps: int, width: int) -> Encoder:
    try:
        return kind(tuple(shape), steps, width)
    except ValueError as error:
        raise ValueError(f"observation {name!r}: {error}") from error
