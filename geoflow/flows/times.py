"""Which times a flow trains at: t ~ U[0, 1], logit-normal or Beta, stratified over the batch.

Every distribution here is a monotone map of uniform numbers, one in each of B equal intervals and shuffled: a
batch covers its distribution evenly, and the loss of a batch varies less than with independent times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from geoflow.flows.noise import Generators

Times = Callable[[int, Generators, Tensor], Tensor]
"""(batch, generator, like) -> times (B,) in [0, 1], in the dtype and on the device of ``like``."""


def uniform_times(batch: int, generator: Generators, like: Tensor) -> Tensor:
    """Times t ~ U[0, 1), shape (B,), stratified over the batch: one in each of B equal intervals, shuffled."""
    single = generator if isinstance(generator, torch.Generator) else None
    device = single.device if single is not None else like.device
    jitter = torch.rand(batch, generator=single, device=device, dtype=like.dtype)
    order = torch.randperm(batch, generator=single, device=device)
    return ((order + jitter) / batch).to(like.device)


@dataclass(frozen=True)
class LogitNormal:
    """t = sigmoid(mean + std n), n ~ N(0, 1): most times in the middle (Esser et al. 2024, Stable Diffusion 3).

    A positive mean favours data, a negative one noise.
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"std={self.std}; expected a width > 0.")

    def __call__(self, batch: int, generator: Generators, like: Tensor) -> Tensor:
        """Times (B,)."""
        return torch.sigmoid(
            self.mean + self.std * torch.special.ndtri(uniform_times(batch, generator, like))
        )


@dataclass(frozen=True)
class Beta:
    """t ~ Beta(a, b), density ~ t^(a-1) (1-t)^(b-1): Beta(1, 1.5) trains more near noise, as pi0 does.

    Black et al. 2024 (pi0) draw (s - t)/s ~ Beta(1.5, 1) with s = 0.999 and t = 1 the data, as here.
    """

    a: float
    b: float

    def __post_init__(self) -> None:
        if not (self.a > 0 and self.b > 0):
            raise ValueError(f"a={self.a}, b={self.b}; expected both > 0.")

    def __call__(self, batch: int, generator: Generators, like: Tensor) -> Tensor:
        """Times (B,)."""
        from scipy.special import betaincinv  # late: geoflow without it starts faster

        u = uniform_times(batch, generator, like).cpu().double().numpy()
        return torch.as_tensor(betaincinv(self.a, self.b, u)).to(like)
