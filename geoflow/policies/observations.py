"""What a policy makes of observations that networks cannot take as they are, and of those that are missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geoflow.policies.encoders import ENCODERS, Encoder, ImageEncoder, VectorEncoder


class StateTokens(nn.Module):
    """A token for each pose and vector, and one in front that is always there.

    Args:
        dims: How many numbers each of them comes in.
        width: Channels of a token.
    """

    def __init__(self, dims: Sequence[int], width: int) -> None:
        super().__init__()
        self.front = nn.Parameter(0.02 * torch.randn(width))
        self.encoders = nn.ModuleList(VectorEncoder(dim, width) for dim in dims)

    def fit(self, parts: Sequence[Tensor]) -> None:
        """Take mean and spread from data, (N, dim) each."""
        for part, encoder in zip(parts, self.encoders, strict=True):
            assert isinstance(encoder, VectorEncoder)
            encoder.fit(part)

    def forward(self, parts: Sequence[Tensor], batch: int) -> tuple[Tensor, Tensor]:
        """Embed (B, dim) each, to (B, 1 + len(parts), width), and which are there: one that is all NaN is not."""
        tokens = [encoder(part) for part, encoder in zip(parts, self.encoders, strict=True)]
        tokens = torch.stack([self.front.expand(batch, -1), *tokens], 1)
        there = [tokens.new_ones(batch, dtype=torch.bool), *(~part.isnan().all(-1) for part in parts)]
        return tokens, torch.stack(there, 1)


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
        optional: Names of those that may be missing.
        hidden: How often each of these is hidden in training.
        for_tokens: Whether `tokens` will be asked for, or else `vector`.
        pictures: The encoder of images.

    Raises:
        ValueError: a shape that does not fit the kind.
    """

    def __init__(
        self,
        kinds: Mapping[str, str],
        shapes: Mapping[str, Sequence[int]],
        steps: int,
        width: int,
        optional: Sequence[str],
        hidden: float,
        *,
        for_tokens: bool,
        pictures: type[Encoder] = ImageEncoder,
    ) -> None:
        super().__init__()
        self._names, self._optional, self._hidden = list(kinds), set(optional), hidden
        # In lists, not by name: an observation may be called as no module may.
        self.encoders = nn.ModuleList(
            _made(name, pictures if kind == "image" else ENCODERS[kind], shapes[name], steps, width)
            for name, kind in kinds.items()
        )
        shapes_out = [(encoder.steps, encoder.tokens, encoder.width) for _, encoder in self._each()]
        # Tokens are told apart by what is added to them; one that is missing is masked. A vector has a fixed place,
        # and something stands there when it is missing.
        self.labels = nn.ParameterList(
            nn.Parameter(0.02 * torch.randn(shape)) for shape in shapes_out if for_tokens
        )
        self.stand_ins = nn.ParameterList(
            nn.Parameter(0.02 * torch.randn(S * W))
            for name, (S, _, W) in zip(kinds, shapes_out, strict=True)
            if name in optional and not for_tokens
        )
        self.vector_dim = sum(S * W for S, _, W in shapes_out)
        """Numbers of all vectors together."""
        self.kinds = list(kinds.values())
        self.picture_dim = sum(
            S * W for kind, (S, _, W) in zip(self.kinds, shapes_out, strict=True) if kind == "image"
        )
        """Numbers of the vectors of pictures."""

    def fit(self, obs: Mapping[str, Tensor]) -> None:
        """Take from data, observations (N, To, ...), what is not learned."""
        for name, encoder in self._each():
            if name in obs:
                encoder.fit(obs[name][~_missing(obs[name])])

    def vectors(self, obs: Mapping[str, Tensor], generator: torch.Generator | None) -> list[Tensor]:
        """One vector (B, S * W) for each observation: the mean of each step's tokens."""
        stand_ins, vectors = iter(self.stand_ins), []
        for name, seen in zip(self._names, self._see(obs, generator), strict=True):
            there = seen.mask.unsqueeze(-1)
            vector = (torch.where(there, seen.tokens, 0).sum(2) / there.sum(2)).flatten(1)
            if name in self._optional:
                vector = torch.where(seen.present[:, None], vector, next(stand_ins))
            vectors.append(vector)
        return vectors

    def tokens(
        self, obs: Mapping[str, Tensor], generator: torch.Generator | None
    ) -> list[tuple[Tensor, Tensor]]:
        """Tokens (B, N, W) of each observation, and which are there, (B, N).

        N is the same whatever is missing, but for texts: places that none of the batch reaches cost nothing.
        """
        out = []
        for seen, label, kind in zip(self._see(obs, generator), self.labels, self.kinds, strict=True):
            tokens = (seen.tokens + label).flatten(1, 2)
            mask = (seen.mask & seen.present[:, None, None]).flatten(1, 2)
            if kind == "text":
                used = mask.any(0)
                tokens, mask = tokens[:, used], mask[:, used]
            out.append((tokens, mask))
        return out

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
            if self.training and name in self._optional and self._hidden > 0:
                source = device if generator is None else generator.device
                drawn = torch.rand(batch, generator=generator, device=source).to(device)
                present = drawn >= self._hidden
            x = obs[name]
            if name in self._optional:
                present = present & ~_missing(x)
                x = torch.nan_to_num(x) if x.is_floating_point() else x
            tokens, mask = encoder(x, generator)
            yield Seen(tokens, mask, present)


def _missing(x: Tensor) -> Tensor:
    """Which of B observations are not there: a NaN among its numbers, or an empty text (pictures always are)."""
    if x.is_floating_point():
        return x.flatten(1).isnan().any(1)
    if x.dim() == 3:
        return (x[:, -1] == 0).all(-1)
    return torch.zeros(len(x), dtype=torch.bool, device=x.device)


def _made(name: str, kind: type[Encoder], shape: Sequence[int], steps: int, width: int) -> Encoder:
    try:
        return kind(tuple(shape), steps, width)
    except ValueError as error:
        raise ValueError(f"observation {name!r}: {error}") from error
