"""How a path walks: clocks kappa(t), from 0 to 1 along a curve, and mixtures alpha(t) data + sigma(t) noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Schedule = Callable[[Tensor], tuple[Tensor, Tensor]]
"""t -> (kappa(t), its derivative kappa'(t)), elementwise, such as ``lambda t: (t**3, 3 * t**2)``."""

Mixture = Callable[[Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]
"""t -> (alpha, alpha', sigma, sigma'), elementwise, with t = 0 noise and t = 1 data; sigma counts in the prior."""


@dataclass(frozen=True)
class Linear:
    """kappa = t: constant speed."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """kappa and its derivative at t."""
        return t, torch.ones_like(t)


@dataclass(frozen=True)
class Cosine:
    """kappa = sin^2(pi t / 2): starts and stops at rest."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """kappa and its derivative at t."""
        return torch.sin(0.5 * math.pi * t) ** 2, 0.5 * math.pi * torch.sin(math.pi * t)


@dataclass(frozen=True)
class Power:
    """kappa = t^p, p >= 1: late, most of the way is left to the end."""

    p: float

    def __post_init__(self) -> None:
        if not self.p >= 1:
            raise ValueError(
                f"p={self.p}; below 1 the speed p t^(p-1) is infinite at t = 0. For a path that hurries at the "
                "start use Exponential."
            )

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """kappa and its derivative at t."""
        return t**self.p, self.p * t ** (self.p - 1)


@dataclass(frozen=True)
class Exponential:
    """kappa = (1 - e^(-c t)) / (1 - e^(-c)): early for c > 0, late for c < 0.

    Protein models sample rotations with c = 10 although they train them with kappa = t (Yim et al. 2023,
    FrameFlow); as a clock of the path it is the same in both.
    """

    c: float

    def __post_init__(self) -> None:
        if self.c == 0:
            raise ValueError("c=0 is the limit kappa = t: use Linear().")

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """kappa and its derivative at t."""
        whole = math.expm1(-self.c)
        return torch.expm1(-self.c * t) / whole, -self.c * torch.exp(-self.c * t) / whole


@dataclass(frozen=True)
class CosineVP:
    """alpha = sin(pi t / 2), sigma = cos(pi t / 2): keeps unit variance (Nichol and Dhariwal 2021).

    Their cosine schedule without its offset s; Albergo and Vanden-Eijnden 2023 call it trigonometric.
    """

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """alpha, alpha', sigma, sigma' at t."""
        angle, pace = 0.5 * math.pi * t, 0.5 * math.pi
        alpha, sigma = torch.sin(angle), torch.cos(angle)
        return alpha, pace * sigma, sigma, -pace * alpha


@dataclass(frozen=True)
class LinearVP:
    """alpha = exp(-B / 2), sigma = sqrt(1 - alpha^2), B = integral of a noise rate beta linear in s = 1 - t.

    Song et al. 2021, eq. (32)-(33), which is DDPM's schedule in continuous time. At t = 0 alpha is exp(-5.03) =
    0.0066 for the usual rates. sigma' is infinite at t = 1; it is bounded by taking sigma for at least 1e-3.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max or self._alpha_0() > 0.031:
            raise ValueError(
                f"beta_min={self.beta_min}, beta_max={self.beta_max} leave alpha = {self._alpha_0():.3g} of the data "
                "in the noise; expected 0 < beta_min <= beta_max with a sum of 14 or more, such as 0.1 and 20."
            )

    def _alpha_0(self) -> float:
        return math.exp(-0.25 * (self.beta_min + self.beta_max))

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """alpha, alpha', sigma, sigma' at t."""
        s, growth = 1 - t, self.beta_max - self.beta_min
        B, beta = self.beta_min * s + 0.5 * growth * s * s, self.beta_min + growth * s
        alpha, sigma = torch.exp(-0.5 * B), (-torch.expm1(-B)).sqrt()
        alpha_rate = 0.5 * beta * alpha
        return alpha, alpha_rate, sigma, -alpha * alpha_rate / sigma.clamp(min=1e-3)


@dataclass(frozen=True)
class VE:
    """alpha = 1, sigma = ratio^t: variance exploding (Song et al. 2021, eq. (31)) with ratio = sigma_min / sigma_max.

    Give the prior the width sigma_max, large against the spread of the data; samples keep a noise of sigma_min.
    """

    ratio: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 0.1:
            raise ValueError(f"ratio={self.ratio}; expected sigma_min / sigma_max between 0 and 0.1.")

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """alpha, alpha', sigma, sigma' at t."""
        pace = math.log(self.ratio)
        sigma = torch.exp(pace * t)
        return torch.ones_like(t), torch.zeros_like(t), sigma, pace * sigma


@dataclass(frozen=True)
class CondOT:
    """alpha = t, sigma = 1 - (1 - sigma_min) t: the straight path of Lipman et al. 2023, eq. (20)."""

    sigma_min: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.sigma_min < 0.1:
            raise ValueError(f"sigma_min={self.sigma_min}; expected a part of the prior's width below 0.1.")

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """alpha, alpha', sigma, sigma' at t."""
        pace = 1 - self.sigma_min
        return t, torch.ones_like(t), 1 - pace * t, -pace * torch.ones_like(t)


def check_schedule(schedule: Schedule) -> None:
    """Raise unless kappa runs from 0 to 1 and comes with its own derivative."""
    name = getattr(schedule, "__name__", repr(schedule))
    example = "Cosine() or lambda t: (t**3, 3 * t**2)"
    if not callable(schedule) or isinstance(schedule, type):
        raise TypeError(f"expected a clock t -> (kappa, kappa'), such as {example}; got {schedule!r}.")
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    both = schedule(t)
    if not isinstance(both, tuple) or len(both) != 2:
        raise TypeError(f"the clock {name} gives {type(both).__name__}; expected (kappa, kappa'): {example}.")
    start, end = both[0][0].item(), both[0][-1].item()
    if not max(abs(start), abs(end - 1)) < 1e-6:
        raise ValueError(
            f"the clock {name} runs from kappa(0) = {start:.6g} to kappa(1) = {end:.6g}; a path begins at its "
            "noise and ends at its data, so it must run from 0 to 1: subtract kappa(0), then divide by "
            "kappa(1) - kappa(0)."
        )
    _check_rate(schedule, name, example, 0, "kappa")


def check_mixture(mixture: Mixture) -> None:
    """Raise unless sigma begins with 1, alpha ends with 1 and sigma near 0, and both come with their derivatives."""
    name = getattr(mixture, "__name__", repr(mixture))
    example = "CosineVP() or lambda t: (t, torch.ones_like(t), 1 - t, -torch.ones_like(t))"
    if not callable(mixture) or isinstance(mixture, type):
        raise TypeError(
            f"expected a mixture t -> (alpha, alpha', sigma, sigma'), such as {example}; got {mixture!r}."
        )
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    values = mixture(t)
    if not isinstance(values, tuple) or len(values) != 4:
        raise TypeError(
            f"the mixture {name} gives {type(values).__name__}; expected four tensors: {example}."
        )
    start, end, left = values[2][0].item(), values[0][-1].item(), values[2][-1].item()
    if not (max(abs(start - 1), abs(end - 1)) < 1e-3 and 0 <= left < 0.1):
        raise ValueError(
            f"the mixture {name} has sigma(0) = {start:.6g}, alpha(1) = {end:.6g}, sigma(1) = {left:.6g}; a path "
            "begins at its noise (sigma = 1) and ends at its data (alpha = 1, sigma = 0 or little). The width of the "
            f"noise belongs to the prior. Example: {example}."
        )
    _check_rate(mixture, name, example, 0, "alpha")
    _check_rate(mixture, name, example, 2, "sigma")


def _check_rate(
    function: Callable[[Tensor], tuple[Tensor, ...]], name: str, example: str, i: int, what: str
) -> None:
    """Raise unless entry i + 1 of what ``function`` gives is the derivative of entry i."""
    t, h = torch.linspace(0.1, 0.9, 9, dtype=torch.float64), 1e-5
    slope = (function(t + h)[i] - function(t - h)[i]) / (2 * h)
    rate = function(t)[i + 1]
    if not torch.allclose(rate, slope, rtol=1e-3, atol=1e-3):
        raise ValueError(
            f"{name} gives {what}' = {rate[4].item():.6g} at t = 0.5, but {what} grows there at "
            f"{slope[4].item():.6g}: samples would not walk the path that was trained. Example: {example}."
        )
