"""IGSO(3) noise of any widths by table: a normal 3-vector eps becomes the rotation vector omega(sigma, eps).

omega has the direction of eps, and its angle is the quantile of IGSO(3) that |eps| is of its own (Maxwell)
distribution, so omega is sigma eps where sigma is small, and Haar where it is large. Every batch element of a
diffusion has its own width, for which the quantiles of `geoflow.lie.densities` take 16 000 evaluations a width; here
they are interpolated.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from geoflow.lie import densities, so3

#: Widths [rad] of the table. Below, IGSO(3) is a Gaussian to 1e-5; above, it is Haar to 1e-15.
NARROWEST, WIDEST = 0.01, 6.0
_WIDTHS, _RADII = 96, 141
_FARTHEST = 7.0


def turns(sigma: Tensor, eps: Tensor) -> Tensor:
    """Rotation vectors omega (..., 3), Exp(omega) ~ IGSO(3) of widths sigma (...), from normal eps (..., 3)."""
    radius = (eps * eps).sum(-1).sqrt().clamp(1e-12, _FARTHEST)
    ratios, _ = _tables(eps.dtype, eps.device)
    row, between_rows = _row(sigma.expand_as(radius))
    place = radius * ((_RADII - 1) / _FARTHEST)
    column = place.long().clamp(max=_RADII - 2)
    between = place - column
    low = torch.lerp(ratios[row, column], ratios[row, column + 1], between)
    high = torch.lerp(ratios[row + 1, column], ratios[row + 1, column + 1], between)
    return (sigma * torch.lerp(low, high, between_rows)).unsqueeze(-1) * eps


def score_rms(sigma: Tensor) -> Tensor:
    """Root mean square (...) of each component of IGSO(3)'s score, widths sigma (...).

    (E|score|^2 / 3)^1/2 with E|score|^2 = int (d log f / d theta)^2 f (1 - cos theta) / pi d theta: 1 / sigma where
    sigma is small, 6^1/2 exp(-sigma^2) where it is large.
    """
    _, scores = _tables(sigma.dtype, sigma.device)
    row, between = _row(sigma)
    return (torch.lerp(scores[row], scores[row + 1], between) - sigma * sigma).exp() / sigma


def _row(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Where widths lie in the table: the row below, and how far to the next."""
    place = (sigma / NARROWEST).log() * ((_WIDTHS - 1) / math.log(WIDEST / NARROWEST))
    place = place.clamp(0, _WIDTHS - 1)
    row = place.long().clamp(max=_WIDTHS - 2)
    return row, place - row


@lru_cache(maxsize=8)
def _tables(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """angle / (sigma |eps|), shape (widths, radii), and log(sigma * score_rms) + sigma^2, shape (widths,)."""
    if dtype != torch.float64 or device.type != "cpu":
        ratios, scores = _tables(torch.float64, torch.device("cpu"))
        return ratios.to(device, dtype), scores.to(device, dtype)
    sigma = torch.logspace(math.log10(NARROWEST), math.log10(WIDEST), _WIDTHS, dtype=torch.float64)
    radius = torch.linspace(0, _FARTHEST, _RADII, dtype=torch.float64)
    share = torch.special.erf(radius / math.sqrt(2)) - math.sqrt(2 / math.pi) * radius * torch.exp(
        -0.5 * radius**2
    )
    angle = torch.cat(
        [densities.igso3_angles(part, share[:, None].expand(-1, len(part))).mT for part in sigma.split(16)]
    )
    ratios = angle / (sigma[:, None] * radius)
    # The first columns are 0 / 0 and nearly so; the ratio is even and smooth there.
    ratios[:, :2] = ratios[:, 2:3]
    return ratios, (sigma * _rms(sigma)).log() + sigma * sigma


def _rms(sigma: Tensor) -> Tensor:
    """score_rms by quadrature, for widths (n,)."""
    # The trapezoidal rule is exact to rounding: the integrand is even at 0 and at pi, or has died out.
    theta = torch.linspace(0, 1, 1001, dtype=sigma.dtype)[:, None] * (12 * sigma).clamp(max=math.pi)
    q = so3.exp(torch.nn.functional.pad(theta.unsqueeze(-1), (0, 2)))
    kernel = densities.IGSO3(sigma)
    weight = (kernel.log_prob(q) + densities.LOG_VOLUME).exp() * (1 - theta.cos()) / math.pi
    return (torch.trapezoid(kernel.score(q).square().sum(-1) * weight, theta, dim=0) / 3).sqrt()
